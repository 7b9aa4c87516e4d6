"""Begins a run that this process meters, and ends it: journal, meter, stream, and what child processes are told."""

import contextlib
import errno
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ergonaut.errors import Refused
from ergonaut.events.runs import RunStarted, RunState
from ergonaut.ids import derived_id, new_id
from ergonaut.jobs import Budget
from ergonaut.journal import EntryKind, JournalEntry, JournalWriter
from ergonaut.metering.hosts import cpu_identity
from ergonaut.metering.processes import Told
from ergonaut.metering.processtable import ProcessTable, open_process_table
from ergonaut.metering.tracked import TrackedRun, take_back, tell_agent
from ergonaut.runcontext import RunContext
from ergonaut.tracking.budgeting import BudgetWatch
from ergonaut.tracking.closing import JOURNAL_FILE, close_dead_runs, forget, pid_namespace, remember
from ergonaut.tracking.exporting import FINISH_SECONDS_MAX, Exporting
from ergonaut.tracking.meterthread import MeterThread
from ergonaut.tracking.options import Options
from ergonaut.tracking.outer import VARIABLES_BEGIN, OuterRun
from ergonaut.tracking.pruning import prune_now_and_then, write_summary
from ergonaut.tracking.run import Run, tell
from ergonaut.tracking.stopping import BudgetExceeded, SignalWatch
from ergonaut.tracking.summary import RunSummary, Totals

if TYPE_CHECKING:
    from ergonaut.tracking.hearing import BudgetHearing
    from ergonaut.tracking.stream import BusStream

# Whoever sent a signal will kill for good after a while, often ten seconds; the bus has its own five.
_HURRIED_SECONDS_MAX = 3.0
# Each costs a tenth of a millisecond to look at; `recover_runs` looks at all.
_LOOKED_AT_MAX = 200
_HOME_IS_WRONG = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(slots=True)
class BegunRun:
    """A run and what belongs to it; one that another process meters has little but itself."""

    run: Run
    environment: Mapping[str, str] = field(default_factory=dict)
    stream: "BusStream | None" = None
    exporting: Exporting | None = None
    signals: SignalWatch | None = None
    keeps_summary: bool = False
    at_end: Callable[[], None] | None = None
    told_to_bus: TrackedRun | None = None
    word_to_agent: Path | None = None
    owner_pid: int = field(default_factory=os.getpid)

    @property
    def is_ours(self) -> bool:
        """Whether this process began the run, rather than having been forked from the one that did."""
        return os.getpid() == self.owner_pid

    def begins_at(self, pid: int) -> None:
        """Let the agent of this host, if there is one, leave the process where the run begins to this tracker."""
        if self.told_to_bus is not None:
            self.word_to_agent = tell_agent(self.told_to_bus, pid)

    def watch_signals(self) -> None:
        """Let no signal take with it what is not written; a program that stops itself hears of it instead."""
        self.signals = SignalWatch(self.run.stop_wish, self._end_by_signal)
        with _without_harm(self.run, "watching for signals"):
            self.signals.install()

    def finish(self, state: RunState, because: str = "", exit_code: int | None = None) -> RunSummary:
        """End the run, hand it on, and send what is left of it."""
        summary = self.run.finish(state, because, exit_code)
        if self.is_ours:
            forget(summary.run_id)
            self._leave_others()
            self._hand_on(summary, FINISH_SECONDS_MAX)
            if self.signals is not None:
                self.signals.remove()
        return summary

    def _end_by_signal(self, because: str) -> None:
        summary = self.run.finish(RunState.FAILED, because)
        self._leave_others()
        self._hand_on(summary, _HURRIED_SECONDS_MAX)

    def _leave_others(self) -> None:
        if self.word_to_agent is not None:
            take_back(self.word_to_agent)
        if self.at_end is not None:
            with _without_harm(self.run, "word to the other ranks of this host"):
                self.at_end()

    def _hand_on(self, summary: RunSummary, patience_seconds: float) -> None:
        if self.keeps_summary and summary.journal is not None:
            write_summary(summary.journal, summary)
        if self.exporting is not None:
            self.exporting.finish(summary, patience_seconds)
        if self.stream is not None and not self.stream.stop():
            tell(
                f"not all of {summary.run_id} could be sent ({self.stream.last_error or 'no answer in time'}); "
                "it is kept, and recover_runs() sends it later"
            )


def begin_run(
    options: Options,
    name: str,
    belongs: Callable[[int], bool],
    context: RunContext | None = None,
    told: Told = tuple,
) -> BegunRun:
    """Begin to meter the processes that belong, and all their descendants. Raises Refused for a home that is set wrongly.

    `told` gives the processes that belong and have told of themselves.

    Whatever else cannot be had here, such as a meter, a thread, or room on the disk, is told of and done without.
    """
    context = _with_project(context or RunContext(run_id=new_id("run"), tenant=options.tenant), options)
    _tell_of_dead_runs(options)
    prune_now_and_then(options.home, options.retention)
    path = Path(context.journal) if context.journal else options.runs_folder / context.run_id / JOURNAL_FILE
    run = Run(context.run_id, name, "this process", project=context.project)
    journal = _journal(path, run)
    if journal is not None:
        run.attach(journal, path, ends_it=True)
    run.attach_checkpoints(context.checkpoint_folder)
    outer = OuterRun.of_this_process(context.run_id, path)
    run.attach_tracker(outer)
    remember(run.run_id)
    run.write(_started(run, options, context, outer))
    with _without_harm(run, "metering"):
        _begin_to_meter(
            run,
            options,
            context,
            lambda pid, table: belongs(pid) or outer.is_told_by(table.environment(pid, VARIABLES_BEGIN)),
            told,
        )
    is_at_home = path.parent.parent == options.runs_folder
    begun = BegunRun(run, outer.to_environment(), keeps_summary=is_at_home)
    if options.bus is not None and journal is not None:
        with _without_harm(run, "the bus, to which recover_runs() sends it later"):
            # asyncio takes its time to load; only who has a bus needs it.
            from ergonaut.tracking.stream import BusStream

            stream = BusStream(path, options.bus, _hearing(run, context))
            stream.start()
            begun.stream, begun.told_to_bus = stream, TrackedRun.of_this_process(context, options.bus.url)
    if options.exporters:
        with _without_harm(run, "exporters"):
            begun.exporting = Exporting(options.exporters, run.summary_so_far, tell)
            begun.exporting.begin()
    return begun


def _journal(path: Path, run: Run) -> JournalWriter | None:
    try:
        return JournalWriter(path)
    except OSError as error:
        # Who names a home wants to know that it is wrong. A full disk, or a container in which nothing can be written, is
        # no reason not to train.
        if os.environ.get("ERGONAUT_HOME") and error.errno in _HOME_IS_WRONG:
            raise Refused(f"runs cannot be kept in {path.parent}: {error}", field="ERGONAUT_HOME") from error
        tell(f"{run.run_id} is kept in memory only: {error}; set ERGONAUT_HOME to where there is room")
        return None


@contextlib.contextmanager
def _without_harm(run: Run, what: str) -> Iterator[None]:
    """Let a program run whose tracker cannot do all; whoever wrote a meter or an exporter, and wherever it runs."""
    try:
        yield
    except Exception as error:
        tell(f"{run.run_id} goes on without {what}: {error!r}")


def _with_project(context: RunContext, options: Options) -> RunContext:
    # A job's project is who pays for it; a program inside cannot have somebody else pay.
    return context if context.project else context.model_copy(update={"project": options.project})


def _begin_to_meter(
    run: Run, options: Options, context: RunContext, belongs: Callable[[int, ProcessTable], bool], told: Told
) -> None:
    table = open_process_table()
    # A child whose parent was gone before anybody looked is known by what it inherited.
    meter = MeterThread(context, options, run.write, lambda pid: belongs(pid, table), told)
    budget = _budget_watch(run, options.budget) if options.budget is not None else None

    def after_sample(totals: Totals, at_seconds: float) -> float:
        run.flush()
        return budget.after_sample(totals, at_seconds) if budget is not None else math.inf

    meter.watch(after_sample)
    run.attach_meter(meter)
    meter.start()


def _budget_watch(run: Run, budget: Budget) -> BudgetWatch:
    return BudgetWatch(
        budget,
        began_seconds=time.monotonic(),
        tell=lambda sentence: tell(f"{run.name} ({run.run_id}): {sentence}"),
        exceeded=lambda error: _ask_to_stop(run, error),
    )


def _hearing(run: Run, context: RunContext) -> "BudgetHearing | None":
    """What hears of the ledger's budgets; a job's runs are stopped and paused by the orchestrator."""
    if context.job_id:
        return None
    from ergonaut.tracking.hearing import BudgetHearing

    return BudgetHearing(
        context.tenant, run.run_id, run.project, lambda because: _ask_to_stop(run, BudgetExceeded(because))
    )


def _ask_to_stop(run: Run, error: BudgetExceeded) -> None:
    # The ledger tells of a budget again and again; once is enough for who reads along.
    if not run.stop_wish.because:
        tell(f"{run.name} ({run.run_id}) is asked to stop: {error}")
        run.stop_wish.ask(str(error), error)


def _tell_of_dead_runs(options: Options) -> None:
    closed = close_dead_runs(options.home, newest=_LOOKED_AT_MAX)
    if closed:
        tell(
            f"{len(closed)} earlier runs had died without an end and were closed, the last one in {closed[-1].parent}; "
            "`ergonaut recover --all` tells what they used"
        )


def _started(run: Run, options: Options, context: RunContext, outer: OuterRun) -> JournalEntry:
    event = RunStarted(
        event_id=derived_id("event", run.run_id, "started"),
        tenant=context.tenant,
        occurred_at=run.began_at,
        run_id=run.run_id,
        job_id=context.job_id,
        name=run.name,
        project=run.project,
        host=options.host,
        provider="local",
        region="local",
        zone=options.intensity.zone,
        machine_type=cpu_identity().name,
        price_microusd_per_hour=context.price_microusd_per_hour,
        electricity_microusd_per_kwh=context.electricity_microusd_per_kwh,
        started_at=run.began_at,
    )
    return JournalEntry(
        kind=EntryKind.STARTED,
        at=run.began_at,
        started=event,
        pid=outer.tracker.pid,
        process_started_at=outer.tracker.started_at,
        process_started_ticks=outer.tracker.started_ticks,
        boot_id=outer.tracker.boot_id,
        pid_namespace=pid_namespace(),
    )
