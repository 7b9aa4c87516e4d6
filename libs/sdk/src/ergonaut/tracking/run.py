"""A run under way: where a program says which phase it is in and how well it does, and asks what it has used."""

import contextlib
import math
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ergonaut.events.runs import RunState
from ergonaut.journal import EntryKind, JournalEntry, JournalWriter
from ergonaut.tracking.counts import Counts
from ergonaut.tracking.meterthread import MeterThread
from ergonaut.tracking.others import OthersFigures
from ergonaut.tracking.outer import OuterRun
from ergonaut.tracking.runjournal import RunJournal
from ergonaut.tracking.stopping import StopWish
from ergonaut.tracking.summary import Beginning, Ending, RunSummary, Totals, summarised

# A program that makes up a new name for each metric would otherwise grow without end in memory and in every report.
_METRIC_NAMES_MAX = 1000
_NAME_LENGTH_MAX = 200

_phases: ContextVar[tuple[tuple[str, int | None], ...]] = ContextVar("ergonaut_phases", default=())


class Run:
    """What `track()` gives. Safe to use from threads, asyncio tasks and forked children."""

    def __init__(self, run_id: str, name: str, metered_by: str, *, project: str = "") -> None:
        self.run_id = run_id
        # It may be the name of a program's file, which need not be text; the journal takes nothing else.
        self.name = name.encode(errors="replace").decode()
        self.project = project
        self.stop_wish = StopWish()
        self.metered_by = metered_by
        self._pid = os.getpid()
        self._began_at = datetime.now(UTC)
        self._metrics: dict[str, float] = {}
        self._told_at: dict[str, datetime] = {}
        self._counts = Counts(self._write_count)
        self._finishing = threading.Lock()
        self._parts = _Parts()
        self._summary: RunSummary | None = None
        self._left_at: RunSummary | None = None

    @property
    def summary(self) -> RunSummary | None:
        """The run's footprint; None until it has ended.

        Where blocks of other threads or tasks go on with the run, it tells what was used until the block that began it was
        left, with no state, and the whole once they are left too.
        """
        return self._summary or self._left_at

    @property
    def began_at(self) -> datetime:
        """When the run began, UTC."""
        return self._began_at

    @property
    def checkpoint_folder(self) -> Path | None:
        """A folder that outlives this attempt, to save state in and to find it again; None where nobody keeps one."""
        return self._parts.checkpoint_folder

    @property
    def should_stop(self) -> bool:
        """Whether to save what is needed and leave: a budget is used up or, with `stops_itself`, SIGTERM has come."""
        return self.stop_wish.is_asked()

    def metric(self, name: str, value: float) -> None:
        """Tell a figure, such as a loss or an accuracy; the newest of each name counts. Raises BudgetExceeded.

        One that is not finite, such as a loss that became NaN, counts too: it is null in JSON and left out of events.
        """
        figure = _number(value, name)
        if self._may_keep(name, "metric", known=self._metrics, other=self._counts.totals):
            now = _now()
            self._metrics[name], self._told_at[name] = figure, now
            self._write_metric(now, _path(), name, figure, None)
        self.stop_wish.raise_if_unheard()

    def count(self, name: str, amount: float = 1) -> None:
        """Count work that was done, such as tokens or predictions; it adds up over the run. Raises BudgetExceeded.

        The total is among the run's metrics at the end, so that reports can tell joules for each.
        """
        more = _number(amount, name)
        if not 0 <= more < math.inf:
            raise ValueError(f"amount: work that is counted is 0 or more and finite, not {amount}")
        if self._may_keep(name, "count", known=self._counts.totals, other=self._metrics):
            self._counts.add(_path(), name, more)
        self.stop_wish.raise_if_unheard()

    @contextlib.contextmanager
    def phase(self, name: str, step: int | None = None) -> Iterator["Run"]:
        """Say that the block is a phase, such as `with run.phase("epoch", 3):`; phases nest. Raises BudgetExceeded."""
        _check_name(name, "phase")
        step = _whole_number(step)
        self.stop_wish.raise_if_unheard()
        self._counts.flush()
        token, since = _phases.set((*_phases.get(), (name, step))), _now()
        path = _path()
        self.write(JournalEntry(kind=EntryKind.PHASE, at=since, phase=path, step=step))
        try:
            yield self
        finally:
            self._counts.flush()
            # A generator may be left in another context than it was entered in, as frameworks do with their dependencies.
            with contextlib.suppress(ValueError):
                _phases.reset(token)
            self._tell_left(path, step, since)

    def footprint(self) -> RunSummary:
        """What the run has used up to now; asks the meters anew."""
        if self._summary is not None:
            return self._summary
        if self._parts.meter is not None:
            self._parts.meter.sample_safely()
        return self._summarise(Ending(_now()))

    def write(self, entry: JournalEntry) -> None:
        """Append to the run's journal, if it has one; a disk that fails is told of once, and it is tried again later."""
        trouble = self._parts.journal.write(entry) if self._parts.journal is not None else ""
        if trouble and self._summary is None:
            self._parts.warn_once(f"the journal of {self.run_id} {trouble}")

    def attach(self, journal: JournalWriter, journal_path: Path, *, ends_it: bool = False) -> None:
        """Give the run the file that it writes to; `ends_it` where nobody else writes the end into it."""
        self._parts.journal = RunJournal(journal, journal_path, ends_it=ends_it)
        self._parts.journal_path, self._parts.ends_journal = journal_path, ends_it
        if ends_it:
            self._parts.others = OthersFigures(journal_path, journal.size_bytes)

    def attach_meter(self, meter: MeterThread) -> None:
        """Give the run the meter that it asks, after each of whose samples somebody calls `flush`."""
        self._parts.meter = meter
        self._counts.leave_flushing()

    def attach_tracker(self, outer: OuterRun) -> None:
        """Say by what forked children, and processes that do not meter it, can see whether the run goes on."""
        self._parts.outer = outer

    def goes_on(self) -> bool:
        """Whether another block of this process can join the run; a forked child may have outlived it."""
        if os.getpid() == self._pid:
            return True
        return self._summary is None and (self._parts.outer is None or self._parts.outer.goes_on())

    def leave_to_others(self) -> None:
        """The block that began the run is left, and blocks of other threads or tasks go on with it."""
        self._left_at = self.footprint()

    def attach_checkpoints(self, folder: str) -> None:
        """Give the run the folder that outlives it; an empty name is none."""
        self._parts.checkpoint_folder = Path(folder) if folder else None

    def flush(self) -> None:
        """Write down what was counted and waits, and take in what other processes of the run have told."""
        self._counts.flush()
        if self._parts.others is not None:
            self._parts.others.read(blocks_max=1)

    def summary_so_far(self) -> RunSummary:
        """What the run has used up to the last sample; asks no meter."""
        return self._summary or self._summarise(Ending(_now()))

    def finish(self, state: RunState, because: str = "", exit_code: int | None = None) -> RunSummary:
        """End the run. In a forked child, whose parent goes on with the run, nothing is ended.

        A signal's end and the block's may come at once; the first counts and the other waits for it.
        """
        if os.getpid() != self._pid:
            self._counts.flush()
            return self._summary or self._summarise(Ending(_now(), state, because, exit_code))
        with self._finishing:
            if self._summary is None:
                self._end(Ending(_now(), state, because[:_NAME_LENGTH_MAX], exit_code))
        assert self._summary is not None
        return self._summary

    def _end(self, ending: Ending) -> None:
        self._counts.flush()
        if self._parts.meter is not None:
            self._parts.meter.stop()
        if self._parts.ends_journal:
            ending = replace(ending, at=_now())
            ended = JournalEntry(
                kind=EntryKind.FINISHED,
                at=ending.at,
                state=ending.state,
                exit_code=ending.exit_code,
                because=ending.because,
            )
            self.write(ended)
        journal, self._parts.journal = self._parts.journal, None
        self._summary = self._summarise(replace(ending, entries_missing=journal.missing if journal is not None else 0))
        if journal is not None:
            journal.close()

    def _may_keep(self, name: str, what: str, *, known: Mapping[str, float], other: Mapping[str, float]) -> bool:
        _check_name(name, what)
        if name in other:
            raise ValueError(f"name: {name!r} is counted and told as a figure; use two names")
        if name not in known and len(known) + len(other) >= _METRIC_NAMES_MAX:
            self._parts.warn_once(f"{what} {name!r} is not kept: a run has at most {_METRIC_NAMES_MAX} of them")
            return False
        return True

    def _write_count(self, phase: str, name: str, total: float, more: float) -> None:
        self._write_metric(_now(), phase, name, total, more)

    def _write_metric(self, at: datetime, phase: str, name: str, value: float, counted: float | None) -> None:
        # The process that ends the run knows its own figures, and finds those of the others by their mark.
        pid = os.getpid()
        mark = None if self._parts.ends_journal and pid == self._pid else pid
        self.write(
            JournalEntry(kind=EntryKind.METRIC, at=at, pid=mark, phase=phase, name=name, value=value, counted=counted)
        )

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
        beginning = Beginning(self.run_id, self.name, self._began_at, self.metered_by, parts.journal_path, self.project)
        totals = parts.meter.totals if parts.meter is not None else Totals()
        return summarised(beginning, ending, totals, self._all_figures())

    def _all_figures(self) -> dict[str, float]:
        others = self._parts.others
        if others is None or os.getpid() != self._pid:
            return self._metrics | dict(self._counts.totals)
        others.read()
        return others.joined(self._metrics, self._told_at, self._counts.totals)


@dataclass(slots=True)
class _Parts:
    """What a run writes to and asks; a run without them, such as a rank beside the first, only keeps its metrics."""

    journal: RunJournal | None = None
    journal_path: Path | None = None
    ends_journal: bool = False
    meter: MeterThread | None = None
    others: OthersFigures | None = None
    outer: OuterRun | None = None
    checkpoint_folder: Path | None = None
    warned: bool = False

    def warn_once(self, sentence: str) -> None:
        if not self.warned:
            self.warned = True
            tell(sentence)


def tell(sentence: str) -> None:
    """Say one sentence on stderr, whatever state that is in."""
    with contextlib.suppress(Exception):
        print(f"ergonaut: {sentence}", file=sys.stderr)  # noqa: T201


def _number(value: object, name: str) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name!r} takes a number, not {value!r:.60}: {error}") from error


def _whole_number(step: object) -> int | None:
    """A phase's number as journals and books keep it; it may be another library's."""
    if step is None:
        return None
    try:
        number: int = int(step)  # type: ignore[call-overload]
        is_whole = (number == step or str(number) == step) and -(2**63) <= number < 2**63
    except (TypeError, ValueError, OverflowError):
        is_whole = False
    if not is_whole:
        raise ValueError(f"step: a phase's number is a whole one of 64 bits, not {step!r}")
    return number


def _check_name(name: str, what: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name: a {what}'s name is text, not {name!r}")
    if not name or len(name) > _NAME_LENGTH_MAX:
        raise ValueError(f"name: a {what}'s name has 1 to {_NAME_LENGTH_MAX} letters, this one has {len(name)}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"name: a {what}'s name is text that UTF-8 can write, not {name!r}") from error


def _path() -> str:
    return "/".join(name for name, _ in _phases.get())


def _now() -> datetime:
    return datetime.now(UTC)
