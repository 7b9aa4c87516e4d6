"""Collections and what is done with them. The gRPC door calls; `live.py` does the work of one collection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial

from prometheus_client import Counter

from ergonaut.errors import Conflict, NotFound, Refused
from ergonaut.ids import is_name, new_id
from ergonaut_common.observe import get_logger
from ergonaut_vectors.domain.records import Key, Record, Stage
from ergonaut_vectors.domain.schema import (
    Ask,
    Hit,
    Point,
    Schema,
    checked_deletes,
    checked_queries,
    checked_upserts,
)
from ergonaut_vectors.domain.space import Floats
from ergonaut_vectors.live import Limits, LiveCollection
from ergonaut_vectors.ports import Announcer, CollectionBook, Log
from ergonaut_vectors.workers import Workers

QUERIES_AT_ONCE = 32
"""Queries of one request that a thread answers in one go: others get their turn, and a caller who left costs little."""

log = get_logger(__name__)

_queries = Counter(
    "ergonaut_vectors_queries_total", "Queries answered, by whether every vector was compared.", ["exact"]
)


class Vectors:
    """Makes, drops, writes and searches collections. Made by `open_vectors`."""

    def __init__(self, book: CollectionBook, logs: Log, announce: Announcer, limits: Limits) -> None:
        self._book = book
        self._logs = logs
        self._announce = announce
        self._limits = limits
        self._live: dict[Key, LiveCollection] = {}
        self._followers: dict[Key, asyncio.Task[None]] = {}
        # Makings and droppings go one after the other: they are rare, and so no two of one name can meet half-way.
        self._one_by_one = asyncio.Lock()

    async def start(self, tasks: asyncio.TaskGroup, searching: Workers, applying: Workers) -> None:
        """Finish what was begun before a crash, and begin to replay every log."""
        self._tasks = tasks
        self._searching = searching
        self._applying = applying
        for record in await self._book.all():
            try:
                await self._finish(record)
            except Refused as error:
                log.warning("collection was not made", collection=str(record.key), error=str(error))

    def stop(self) -> None:
        """Follow no log any more."""
        for follower in self._followers.values():
            follower.cancel()

    async def create(self, tenant: str, schema: Schema) -> LiveCollection:
        """The collection of this schema, made when there is none. Raises Conflict where its name has another schema."""
        schema.check()
        key = Key(tenant, schema.name)
        async with self._one_by_one:
            record = await self._book.find(key)
            if record is not None and record.stage is Stage.DROPPING:
                await self._finish(record)
                record = None
            if record is None:
                self._check_room(tenant)
                record = Record(key, schema, new_id("collection"), Stage.MAKING)
                await self._book.add(record)
            if record.schema != schema:
                raise Conflict(f"collection {schema.name} exists with another schema: {_told(record.schema)}")
            if key not in self._live:
                await self._finish(record)
            return self._live[key]

    def collections(self, tenant: str) -> Sequence[LiveCollection]:
        """The tenant's collections, by name."""
        return [live for key, live in sorted(self._live.items()) if key.tenant == tenant]

    async def drop(self, tenant: str, name: str) -> None:
        """Remove a collection with all in it; once begun it is finished, at the next start if need be."""
        if not is_name(name):
            raise _no_such(name)
        key = Key(tenant, name)
        async with self._one_by_one:
            record = await self._book.find(key)
            if record is None:
                raise _no_such(name)
            dropping = record.at(Stage.DROPPING)
            await self._book.change(dropping)
            await self._finish(dropping)

    async def upsert(self, tenant: str, name: str, points: Sequence[Point]) -> int:
        """Write vectors, all or none; gives the position from which on they are found."""
        live = self._find(tenant, name)
        batch = await self._searching.run(partial(checked_upserts, live.record.schema, points))
        return await live.write(batch)

    async def delete(self, tenant: str, name: str, ids: Sequence[str]) -> int:
        """Remove vectors; gives the position from which on they are not found."""
        live = self._find(tenant, name)
        return await live.write(checked_deletes(ids))

    async def search(
        self, tenant: str, name: str, queries: Sequence[Floats], ask: Ask, *, sequence_min: int = 0
    ) -> list[list[Hit]]:
        """The nearest to each query, as of a state that holds all up to `sequence_min`."""
        live = self._find(tenant, name)
        matrix = await self._searching.run(partial(checked_queries, live.record.schema, queries))
        await live.wait_for(sequence_min)
        hits: list[list[Hit]] = []
        for first in range(0, len(matrix), QUERIES_AT_ONCE):
            part = matrix[first : first + QUERIES_AT_ONCE]
            hits += await self._searching.run(partial(live.index.search, part, ask))
        _queries.labels(str(ask.exact).lower()).inc(len(matrix))
        return hits

    def _find(self, tenant: str, name: str) -> LiveCollection:
        live = self._live.get(Key(tenant, name))
        if live is None:
            raise _no_such(name)
        return live

    def _check_room(self, tenant: str) -> None:
        if len(self.collections(tenant)) >= self._limits.collections_max:
            message = (
                f"tenant {tenant} has {self._limits.collections_max} collections, the most it may have; drop one first"
            )
            raise Refused(message, field="collection")

    async def _finish(self, record: Record) -> None:
        """Bring a collection to where its record says that it should be; every step may be repeated."""
        if record.stage is Stage.DROPPING:
            await self._close(record.key)
            await self._logs.remove(record.key)
            await self._announce.dropped(record)
            await self._book.remove(record.key)
            log.info("collection dropped", collection=str(record.key))
            return
        if record.stage is Stage.MAKING:
            await self._make(record)
            record = record.at(Stage.READY)
        live = LiveCollection(record, self._logs, self._applying, self._limits)
        await live.open()
        self._live[record.key] = live
        self._followers[record.key] = self._tasks.create_task(live.follow())

    async def _make(self, record: Record) -> None:
        try:
            await self._logs.make(record.key)
        except Refused:
            await self._book.remove(record.key)
            raise
        await self._announce.created(record)
        await self._book.change(record.at(Stage.READY))
        log.info("collection made", collection=str(record.key), schema=_told(record.schema))

    async def _close(self, key: Key) -> None:
        follower = self._followers.pop(key, None)
        if follower is not None:
            follower.cancel()
        live = self._live.pop(key, None)
        if live is not None:
            await live.fail(_no_such(key.name))


@contextlib.asynccontextmanager
async def open_vectors(vectors: Vectors, searching: Workers, applying: Workers) -> AsyncIterator[Vectors]:
    """Let the service work while the block runs; every collection's follower is a task of one group."""
    async with asyncio.TaskGroup() as tasks:
        await vectors.start(tasks, searching, applying)
        try:
            yield vectors
        finally:
            vectors.stop()


def _no_such(name: str) -> NotFound:
    return NotFound(f"collection: there is no collection {name!r}; create it first")


def _told(schema: Schema) -> str:
    build = f"links {schema.links}, candidates_build {schema.candidates_build}"
    return f"dimension {schema.dimension}, metric {schema.metric}, {build}"
