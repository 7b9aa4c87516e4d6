"""Pairs a journal's phase entries into the phases that a run went through, and adds up what it counted.

The tracker's stream and the orchestrator both tell phases as events; both read the journal through this.
"""

import math
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime

from ergonaut.events.runs import PHASES_MAX, PhaseSpan
from ergonaut.journal import EntryKind, JournalEntry

# A program that enters phases and never leaves them would otherwise grow its reader without end; the oldest are dropped.
_OPEN_MAX = 1000
# As many as a run may have, so that no run's own figures are cut off.
_METRICS_MAX = 1000


@dataclass(slots=True)
class _Open:
    phase: str
    step: int | None
    since: datetime
    metrics: dict[str, float] = field(default_factory=dict)

    def holds(self, phase: str) -> bool:
        return phase == self.phase or phase.startswith(f"{self.phase}/")

    def span(self, ended_at: datetime) -> PhaseSpan:
        return PhaseSpan(
            phase=self.phase, step=self.step, started_at=self.since, ended_at=ended_at, metrics=self.metrics
        )


class PhasePairing:
    """Takes a run's entries in the journal's order and says, entry by entry, which phases have ended with it.

    Phases of threads, tasks and processes may overlap. What a span's metrics hold is the newest figure of each name told in
    the phase or in one nested in it; of counted work, how much was done in it. A phase that is still open when the run ends
    ends with the run. Reading a journal again from its beginning gives the same spans in the same order.
    """

    def __init__(self) -> None:
        self._open: list[_Open] = []

    def after(self, entry: JournalEntry) -> tuple[PhaseSpan, ...]:
        """The spans that this entry ended, innermost first; most entries end none."""
        if entry.kind is EntryKind.METRIC:
            for phase in self._open:
                if phase.holds(entry.phase):
                    add_metric(phase.metrics, entry)
        elif entry.kind is EntryKind.PHASE and entry.left_since is not None:
            return self._left(entry, entry.left_since)
        elif entry.kind is EntryKind.PHASE and entry.phase:
            self._open.append(_Open(entry.phase, entry.step, entry.at))
            del self._open[:-_OPEN_MAX]
        elif entry.kind is EntryKind.FINISHED:
            ended = tuple(phase.span(entry.at) for phase in reversed(self._open))
            self._open.clear()
            return ended
        return ()

    def _left(self, entry: JournalEntry, since: datetime) -> tuple[PhaseSpan, ...]:
        sought = (entry.left, entry.left_step, since)
        for index in range(len(self._open) - 1, -1, -1):
            phase = self._open[index]
            if (phase.phase, phase.step, phase.since) == sought:
                del self._open[index]
                return (phase.span(entry.at),)
        # Its beginning was dropped or torn by a crash; the leaving alone tells when it was, only not its figures.
        return (_Open(*sought).span(entry.at),)


def phases_of(entries: Iterable[JournalEntry]) -> Iterator[PhaseSpan]:
    """The phases that a run has left, in the order in which they ended."""
    pairing = PhasePairing()
    for entry in entries:
        yield from pairing.after(entry)


def batches_of(spans: Iterable[PhaseSpan]) -> Iterator[tuple[PhaseSpan, ...]]:
    """Spans in as few parts as one event each can carry."""
    batch: list[PhaseSpan] = []
    for span in spans:
        batch.append(span)
        if len(batch) == PHASES_MAX:
            yield tuple(batch)
            batch.clear()
    if batch:
        yield tuple(batch)


def add_metric(metrics: MutableMapping[str, float], entry: JournalEntry) -> None:
    """Take a metric entry into figures by name: counted work adds up, of other figures the newest counts.

    Several processes of a run may count the same work, so the parts are added rather than a total believed. A figure that
    was not finite is NaN, lest the last one before it pass for the newest. Entries of other kinds change nothing.
    """
    if entry.kind is not EntryKind.METRIC or (entry.name not in metrics and len(metrics) >= _METRICS_MAX):
        return
    if entry.counted is not None:
        metrics[entry.name] = metrics.get(entry.name, 0.0) + entry.counted
    else:
        metrics[entry.name] = math.nan if entry.value is None else entry.value
