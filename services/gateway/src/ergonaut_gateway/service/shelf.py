"""Records that are changed by compare-and-set and told by events: what endpoints and pipelines do alike. A record says whether
its newest change was told; what a process that died did not come to tell is told by whoever looks next."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from ergonaut.errors import Broken, Conflict, ErgonautError, NotFound, Unavailable
from ergonaut.events import Event
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.revisions import Revised
from ergonaut_gateway.ports import Announcer, Records

CLAIMS_MAX = 8
"""How often a change is tried; each failure means that another change of the same record got through."""

WATCH_PAUSE_SECONDS = 1.0
"""How long to wait before records are watched again after a failure."""

log = get_logger(__name__)
RecordT = TypeVar("RecordT", bound=Revised)
Record_co = TypeVar("Record_co", bound=Revised, covariant=True)


class Entry(Protocol[Record_co]):
    """A record and the revision under which it is kept."""

    @property
    def record(self) -> Record_co: ...
    @property
    def revision(self) -> int: ...


EntryT = TypeVar("EntryT", bound=Entry[Any])


class Shelf(Generic[RecordT, EntryT]):
    """Records of one kind. `hold` is given each entry that this process is to serve by; one that is old must change nothing."""

    def __init__(
        self,
        book: Records[RecordT, EntryT],
        announcer: Announcer,
        clock: Clock,
        *,
        what: str,
        event_of: Callable[[RecordT], Event],
        hold: Callable[[EntryT], None],
    ) -> None:
        self._book = book
        self._announcer = announcer
        self._clock = clock
        self._what = what
        self._event_of = event_of
        self._hold = hold

    async def get(self, tenant: str, name: str) -> RecordT:
        """A record of something that is there. Raises NotFound."""
        entry = await self._book.get(tenant, name)
        return self._there(None if entry is None else entry.record, name)

    async def list(self, tenant: str) -> list[RecordT]:
        """A tenant's records by name."""
        records: list[RecordT] = [entry.record for entry in await self._book.entries()]
        return sorted((each for each in records if each.tenant == tenant and each.is_kept), key=lambda each: each.name)

    async def change(self, tenant: str, name: str, after: Callable[[RecordT | None], RecordT]) -> tuple[RecordT, bool]:
        """Make of a record, or of none, what `after` says, hold it and tell it; and whether it is another now. `after` may be
        asked several times, and raises what keeps it from being changed. Raises Unavailable."""
        for _ in range(CLAIMS_MAX):
            current = await self._book.get(tenant, name)
            before: RecordT | None = None if current is None else current.record
            record = after(before)
            if current is not None and record is before:
                self._hold(current)
                return record, False
            if current is not None:
                # What was not told yet would be lost with the record that says so.
                current = await self.told(current)
            try:
                entry = await self._book.put(record, revision=current.revision if current is not None else 0)
            except Conflict:
                continue
            self._hold(entry)
            return (await self.told(entry)).record, True
        raise Unavailable(f"{self._what} {name} is being changed by others; ask again")

    async def remove(self, tenant: str, name: str, removed: Callable[[RecordT], RecordT]) -> None:
        """Keep something no longer. Raises NotFound, Unavailable."""
        await self.change(tenant, name, lambda before: removed(self._there(before, name)))
        log.info("removed", what=self._what, tenant=tenant, name=name)

    async def load_all(self) -> None:
        """Hold whatever the records say."""
        for entry in await self._book.entries():
            self._hold(entry)

    async def follow(self, *, resync_seconds: float) -> None:
        """Hold what changes, for ever, also where other gateways change it."""
        while True:
            try:
                async for entry in self._book.changes(seconds=resync_seconds):
                    self._hold(entry)
            except (Unavailable, Broken) as error:
                log.warning("records not watched", what=self._what, error=str(error))
                await self._clock.sleep(WATCH_PAUSE_SECONDS)

    async def tell_all(self) -> Sequence[EntryT]:
        """Every entry, once whatever was not told yet was told. Raises Unavailable."""
        return [await self.told(entry) for entry in await self._book.entries()]

    async def keep_finishing(self, finish: Callable[[], Awaitable[object]], *, every_seconds: float) -> None:
        """Do what processes that died did not come to, again and again, for ever."""
        while True:
            try:
                await finish()
            except ErgonautError as error:
                log.warning("records not finished", what=self._what, error=str(error))
            await self._clock.sleep(every_seconds)

    async def told(self, entry: EntryT) -> EntryT:
        """The entry after its newest change was told. Raises Unavailable; it is then told later."""
        record: Any = entry.record
        if record.is_told:
            return entry
        await self._announcer.publish(self._event_of(record))
        # Where somebody noted it first or went on from there, the caller's own write finds out.
        with suppress(Conflict):
            return await self._book.put(replace(record, is_told=True), revision=entry.revision)
        return entry

    def _there(self, record: RecordT | None, name: str) -> RecordT:
        if record is None or not record.is_kept:
            raise NotFound(f"there is no {self._what} {name}")
        return record
