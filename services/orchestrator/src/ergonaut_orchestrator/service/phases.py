"""Tells the phases that a run has left, in batches that are the same ones however often its journal is read again."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ergonaut.errors import Unavailable
from ergonaut.events.runs import PHASES_MAX, PhaseSpan
from ergonaut.journal import JournalEntry
from ergonaut.journal_phases import PhasePairing
from ergonaut_common.observe import get_logger
from ergonaut_orchestrator.domain import Lease, facts
from ergonaut_orchestrator.service.world import World

WINDOW_SECONDS = 5
"""Phases that end within the same five seconds travel together: thousands of short ones make no flood of events."""

LATE_SECONDS = 2.0
"""How long after its window a batch is closed: a program writes within milliseconds what it says happened."""

BATCHES_WAITING_MAX = 1000
"""More than an hour of batches; while the bus is away for longer the oldest are given up, so that memory is bounded."""

log = get_logger(__name__)


@dataclass(slots=True)
class Told:
    """How many phases of a run have been told, kept by whoever watches it in turn."""

    phases: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Phases to tell together, and how many come before them in the run."""

    first: int
    spans: tuple[PhaseSpan, ...]


class Phases:
    """The phases of one run."""

    def __init__(self, world: World, lease: Lease, told: Told) -> None:
        self._world = world
        self._lease = lease
        self._told = told
        self._pairing = PhasePairing()
        self._open: list[PhaseSpan] = []
        self._closed_count = 0
        self._waiting: deque[Batch] = deque()

    def hear(self, entries: Iterable[JournalEntry]) -> None:
        """Take in what the journal says."""
        for entry in entries:
            self._close_before(entry.at)
            for span in self._pairing.after(entry):
                if len(self._open) == PHASES_MAX:
                    self._close()
                self._open.append(span)

    async def tell_due(self, now: datetime) -> None:
        """Tell every batch to which nothing more can come; those that cannot be told now are told later."""
        self._close_before(now - timedelta(seconds=LATE_SECONDS))
        try:
            await self._tell()
        except Unavailable as error:
            log.warning("phases not told yet", run_id=self._lease.run_id, error=str(error))

    async def tell_all(self) -> None:
        """Tell what is left, the run having ended. Raises Unavailable."""
        self._close()
        await self._tell()

    async def _tell(self) -> None:
        while self._waiting:
            batch = self._waiting[0]
            at = batch.spans[-1].ended_at
            await self._world.announcer.tell(facts.phases_finished(self._lease, batch.spans, first=batch.first, at=at))
            self._told.phases = batch.first + len(batch.spans)
            self._waiting.popleft()

    def _close_before(self, moment: datetime) -> None:
        if self._open and _window(self._open[0].ended_at) < _window(moment):
            self._close()

    def _close(self) -> None:
        if not self._open:
            return
        batch = Batch(self._closed_count, tuple(self._open))
        self._closed_count += len(self._open)
        self._open.clear()
        if batch.first < self._told.phases:
            return  # An earlier watch has told it.
        self._waiting.append(batch)
        if len(self._waiting) > BATCHES_WAITING_MAX:
            lost = self._waiting.popleft()
            log.error("phases given up", run_id=self._lease.run_id, phases=len(lost.spans))


def _window(moment: datetime) -> int:
    return int(moment.timestamp()) // WINDOW_SECONDS
