"""Two regions, each with a NATS server of its own and joined by a leaf node: one mirrors the other's collections."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import nats
import numpy as np
import pytest

from ergonaut.errors import Broken, NotFound, Unavailable
from ergonaut_common.bus import Bus
from ergonaut_common.testing import binary, free_port, wait_for_port
from ergonaut_vectors.adapters.announcing import BusAnnouncer
from ergonaut_vectors.adapters.book import BUCKET, KeyValueBook
from ergonaut_vectors.adapters.log import JetStreamLog
from ergonaut_vectors.adapters.mirrors import Mirrors
from ergonaut_vectors.adapters.shard_folders import ShardFolders
from ergonaut_vectors.catalogue import Opened
from ergonaut_vectors.domain.records import Key, Record
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.domain.segments.writes import Upserts
from ergonaut_vectors.live import Limits, Threads
from ergonaut_vectors.service import Vectors, open_vectors
from ergonaut_vectors.workers import Workers

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

LOG_BYTES_MAX = 1_000_000
LIMITS = Limits(collections_max=9, writes_waiting_max=9, wait_seconds=10.0)
SEEN_SECONDS = 30


class Region:
    """A NATS server and a service."""

    def __init__(self, name: str, folder: Path, joins: "Region | None" = None) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.port, self.leaf_port = free_port(), free_port()
        link = f"listen: 127.0.0.1:{self.leaf_port}"
        if joins is not None:
            link = f'remotes: [{{ url: "nats-leaf://127.0.0.1:{joins.leaf_port}" }}]\n  reconnect: 1'
        self.config = self.folder / "nats.conf"
        self.config.write_text(
            f"listen: 127.0.0.1:{self.port}\nserver_name: {name}\n"
            f'jetstream {{ store_dir: "{self.folder / "store"}", domain: {name} }}\nleafnodes {{ {link} }}\n'
        )

    def start(self) -> None:
        log = self.folder / "nats.log"
        with log.open("ab") as output:
            self.server = subprocess.Popen(
                [binary("nats-server"), "-c", str(self.config)], stdout=output, stderr=output
            )
        wait_for_port(self.port, self.server, log)

    def kill(self) -> None:
        self.server.kill()
        self.server.wait()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[Vectors, Bus]]:
        connection = await nats.connect(f"nats://127.0.0.1:{self.port}")
        bus = Bus(connection)
        await bus.ensure_streams("vectors")
        book = KeyValueBook(await bus.key_value(BUCKET))
        stores = ShardFolders(self.folder / "shards")
        vectors = Vectors(book, JetStreamLog(bus.jetstream, LOG_BYTES_MAX), stores, BusAnnouncer(bus), LIMITS)
        async with (
            Workers("searches", threads=1, waiting_max=64) as searching,
            Workers("logs", threads=1, waiting_max=64) as applying,
            Workers("segments", threads=1, waiting_max=64) as building,
            open_vectors(vectors, Threads(searching, applying, building)),
        ):
            yield vectors, bus
        await connection.close()


def upserts(*names: str) -> Upserts:
    return Upserts(names, np.zeros((len(names), 4), np.float32))


async def found(opened: Opened, positions: dict[int, int]) -> set[str]:
    seen = await opened.seen(positions)
    return {each.id for view in seen.views for each in view.get(["a", "b", "c"]) if each is not None}


async def soon(what: Callable[[], object]) -> object:
    async with asyncio.timeout(SEEN_SECONDS):
        while True:
            with contextlib.suppress(NotFound, Unavailable):
                return await what()  # type: ignore[misc]
            await asyncio.sleep(0.1)


class Joined(NamedTuple):
    """Two regions of which the second mirrors the first."""

    home: Region
    vectors: Vectors
    home_bus: Bus
    mirrored: Vectors
    own: KeyValueBook
    """What the second knows of collections."""
    mirrors: Mirrors


@contextlib.asynccontextmanager
async def joined(folder: Path) -> AsyncIterator[Joined]:
    home = Region("home", folder)
    away = Region("away", folder, joins=home)
    with contextlib.ExitStack() as started:
        for region in (home, away):
            region.start()
            started.callback(region.kill)
        async with home.serving() as (vectors, home_bus), away.serving() as (mirrored, bus):
            source = KeyValueBook(await bus.connection.jetstream(domain="home").key_value(BUCKET))
            own = KeyValueBook(await bus.key_value(BUCKET))
            mirrors = Mirrors("home", bus.jetstream, (source, own), LOG_BYTES_MAX)
            yield Joined(home, vectors, home_bus, mirrored, own, mirrors)


async def test_a_region_reads_what_another_writes_writes_there_and_reads_on_when_that_is_away(tmp_path: Path) -> None:
    async with joined(tmp_path) as (home, vectors, _, mirrored, own, mirrors):
        there = await vectors.create("default", Schema("books", 4, shards=2))
        written = dict(await there.write(upserts("a", "b")))
        await soon(mirrors.round)
        here = await mirrored.open("default", "books")
        assert await found(here, written) == {"a", "b"}

        again = dict(await here.write(upserts("c")))
        assert await found(there, again) == {"a", "b", "c"}
        assert [str(each.view.digest) for each in here.states() if each.view] == [
            str(each.view.digest) for each in there.states() if each.view
        ]

        home.kill()
        assert await found(here, again) == {"a", "b", "c"}
        with pytest.raises(Unavailable):
            await here.write(upserts("a"))
        home.start()

        async def dropped() -> None:
            await vectors.drop("default", "books")

        await soon(dropped)
        await soon(mirrors.round)
        assert list(await own.all()) == []


async def test_a_mirror_whose_source_has_forgotten_its_beginning_says_so_and_answers_nothing(tmp_path: Path) -> None:
    async with joined(tmp_path) as (_, vectors, home_bus, mirrored, _, mirrors):
        there = await vectors.create("default", Schema("books", 4))
        await there.write(upserts("a"))
        written = dict(await there.write(upserts("b")))
        await JetStreamLog(home_bus.jetstream, LOG_BYTES_MAX).trim(Key("default", "books"), written[0])
        await vectors.create("default", Schema("empty", 4))
        await soon(mirrors.round)
        assert await found(await mirrored.open("default", "empty"), {}) == set()
        here = await mirrored.open("default", "books")
        for at_least in ({}, written):
            with pytest.raises(Broken, match=r"begins at message 2.*SNAPSHOTS"):
                await found(here, at_least)
        assert await found(there, written) == {"a", "b"}


async def test_what_a_killed_process_began_to_mirror_is_not_taken_for_another_collection_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Record] = []

    async def is_killed(record: Record) -> None:
        begun.append(record)
        raise Unavailable("the process is killed before it has written down what it mirrors")

    async def is_mirrored() -> None:
        if await mirrors._logs.last(Key("default", "books")) is None:
            raise NotFound("nothing is mirrored yet")

    async with joined(tmp_path) as (_, vectors, _, mirrored, own, mirrors):
        await (await vectors.create("default", Schema("books", 4))).write(upserts("a", "b"))
        with monkeypatch.context() as patched:
            patched.setattr(own, "add", is_killed)
            while not begun:
                with contextlib.suppress(Unavailable):
                    await mirrors.round()
        await soon(is_mirrored)
        await vectors.drop("default", "books")
        written = dict(await (await vectors.create("default", Schema("books", 4))).write(upserts("c")))
        await soon(mirrors.round)
        assert await found(await mirrored.open("default", "books"), written) == {"c"}
