"""A run under way: where a program says which phase it is in and how well it does, and asks what it has used."""

import contextlib
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ergonaut.events.runs import RunState
from ergonaut.journal import EntryKind, JournalEntry, JournalWriter
from ergonaut.tracking.meterthread import MeterThread
from ergonaut.tracking.summary import Beginning, Ending, RunSummary, Totals, summarised

# A program that makes up a new name for each metric would otherwise grow without end in memory and in every report.
_METRIC_NAMES_MAX = 1000
_NAME_LENGTH_MAX = 200

_phases: ContextVar[tuple[tuple[str, int | None], ...]] = ContextVar("ergonaut_phases", default=())


class Run:
    """What `track()` gives. Safe to use from threads, asyncio tasks and forked children."""

    def __init__(self, run_id: str, name: str, metered_by: str) -> None:
        self.run_id = run_id
        self.name = name
        self._metered_by = metered_by
        self._pid = os.getpid()
        self._began_at = datetime.now(UTC)
        self._metrics: dict[str, float] = {}
        self._parts = _Parts()
        self._summary: RunSummary | None = None

    @property
    def summary(self) -> RunSummary | None:
        """The run's footprint; None until it has ended."""
        return self._summary

    @property
    def began_at(self) -> datetime:
        """When the run began, UTC."""
        return self._began_at

    def metric(self, name: str, value: float) -> None:
        """Tell a figure, such as a loss or an accuracy; the newest of each name counts."""
        figure = float(value)
        if not name or len(name) > _NAME_LENGTH_MAX:
            raise ValueError(f"name: a metric's name has 1 to {_NAME_LENGTH_MAX} letters, this one has {len(name)}")
        if name not in self._metrics and len(self._metrics) >= _METRIC_NAMES_MAX:
            self._parts.warn_once(f"metric {name!r} is not kept: a run has at most {_METRIC_NAMES_MAX} of them")
            return
        self._metrics[name] = figure
        self.write(JournalEntry(kind=EntryKind.METRIC, at=_now(), phase=_path(), name=name, value=figure))

    @contextlib.contextmanager
    def phase(self, name: str, step: int | None = None) -> Iterator["Run"]:
        """Say that the block is a phase, such as `with run.phase("epoch", 3):`; phases nest."""
        if not name or len(name) > _NAME_LENGTH_MAX:
            raise ValueError(f"name: a phase's name has 1 to {_NAME_LENGTH_MAX} letters, this one has {len(name)}")
        token, since = _phases.set((*_phases.get(), (name, step))), _now()
        path = _path()
        self.write(JournalEntry(kind=EntryKind.PHASE, at=since, phase=path, step=step))
        try:
            yield self
        finally:
            _phases.reset(token)
            self._tell_left(path, step, since)

    def footprint(self) -> RunSummary:
        """What the run has used up to now; asks the meters anew."""
        if self._summary is not None:
            return self._summary
        if self._parts.meter is not None:
            self._parts.meter.sample()
        return self._summarise(Ending(_now()))

    def write(self, entry: JournalEntry) -> None:
        """Append to the run's journal, if it has one; a disk that fails is told once and does not stop the program."""
        journal = self._parts.journal
        if journal is None:
            return
        try:
            journal.write(entry)
        except (OSError, ValueError) as error:
            self._parts.journal = None
            if self._summary is None:
                self._parts.warn_once(f"the journal of {self.run_id} cannot be written any more: {error}")

    def attach(self, *, journal: JournalWriter | None = None, journal_path: Path | None = None) -> None:
        """Give the run the file that it writes to."""
        self._parts.journal, self._parts.journal_path = journal, journal_path

    def attach_meter(self, meter: MeterThread) -> None:
        """Give the run the meter that it asks."""
        self._parts.meter = meter

    def finish(self, state: RunState, because: str = "", exit_code: int | None = None) -> RunSummary:
        """End the run. In a forked child, whose parent goes on with the run, nothing is ended."""
        if os.getpid() != self._pid or self._summary is not None:
            return self._summary or self._summarise(Ending(_now(), state, because, exit_code))
        if self._parts.meter is not None:
            self._parts.meter.stop()
            ended = JournalEntry(
                kind=EntryKind.FINISHED, at=_now(), state=state, exit_code=exit_code, because=because[:_NAME_LENGTH_MAX]
            )
            self.write(ended)
        self._summary = self._summarise(Ending(_now(), state, because, exit_code))
        if self._parts.journal is not None:
            with contextlib.suppress(OSError):
                self._parts.journal.close()
        self._parts.journal = None
        return self._summary

    def _tell_left(self, path: str, step: int | None, since: datetime) -> None:
        around = _phases.get()
        self.write(
            JournalEntry(
                kind=EntryKind.PHASE,
                at=_now(),
                phase=_path(),
                step=around[-1][1] if around else None,
                left=path,
                left_step=step,
                left_since=since,
            )
        )

    def _summarise(self, ending: Ending) -> RunSummary:
        parts = self._parts
        beginning = Beginning(self.run_id, self.name, self._began_at, self._metered_by, parts.journal_path)
        totals = parts.meter.totals if parts.meter is not None else Totals()
        return summarised(beginning, ending, totals, self._metrics)


@dataclass(slots=True)
class _Parts:
    """What a run writes to and asks; a run without them, such as a rank beside the first, only keeps its metrics."""

    journal: JournalWriter | None = None
    journal_path: Path | None = None
    meter: MeterThread | None = None
    warned: bool = False

    def warn_once(self, sentence: str) -> None:
        if not self.warned:
            self.warned = True
            tell(sentence)


def tell(sentence: str) -> None:
    """Say one sentence on stderr, whatever state that is in."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"ergonaut: {sentence}", file=sys.stderr)  # noqa: T201


def _path() -> str:
    return "/".join(name for name, _ in _phases.get())


def _now() -> datetime:
    return datetime.now(UTC)
