"""What the tests of this service share: the service over fakes, and a NATS server."""

import fcntl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import nats
import pytest

from ergonaut_common.bus import Bus
from ergonaut_common.testing import nats_server
from ergonaut_vectors.domain.warming import warm_up
from ergonaut_vectors.fakes import FakeAnnouncer, FakeCollectionBook, FakeLog, FakeSpares, FakeStores
from ergonaut_vectors.live import Limits, Threads
from ergonaut_vectors.service import Vectors, open_vectors
from ergonaut_vectors.workers import Workers

LIMITS = Limits(collections_max=3, writes_waiting_max=4, wait_seconds=2.0)


class World:
    """The fakes around one service; they outlast it, as NATS outlasts a process."""

    def __init__(self) -> None:
        self.book = FakeCollectionBook()
        self.logs = FakeLog()
        self.stores = FakeStores()
        self.spares = FakeSpares(self.stores)
        self.announced = FakeAnnouncer()

    def aside(self) -> "World":
        """Another machine in this world: of one NATS and one shelf, with a disk of its own."""
        other = World()
        other.book, other.logs, other.spares, other.announced = self.book, self.logs, self.spares, self.announced
        return other

    @asynccontextmanager
    async def running(self, limits: Limits = LIMITS) -> AsyncIterator[Vectors]:
        """A service in this world, from its start to its end."""
        async with (
            Workers("searches", threads=2, waiting_max=64) as searching,
            Workers("logs", threads=1, waiting_max=64) as applying,
            Workers("segments", threads=1, waiting_max=64) as building,
            open_vectors(
                Vectors(self.book, self.logs, self.stores, self.announced, limits),
                Threads(searching, applying, building),
                self.spares,
            ) as vectors,
        ):
            yield vectors


Running = Callable[[], AbstractAsyncContextManager[Vectors]]


@pytest.fixture(scope="session", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile before any test waits for an answer, as the service does before it opens its doors.

    Of processes that run beside each other one compiles, and the others load what it has kept.
    """
    with (tmp_path_factory.getbasetemp().parent / "kernels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        warm_up()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def vectors(world: World) -> AsyncIterator[Vectors]:
    async with world.running() as service:
        yield service


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as url:
        yield url


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    connection = await nats.connect(nats_url)
    yield Bus(connection)
    await connection.close()
