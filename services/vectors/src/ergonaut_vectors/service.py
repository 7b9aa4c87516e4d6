"""Makes, opens and drops collections; what is done with one is `opened.py`'s. Fills `catalogue.Catalogue`; the doors call."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

from ergonaut.errors import Conflict, ErgonautError, NotFound, Refused, Unavailable
from ergonaut.ids import is_name, new_id
from ergonaut_common.lifetimes import stopped
from ergonaut_common.observe import get_logger
from ergonaut_vectors.domain.batches import Batch, messages_of
from ergonaut_vectors.domain.records import Begin, Key, Record, Stage
from ergonaut_vectors.domain.schema import IndexWish, Schema
from ergonaut_vectors.domain.segments.writes import Deletes
from ergonaut_vectors.domain.trimming import is_small
from ergonaut_vectors.live import Around, Limits, Threads
from ergonaut_vectors.opened import Collection
from ergonaut_vectors.opening import Opening
from ergonaut_vectors.ports import Announcer, CollectionBook, Log, LogMessage, Spares, Stores

OPENED_AT_START_MAX = 32
"""Shards that are opened at the start, those that were saved last: whoever used them before will ask for them soon. The
others are opened when they are asked for, for ten thousand small ones would take minutes."""

LOOK_AGAIN_SECONDS = 1.0
"""Pause before a record is looked at again that could not be read when it was told to have changed."""

DROPPED_LOOKS_MAX = 30
DROPPED_LOOK_SECONDS = 0.1
"""How often, and with what pauses, it is looked whether the one before of a name has been dropped by now: two processes that
drop it and make it anew at once would get into each other's way. Who drops takes a tenth of a second, unless it has died."""

log = get_logger(__name__)


class Vectors:
    """The collections of all tenants. Made by `open_vectors`."""

    def __init__(self, book: CollectionBook, logs: Log, stores: Stores, announce: Announcer, limits: Limits) -> None:
        self._book = book
        self._logs = logs
        self._stores = stores
        self._announce = announce
        self._limits = limits
        # By tenant and name: what a tenant is asked must not grow with how many others there are.
        self._collections: dict[str, dict[str, Collection]] = {}
        # Makings and droppings go one after the other: they are rare, and so no two of one name can meet half-way.
        self._one_by_one = asyncio.Lock()
        self._droppings: set[asyncio.Task[None]] = set()
        self.gone: Callable[[Record], Awaitable[None]] = _nobody_told
        """Told which collection is no more, whoever dropped it."""

    async def start(self, tasks: asyncio.TaskGroup, threads: Threads, spares: Spares | None = None) -> None:
        """Finish what was begun before a crash, and open what was used last."""
        self._spares = spares
        self.opening = Opening(Around(self._logs, threads, self._limits, spares), self._stores, tasks)
        self._following: asyncio.Task[None] | None = None
        for record in await self._book.all():
            try:
                await self._finish(record)
            except (Refused, NotFound, Conflict) as error:
                # There is no room for it, or another process has dropped it or made it anew at this moment.
                log.warning("collection was not made", collection=str(record.key), error=str(error))
        stores = {
            collection.record.store_of(number): (collection.record, number)
            for tenant in self._collections.values()
            for collection in tenant.values()
            for number in range(len(collection.record.shards))
        }
        await asyncio.to_thread(self._stores.retain, stores)
        for name in await asyncio.to_thread(self._stores.recent, OPENED_AT_START_MAX):
            self.opening.shard(*stores[name])
        self._following = tasks.create_task(self._follow())

    async def stop(self) -> None:
        """Follow no log any more, nor the book."""
        self.opening.stop()
        if self._following is not None:
            await stopped(self._following)
        for dropping in list(self._droppings):
            await stopped(dropping)

    async def create(self, tenant: str, schema: Schema) -> Collection:
        """The collection of this schema, made when there is none. Raises Conflict where its name has another schema."""
        schema.check()
        key = Key(tenant, schema.name)
        await self._dropped(key)
        async with self._one_by_one:
            record = await self._book.find(key)
            if record is not None and record.stage is Stage.DROPPING:
                await self._finish(record)
                record = None
            if record is None:
                self._check_room(tenant)
                record = Record(key, schema, new_id("collection"), Stage.MAKING)
                await self._book.add(record)
            if otherwise := record.schema.otherwise(schema):
                raise Conflict(f"collection {schema.name} exists with another schema: {otherwise}")
            collection = self._known(key)
            if collection is not None and collection.record.uid != record.uid:
                await self._let_go(collection.record)
                collection = None
            return collection or await self._finished(record)

    async def revive(self, record: Record) -> Collection:
        """A new collection whose shards go on from states on the shelf. Raises Conflict where there is one of its name.

        A process that dies in between leaves a record that the next start finishes.
        """
        async with self._one_by_one:
            self._check_room(record.key.tenant)
            await self._book.add(record)
            return await self._finished(record)

    async def take_over(self, record: Record) -> None:
        """Have a collection with a shard more, which goes on from a state that is on the shelf; what is so already stays.

        Raises Conflict where another process changed the collection at that moment."""
        async with self._one_by_one:
            now = await self._found(record.key.tenant, record.key.name)
            if now.uid != record.uid or now.stage is not Stage.READY:
                raise _no_such(record.key.name)
            if len(now.shards) < len(record.shards):
                before, now = now, replace(now, begins=record.begins, splits=record.splits)
                await self._book.change(now, before)
            await self._taken(now)
        with self.opening.used(now, len(record.shards) - 1) as live:
            await live.wait_for(0)

    def all(self, tenant: str) -> Sequence[Collection]:
        """The tenant's collections, by name."""
        return [collection for _, collection in sorted(self._collections.get(tenant, {}).items())]

    async def open(self, tenant: str, name: str) -> Collection:
        """A collection. Raises NotFound."""
        key = Key(tenant, name)
        collection = self._known(key)
        if collection is None:
            # Another node may have made it.
            if is_name(name):
                await self.look(key)
            collection = self._known(key)
            if collection is None:
                raise _no_such(name)
        return collection

    async def drop(self, tenant: str, name: str) -> None:
        """Remove a collection with all in it; once begun it is finished, also where the caller leaves, or at the next start."""
        dropping = asyncio.create_task(self._drop(tenant, name))
        self._droppings.add(dropping)
        dropping.add_done_callback(self._ended)
        await asyncio.shield(dropping)

    async def _drop(self, tenant: str, name: str) -> None:
        async with self._one_by_one:
            record = await self._found(tenant, name)
            dropping = record.at(Stage.DROPPING)
            await self._book.change(dropping, record)
            await self._finish(dropping)

    def _ended(self, dropping: asyncio.Task[None]) -> None:
        self._droppings.discard(dropping)
        error = None if dropping.cancelled() else dropping.exception()
        if error is not None and not isinstance(error, NotFound):
            # Who asked for it may have left.
            log.warning("collection was not dropped", error=str(error))

    async def set_index(self, tenant: str, name: str, wish: IndexWish) -> Collection:
        """Wish for another index from now on. Raises NotFound."""
        wish.check()
        async with self._one_by_one:
            before = await self._found(tenant, name)
            record = replace(before, schema=replace(before.schema, index=wish))
            await self._book.change(record, before)
            return await self._taken(record)

    async def look(self, key: Key) -> None:
        """Have a collection as the book has it now: another process may have changed, dropped or made it anew."""
        async with self._one_by_one:
            record, known = await self._book.find(key), self._known(key)
            if known is not None and (
                record is None or record.uid != known.record.uid or record.stage is Stage.DROPPING
            ):
                await self._let_go(known.record)
            if record is not None and record.stage is Stage.READY:
                await self._taken(record)

    async def _follow(self) -> None:
        """Take note of what other processes do to collections, for ever."""
        async with contextlib.aclosing(self._book.changes()) as changes:  # type: ignore[type-var]
            async for key, record in changes:
                known = self._known(key)
                if record != (known.record if known else None):
                    await self._looked(key)

    async def _looked(self, key: Key) -> None:
        """Look, for as long as the book does not answer: what was told may be old by now, so it is read when it is due."""
        while True:
            try:
                await self.look(key)
                return
            except Unavailable as error:
                log.warning("collection not looked at yet", collection=str(key), error=str(error))
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            except ErgonautError as error:
                # What is wrong with one collection keeps nobody from hearing of the others.
                log.error("collection not looked at", collection=str(key), error=str(error))
                return

    async def _taken(self, record: Record) -> Collection:
        """The collection as this record has it, from now on."""
        known = self._known(record.key)
        if record.splits and (known is None or known.record.splits != record.splits):
            # Whoever wrote that down makes their logs at this moment, or has died before.
            await self._make_logs(record)
        collection = self._kept(record)
        collection.record = record
        for key in record.shards:
            live = self.opening.found(key)
            if live is not None and live.schema != record.schema:
                await live.aim(record.schema)
        return collection

    async def _found(self, tenant: str, name: str) -> Record:
        record = await self._book.find(Key(tenant, name)) if is_name(name) else None
        if record is None:
            raise _no_such(name)
        return record

    async def _dropped(self, key: Key) -> None:
        """Return when nobody drops a collection, or has taken so long for it that this process had better end it."""
        for _ in range(DROPPED_LOOKS_MAX):
            record = await self._book.find(key)
            if record is None or record.stage is not Stage.DROPPING:
                return
            await asyncio.sleep(DROPPED_LOOK_SECONDS)

    def _check_room(self, tenant: str) -> None:
        if len(self._collections.get(tenant, ())) >= self._limits.collections_max:
            message = (
                f"tenant {tenant} has {self._limits.collections_max} collections, the most it may have; drop one first"
            )
            raise Refused(message, field="collection")

    def _known(self, key: Key) -> Collection | None:
        return self._collections.get(key.tenant, {}).get(key.name)

    def _kept(self, record: Record) -> Collection:
        """The collection of a record, known from now on."""
        of_tenant = self._collections.setdefault(record.key.tenant, {})
        return of_tenant.setdefault(record.key.name, Collection(record, self.opening))

    async def _finish(self, record: Record) -> None:
        """Bring a collection to where its record says that it should be; every step may be repeated."""
        if record.stage is Stage.DROPPING:
            await self._remove(record)
        else:
            await self._finished(record)

    async def _finished(self, record: Record) -> Collection:
        if record.stage is Stage.MAKING:
            await self._make(record)
            record = record.at(Stage.READY)
        elif record.splits:
            # Whoever wrote down the last one may have died before its log was made.
            await self._make_logs(record)
        return self._kept(record)

    async def _make(self, record: Record) -> None:
        try:
            await self._make_logs(record)
        except Refused:
            for key in record.shards:
                await self._logs.remove(key, owner=record.uid)
            await self._book.remove(record)
            raise
        await self._announce.created(record)
        await self._book.change(record.at(Stage.READY), record)
        log.info("collection made", collection=str(record.key), schema=_told(record.schema))

    async def _make_logs(self, record: Record) -> None:
        begins = {begin.shard: begin for begin in record.begins}
        for number, key in enumerate(record.shards):
            await self._make_log(record, key, _first_message(begins.get(number)))

    async def _make_log(self, record: Record, key: Key, first: LogMessage | None) -> None:
        try:
            await self._logs.make(key, first, owner=record.uid)
        except Conflict:
            now = await self._book.find(record.key)
            if now is None or now.uid != record.uid:
                # This collection was dropped at this moment, and its name is another one's.
                raise _no_such(record.key.name) from None
            # Left by one of this name that was being dropped while its log was made.
            await self._logs.remove(key)
            await self._logs.make(key, first, owner=record.uid)

    async def _remove(self, record: Record) -> None:
        async def with_log(key: Key) -> None:
            await self._forget_spares(record, key)
            await self._logs.remove(key, owner=record.uid)

        await self._let_go(record, with_log)
        await self._announce.dropped(record)
        await self._book.remove(record)
        log.info("collection dropped", collection=str(record.key))

    async def _let_go(self, record: Record, beside: Callable[[Key], Awaitable[None]] | None = None) -> None:
        """Have nothing of a collection any more in this process and on this machine."""
        of_tenant = self._collections.get(record.key.tenant, {})
        of_tenant.pop(record.key.name, None)
        if not of_tenant:
            self._collections.pop(record.key.tenant, None)
        await self.gone(record)
        for number, key in enumerate(record.shards):
            async with self.opening.closed(key, _no_such(key.name)):
                self.opening.forget_count(key)
                if beside is not None:
                    await beside(key)
                await asyncio.to_thread(self._stores.remove, record.store_of(number))

    async def _forget_spares(self, record: Record, key: Key) -> None:
        """Have nothing on the shelf any more of a shard whose log was ever large enough for that."""
        if self._spares is None:
            return
        try:
            extent = await self._logs.extent(key)
            if not is_small(extent.first, extent.size_bytes, self._limits.log_bytes_max):
                await self._spares.forget(record)
        except NotFound:
            return
        except Unavailable as error:
            # A shelf that is away keeps no collection from being dropped, nor this service from its start.
            log.warning("states stay on the shelf", collection=str(record.key), uid=record.uid, error=str(error))


@contextlib.asynccontextmanager
async def open_vectors(vectors: Vectors, threads: Threads, spares: Spares | None = None) -> AsyncIterator[Vectors]:
    """Let the service work while the block runs; every open shard is a task of one group."""
    async with asyncio.TaskGroup() as tasks:
        await vectors.start(tasks, threads, spares)
        try:
            yield vectors
        finally:
            await vectors.stop()


def _first_message(begin: Begin | None) -> LogMessage | None:
    """What a log begins with that goes on from a state: a batch of nothing that follows the last message in it."""
    if begin is None:
        return None
    [content] = messages_of(Batch(Deletes([])), bytes.fromhex(begin.digest))
    return LogMessage(begin.position + 1, content)


async def _nobody_told(_record: Record) -> None:
    """Of what is gone."""


def _no_such(name: str) -> NotFound:
    return NotFound(f"collection: there is no collection {name!r}; create it first")


def _told(schema: Schema) -> str:
    build = f"links {schema.links}, candidates_build {schema.candidates_build}"
    return f"dimension {schema.dimension}, metric {schema.metric}, {build}"
