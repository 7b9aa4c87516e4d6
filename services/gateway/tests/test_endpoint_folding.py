"""Figures of processes that are gone: added up, kept in bounds, never lost nor counted twice, whoever dies or comes back when."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.errors import Unavailable
from ergonaut_common.clock import FakeClock
from ergonaut_gateway.domain.endpoints.figures import (
    FOLDED_AT_ONCE_MAX,
    FOLDED_KNOWN_MAX,
    GONE,
    EndpointFigures,
    RouteFigures,
    since,
    summed,
    with_folded,
)
from ergonaut_gateway.fakes import FakeFiguresBook
from ergonaut_gateway.service.endpoint_folding import BEAT_SECONDS, ROUND_SECONDS, SILENT_SECONDS, Folding

from .test_endpoints import BY, Open, Site, another, site, split  # noqa: F401 - fixtures

KEY = ("default", "live")


def figures(process: str, requests: int, revision: int = 1) -> EndpointFigures:
    return EndpointFigures(process, revision, {"champion": RouteFigures(requests=requests, seconds=requests / 2)})


class Town:
    """A book, and one who looks after it."""

    def __init__(self) -> None:
        self.book = FakeFiguresBook()
        self.clock = FakeClock()
        self.revision: int | None = 1
        self.folding = self.another()

    def another(self) -> Folding:
        return Folding(self.book, self.clock, lambda *_: self.revision)

    async def tell(self, *told: EndpointFigures) -> None:
        for each in told:
            await self.book.tell(*KEY, each)

    async def rounds(self, seconds: float) -> None:
        """So much time, with a look each round; what is read is the same throughout."""
        before = await self.requests()
        for _ in range(int(seconds / ROUND_SECONDS) + 1):
            await self.clock.advance(ROUND_SECONDS)
            await self.folding.fold()
            assert await self.requests() == before

    async def requests(self) -> int:
        return summed(await self.book.told(*KEY), 1).get("champion", RouteFigures()).requests

    async def kept(self) -> set[str]:
        return {each.process for each in await self.book.told(*KEY)}


@pytest.fixture
def town() -> Town:
    return Town()


async def test_what_processes_that_are_gone_counted_is_kept_in_one_sum(town: Town) -> None:
    await town.tell(*(figures(f"p-{number}", number) for number in range(1, 6)))
    await town.rounds(SILENT_SECONDS + 2 * ROUND_SECONDS)
    assert await town.kept() == {GONE}
    assert await town.requests() == 15


async def test_one_that_tells_again_is_not_gone(town: Town) -> None:
    for _ in range(20):
        await town.tell(figures("p-1", 3))
        await town.rounds(BEAT_SECONDS)
    assert await town.kept() == {"p-1"}


async def test_who_has_just_begun_to_look_takes_nobody_for_gone(town: Town) -> None:
    await town.tell(figures("p-1", 3))
    await town.rounds(SILENT_SECONDS - 2 * ROUND_SECONDS)
    town.folding = town.another()
    await town.rounds(SILENT_SECONDS - 2 * ROUND_SECONDS)
    assert await town.kept() == {"p-1"}


async def test_figures_of_earlier_revisions_and_of_endpoints_that_are_gone_are_dropped(town: Town) -> None:
    await town.tell(figures("p-1", 3), figures("p-2", 4, revision=2))
    await town.rounds(SILENT_SECONDS + 2 * ROUND_SECONDS)
    town.revision = 2
    for _ in range(30):
        await town.clock.advance(ROUND_SECONDS)
        await town.folding.fold()
    [left] = await town.book.told(*KEY)
    assert (left.process, left.revision, left.routes["champion"].requests) == (GONE, 2, 4)
    town.revision = None
    for _ in range(30):
        await town.clock.advance(ROUND_SECONDS)
        await town.folding.fold()
    assert await town.book.told(*KEY) == []


async def test_figures_of_a_revision_that_is_not_heard_of_yet_are_left_alone(town: Town) -> None:
    await town.tell(figures("p-1", 3, revision=2))
    await town.rounds(2 * SILENT_SECONDS)
    assert await town.kept() == {"p-1"}


async def test_two_who_look_after_the_book_at_once_change_nothing(town: Town) -> None:
    await town.tell(*(figures(f"p-{number}", number) for number in range(1, 6)))
    other = town.another()
    for _ in range(30):
        await town.clock.advance(ROUND_SECONDS)
        for folding in (town.folding, other):
            await folding.fold()
            assert await town.requests() == 15
    assert await town.kept() == {GONE}


async def test_one_that_dies_between_any_two_writes_leaves_what_the_next_can_go_on_from(town: Town) -> None:
    await town.tell(figures("p-1", 3), figures("p-2", 4))
    writes = 0

    def dying_after(count: int) -> Callable[..., object]:
        async def write(*given: object, **named: object) -> None:
            nonlocal writes
            writes += 1
            if writes > count:
                raise Unavailable("it was killed")
            await original(*given, **named)  # type: ignore[arg-type]

        return write

    original = town.book.forget
    for count in range(3):
        writes = 0
        town.book.forget = dying_after(count)  # type: ignore[method-assign, assignment]
        town.folding = town.another()
        for _ in range(30):
            await town.clock.advance(ROUND_SECONDS)
            try:
                await town.folding.fold()
            except Unavailable:
                break
            finally:
                assert await town.requests() == 7
    town.book.forget = original  # type: ignore[method-assign]
    town.folding = town.another()
    await town.rounds(2 * SILENT_SECONDS)
    assert await town.kept() == {GONE}


async def test_a_process_that_was_taken_for_gone_goes_on_where_the_sum_ends(site: Site, another: Open) -> None:  # noqa: F811
    await site.endpoints.apply("default", split(100, 0), BY)
    second = another("p-2")
    await second.gateway.catalogue.load_all()
    await second.endpoints.load_all()
    for _ in range(3):
        await second.ask()
    await second.endpoints.tell_figures()
    clock, folding = site.gateway.clock, site.endpoints._folding
    for _ in range(30):
        await clock.advance(ROUND_SECONDS)
        await folding.fold()
        assert (await site.counted())["champion"].requests == 3
    for asked in (4, 5):
        await second.ask()
        await second.endpoints.tell_figures()
        assert (await site.counted())["champion"].requests == asked
    # It may happen to it again.
    for _ in range(30):
        await clock.advance(ROUND_SECONDS)
        await folding.fold()
        assert (await site.counted())["champion"].requests == 5
    await second.ask()
    await second.endpoints.tell_figures()
    assert (await site.counted())["champion"].requests == 6


async def test_what_could_not_be_told_is_told_later(site: Site) -> None:  # noqa: F811
    await site.endpoints.apply("default", split(100, 0), BY)
    await site.ask()
    book = site.endpoints._world.figures
    assert isinstance(book, FakeFiguresBook)
    book.away = True
    await site.endpoints.tell_figures()
    book.away = False
    await site.endpoints.tell_figures()
    [told] = await book.told("default", "digits-live")
    assert told.routes["champion"].requests == 1


@given(st.lists(st.integers(0, 50), min_size=1, max_size=3 * FOLDED_KNOWN_MAX))
def test_sums_hold_all_that_was_counted_and_remember_so_many_only(counts: list[int]) -> None:
    gone: EndpointFigures | None = None
    dead = [figures(f"p-{number}", each) for number, each in enumerate(counts)]
    while dead:
        gone = with_folded(gone, dead, 1, there={each.process for each in dead})
        dead = [each for each in dead if each.process not in gone.folded]
        assert summed([gone, *dead], 1)["champion"].requests == sum(counts)
        assert len(gone.folded) <= FOLDED_KNOWN_MAX + FOLDED_AT_ONCE_MAX


@given(st.lists(st.integers(0, 9), min_size=2, max_size=9))
def test_what_was_counted_since_is_the_rest(counts: list[int]) -> None:
    rising = sorted(counts)
    for before, after in pairwise(rising):
        left = since(figures("p", after).routes, figures("p", before).routes)
        assert left["champion"] == RouteFigures(requests=after - before, seconds=(after - before) / 2)
