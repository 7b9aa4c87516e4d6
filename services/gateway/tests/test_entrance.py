"""Ways in: alone and shared, which here are several in one process, each with a protocol that says whose it is."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from ergonaut.errors import Broken, Unavailable
from ergonaut_common.entrance import SharedEntrance, bound, entrance
from ergonaut_gateway.workers.board import Board
from ergonaut_gateway.workers.place import Crowd

PATIENCE_SECONDS = 10.0


class Greeting(asyncio.Protocol):
    """Tells each caller whose connection it is."""

    def __init__(self, worker: "Sharing") -> None:
        self._worker = worker

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._worker.transports.append(transport)
        transport.write(b"%d" % self._worker.row)


@dataclass
class Sharing:
    """One of those who share an entrance."""

    row: int
    way_in: SharedEntrance
    transports: list[asyncio.Transport] = field(default_factory=list)

    async def open(self) -> None:
        await self.way_in.open(lambda: Greeting(self))


@contextlib.asynccontextmanager
async def shared(count: int) -> AsyncIterator[tuple[int, Board, list[Sharing]]]:
    """So many who share a way in, each entered on the board and none of them open yet."""
    board, listener = Board(count), bound("127.0.0.1:0")
    port = listener.getsockname()[1]
    workers = []
    for row in range(count):
        crowd = Crowd(board, row)
        workers.append(Sharing(row, SharedEntrance(listener.dup(), "a test", crowd)))
        crowd.connections = workers[row].transports.__len__
        board.enter(row)
    listener.close()
    try:
        yield port, board, workers
    finally:
        for worker in workers:
            worker.way_in.close()
            for transport in worker.transports:
                transport.abort()


async def greeted(port: int) -> tuple[int, asyncio.StreamWriter]:
    """Connect, and be told by whom."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        return int(await reader.readexactly(1)), writer


async def test_callers_at_once_are_shared_evenly() -> None:
    async with shared(4) as (port, _, workers):
        for worker in workers:
            await worker.open()
        calls = await asyncio.gather(*(greeted(port) for _ in range(32)))
        each = [sum(1 for row, _ in calls if row == worker.row) for worker in workers]
        assert sum(each) == 32
        assert max(each) - min(each) <= 4
        for _, writer in calls:
            writer.close()


async def test_a_caller_is_taken_by_another_where_the_one_with_fewest_does_not_come() -> None:
    async with shared(2) as (port, board, workers):
        board.count(1, 0)
        await workers[0].open()
        calls = [await greeted(port) for _ in range(3)]
        assert [row for row, _ in calls] == [0, 0, 0]
        for _, writer in calls:
            writer.close()


async def test_a_caller_that_nobody_took_yet_is_not_lost_with_one_who_leaves() -> None:
    async with shared(2) as (port, _, workers):
        leaving, staying = workers
        await leaving.open()
        leaving.way_in.close()
        # Nobody looks now: the connection is the kernel's.
        waiting = asyncio.create_task(greeted(port))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await staying.open()
        row, writer = await waiting
        assert row == staying.row
        writer.close()


async def test_callers_are_refused_before_an_entrance_is_open() -> None:
    way_in = entrance("127.0.0.1:0")
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", way_in.port)):
        pass
    way_in.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "no.such.host.invalid:1"])
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises((Broken, Unavailable), match=f"cannot listen on '?{address}"):
        bound(address)


def test_a_taken_address_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unavailable, match=f"cannot listen on {address}"):
            bound(address)


async def test_of_two_who_have_an_address_one_is_told_that_the_other_listens() -> None:
    first = entrance("127.0.0.1:0")
    second = entrance(f"127.0.0.1:{first.port}")
    await first.open(asyncio.Protocol)
    with pytest.raises(Unavailable, match="cannot listen"):
        await second.open(asyncio.Protocol)
    first.close()
    second.close()
