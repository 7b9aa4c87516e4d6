"""What one worker changes, all have before it is told to be done."""

import asyncio
from dataclasses import replace

import pytest

from ergonaut_gateway.domain.models import Model
from ergonaut_gateway.fakes import FakeModelRegistry, FakePipelineBook
from ergonaut_gateway.workers import neighbours
from ergonaut_gateway.workers.board import Board, Kept
from ergonaut_gateway.workers.neighbours import NeighbourlyPipelineBook, NeighbourlyRegistry, Neighbours

from .test_pipeline_contracts import RECORD


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    made = Board(3)
    made.enter(0)
    made.enter(1)
    # Whoever is waited for is waited for, however slow the machine.
    monkeypatch.setattr(neighbours, "PATIENCE_SECONDS", 600)
    return made


def by(board: Board, row: int, registry: FakeModelRegistry) -> NeighbourlyRegistry:
    return NeighbourlyRegistry(registry, Neighbours(board, row))


async def test_a_change_is_made_once_the_other_worker_has_applied_it(board: Board) -> None:
    registry = FakeModelRegistry()
    one, two = by(board, 0, registry), by(board, 1, registry)
    putting = asyncio.create_task(one.put(Model("default", "digits"), revision=0))
    seen = two.changes(seconds=10)
    entry = await anext(seen)
    await asyncio.sleep(0.05)
    assert not putting.done(), "the other worker has the change, and has not applied it yet"
    following = asyncio.ensure_future(anext(seen))
    assert (await asyncio.wait_for(putting, 5)).revision == entry.revision
    following.cancel()


async def test_pipelines_are_counted_by_themselves(board: Board) -> None:
    book = FakePipelineBook()
    one, two = (NeighbourlyPipelineBook(book, Neighbours(board, row, Kept.PIPELINES)) for row in range(2))
    Neighbours(board, 1).applied(1_000)
    putting = asyncio.create_task(one.put(RECORD, revision=0))
    seen = two.changes(seconds=10)
    entry = await anext(seen)
    assert not putting.done()
    following = asyncio.ensure_future(anext(seen))
    assert await asyncio.wait_for(putting, 5) == entry
    following.cancel()


async def test_a_worker_that_takes_no_callers_is_not_waited_for(board: Board) -> None:
    board.leave(1)
    registry = FakeModelRegistry()
    entry = await asyncio.wait_for(by(board, 0, registry).put(Model("default", "digits"), revision=0), 60)
    assert entry.revision > 0


async def test_a_worker_that_is_late_is_waited_for_no_longer_than_that(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "PATIENCE_SECONDS", 0.05)
    registry = by(board, 0, FakeModelRegistry())
    entry = await asyncio.wait_for(registry.put(Model("default", "digits"), revision=0), 60)
    assert await registry.get("default", "digits") == replace(entry)
    assert await registry.entries() == [entry]


def test_the_board_tells_who_has_fewer_connections_of_those_who_take_callers(board: Board) -> None:
    board.count(0, 3)
    board.count(1, 2)
    assert board.gives_way(0)
    assert not board.gives_way(1)
    board.leave(1)
    assert not board.gives_way(0)


def test_what_a_worker_applied_before_it_took_callers_counts(board: Board) -> None:
    board.begin(2)
    board.applied(2, 4)
    board.enter(2)
    board.applied(1, 4)
    assert board.all_applied(0, 4)


def test_a_new_worker_on_the_row_of_one_that_died_has_applied_nothing(board: Board) -> None:
    board.applied(1, 4)
    board.count(1, 9)
    board.leave(1)
    board.begin(1)
    board.enter(1)
    assert not board.all_applied(0, 4)
    assert not board.gives_way(0)


def test_what_a_worker_has_applied_never_goes_back(board: Board) -> None:
    board.applied(1, 7)
    board.applied(1, 5)
    assert board.all_applied(0, 7)
    assert not board.all_applied(0, 8)
