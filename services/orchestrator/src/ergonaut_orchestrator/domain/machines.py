"""What is seen of a lease and its program, what that means for the run, and which of its files are kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from math import isfinite

from ergonaut.journal import EntryKind, JournalEntry
from ergonaut.journal_phases import add_metric
from ergonaut.runcontext import RunContext
from ergonaut_orchestrator.domain.attempts import Attempt, EndKind, RunEnd, brief

METRICS_MAX = 256
"""Different metrics kept of a run: they travel in each progress event, which must stay a small message."""

NAME_LETTERS_MAX = 256
"""Longer names are no names: of a metric it is passed over, of a phase it is cut, for the same reason."""


class LeaseState(StrEnum):
    """Where a lease is."""

    ABSENT = "absent"
    READY = "ready"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"
    """The program was started, and what watched over it has died without telling an end."""


class StopReason(StrEnum):
    """Why a program was stopped from outside."""

    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    OVERDUE = "overdue"
    LAPSED = "lapsed"
    """The lease was not renewed in time: nobody watches."""
    TORN_DOWN = "torn-down"
    PAUSED = "paused"

    @property
    def yields(self) -> bool:
        """Whether any other reason replaces it: a program that is given time to save its state may still be stopped sooner."""
        return self is StopReason.PAUSED


_STOPPED = {
    StopReason.PAUSED: (EndKind.PAUSED, "the job was asked to pause"),
    StopReason.CANCELLED: (EndKind.CANCELLED, "the job was asked to stop"),
    StopReason.TORN_DOWN: (EndKind.CANCELLED, "the job was asked to stop"),
    StopReason.PREEMPTED: (EndKind.PREEMPTED, "the machine was taken back"),
    StopReason.LAPSED: (EndKind.PREEMPTED, "the lease was not renewed in time"),
    StopReason.OVERDUE: (EndKind.FAILED, "it ran far longer than duration_seconds_expected, and past any deadline"),
}


@dataclass(frozen=True, slots=True)
class Program:
    """What is started on a lease."""

    command: tuple[str, ...]
    environment: dict[str, str]
    context: RunContext
    stop_grace_seconds: float | None = None
    """How long it may take to end when it is asked to; None for as long as any program may."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is seen of a lease now."""

    state: LeaseState
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    stopped_for: StopReason | None = None
    because: str = ""
    error_tail: str = ""
    asked_for: StopReason | None = None
    """Why the program that still runs has been asked to end, where it has been."""
    has_saved: bool = False
    """Whether the program wrote into its checkpoint's folder after it was asked to end."""


@dataclass(frozen=True, slots=True)
class Telling:
    """The run's own words so far: its newest phase and figures."""

    phase: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    counted: frozenset[str] = frozenset()
    """Those of the metrics that count work."""

    def after(self, entries: Sequence[JournalEntry]) -> "Telling":
        """The telling once these entries were heard too."""
        phase, metrics, counted = self.phase, dict(self.metrics), set(self.counted)
        for entry in entries:
            if entry.kind is EntryKind.PHASE:
                named = entry.phase[:NAME_LETTERS_MAX]
                phase = named if entry.step is None else f"{named} {entry.step}"
            elif _has_room_for(entry.name, metrics):
                add_metric(metrics, entry)
                if entry.counted is not None:
                    counted.add(entry.name)
        # A workflow's history is JSON, which has no figure for one that is not finite, such as a loss that became NaN.
        finite = {name: value for name, value in metrics.items() if isfinite(value)}
        return Telling(phase, finite, frozenset(counted))


def _has_room_for(name: str, metrics: dict[str, float]) -> bool:
    return len(name) <= NAME_LETTERS_MAX and (name in metrics or len(metrics) < METRICS_MAX)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file in the job's folder that a pattern names."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """What the patterns name, those patterns that name nothing, and files whose names no message can carry."""

    files: tuple[FoundFile, ...]
    unmatched: tuple[str, ...] = ()
    unnameable: tuple[str, ...] = ()
    """As a person can read them: what is no UTF-8 is escaped."""


def program_of(attempt: Attempt) -> Program:
    """The program of an attempt, with what its processes carry so that meters know whom to charge."""
    return Program(attempt.job.command, attempt.job.environment, context_of(attempt))


def context_of(attempt: Attempt) -> RunContext:
    """What the processes of an attempt carry."""
    return RunContext(
        run_id=attempt.lease.run_id,
        tenant=attempt.lease.tenant,
        job_id=attempt.lease.job_id,
        project=attempt.job.project,
        metered=True,
        zone=attempt.placement.zone,
        pue=attempt.placement.pue,
        price_microusd_per_hour=attempt.placement.price_microusd_per_hour,
        electricity_microusd_per_kwh=attempt.placement.electricity_microusd_per_kwh,
    )


def reason_to_stop(
    attempt: Attempt, asked: StopReason | None, asked_before: StopReason | None, now: datetime
) -> StopReason | None:
    """Why the program must be stopped now, if it must: what is asked now, else its time, else what was asked before."""
    if asked is not None:
        return asked
    return StopReason.OVERDUE if now >= attempt.stop_at else asked_before


def end_of(seen: Observation, telling: Telling, now: datetime) -> RunEnd | None:
    """How the attempt has ended, or None while it has not."""
    return None if seen.state is LeaseState.RUNNING else _end(seen, telling, now)


def _end(seen: Observation, telling: Telling, now: datetime) -> RunEnd:
    kind, because = _verdict(seen)
    return RunEnd(
        kind=kind,
        ended_at=seen.ended_at or now,
        because=because,
        exit_code=seen.exit_code,
        metrics=telling.metrics,
        started_at=seen.started_at,
        counted=tuple(sorted(telling.counted)),
    )


def given_up(seen: Observation, reason: StopReason, telling: Telling, now: datetime) -> RunEnd:
    """The end of a program that was asked to stop, would not, and is waited for no longer."""
    return _end(replace(seen, state=LeaseState.ENDED, stopped_for=reason), telling, now)


def _verdict(seen: Observation) -> tuple[EndKind, str]:
    """Kind and reason of an end."""
    if seen.state is not LeaseState.ENDED:
        return EndKind.PREEMPTED, f"the run's machine is {seen.state}: its program's end is not known"
    if seen.stopped_for is StopReason.PAUSED and seen.exit_code == 0 and not seen.has_saved:
        # It saved nothing and says that all is well: it had come to its end by itself.
        return EndKind.SUCCEEDED, ""
    if seen.stopped_for is not None:
        return _STOPPED[seen.stopped_for]
    if seen.exit_code == 0:
        return EndKind.SUCCEEDED, ""
    reason = seen.because or f"the program ended with exit code {seen.exit_code}"
    return EndKind.FAILED, brief(f"{reason}: {seen.error_tail}" if seen.error_tail.strip() else reason)


def within_bounds(found: FoundFiles, *, count_max: int, bytes_max: int) -> tuple[tuple[FoundFile, ...], str]:
    """The files to keep, in order of their paths while the bounds allow, and what is said of the rest."""
    kept: list[FoundFile] = []
    left_out: list[str] = []
    total_bytes = 0
    for file in sorted(found.files, key=lambda file: file.path):
        if len(kept) >= count_max or total_bytes + file.size_bytes > bytes_max:
            left_out.append(file.path)
            continue
        kept.append(file)
        total_bytes += file.size_bytes
    said = [f"artifacts: no file matches {pattern!r}" for pattern in found.unmatched]
    if found.unnameable:
        first, count = found.unnameable[0], len(found.unnameable)
        said.append(f"artifacts: {count} files left out, the first '{first}': their names are not UTF-8")
    if left_out:
        said.append(
            f"artifacts: {len(left_out)} files left out, the first {left_out[0]!r}:"
            f" at most {count_max} files and {bytes_max} bytes are kept"
        )
    return tuple(kept), brief("; ".join(said))
