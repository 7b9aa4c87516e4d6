"""Begins a run that this process meters, and ends it: journal, meter, stream, and what child processes are told."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ergonaut.errors import Refused
from ergonaut.events.runs import RunStarted, RunState
from ergonaut.ids import derived_id, new_id
from ergonaut.journal import EntryKind, JournalEntry, JournalWriter
from ergonaut.metering import host_facts
from ergonaut.metering.processtable import open_process_table
from ergonaut.runcontext import RunContext
from ergonaut.tracking.meterthread import MeterThread
from ergonaut.tracking.options import Options
from ergonaut.tracking.outer import OuterRun
from ergonaut.tracking.run import Run, tell
from ergonaut.tracking.stream import BusStream
from ergonaut.tracking.summary import RunSummary

JOURNAL_FILE = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run and what belongs to it; one that another process meters has nothing but itself."""

    run: Run
    environment: dict[str, str]
    stream: BusStream | None
    owner_pid: int

    @property
    def is_ours(self) -> bool:
        """Whether this process began the run, rather than having been forked from the one that did."""
        return os.getpid() == self.owner_pid

    def finish(self, state: RunState, because: str = "", exit_code: int | None = None) -> RunSummary:
        """End the run and send what is left of it."""
        summary = self.run.finish(state, because, exit_code)
        if self.stream is not None and self.is_ours and not self.stream.stop():
            tell(
                f"not all of {summary.run_id} could be sent ({self.stream.last_error or 'no answer in time'}); "
                "it is kept, and recover_runs() sends it later"
            )
        return summary


def begin_run(
    options: Options, name: str, belongs: Callable[[int], bool], context: RunContext | None = None
) -> BegunRun:
    """Begin to meter the processes that belong, and all their descendants. Raises Refused where nothing can be kept."""
    context = context or RunContext(run_id=new_id("run"), tenant=options.tenant)
    path = Path(context.journal) if context.journal else options.runs_folder / context.run_id / JOURNAL_FILE
    try:
        journal = JournalWriter(path)
    except OSError as error:
        raise Refused(f"runs cannot be kept in {path.parent}: {error}", field="ERGONAUT_HOME") from error
    run = Run(context.run_id, name, "this process")
    run.attach(journal=journal, journal_path=path)
    outer = OuterRun.of_this_process(context.run_id, path)
    run.write(_started(run, options, context, outer))
    table = open_process_table()
    # A child whose parent was gone before anybody looked is known by what it inherited.
    meter = MeterThread(
        context, options, run.write, lambda pid: belongs(pid) or outer.is_told_by(table.environment(pid))
    )
    run.attach_meter(meter)
    meter.start()
    stream = BusStream(path, options.bus) if options.bus else None
    if stream is not None:
        stream.start()
    return BegunRun(run, outer.to_environment(), stream, os.getpid())


def _started(run: Run, options: Options, context: RunContext, outer: OuterRun) -> JournalEntry:
    event = RunStarted(
        event_id=derived_id("event", run.run_id, "started"),
        tenant=context.tenant,
        occurred_at=run.began_at,
        run_id=run.run_id,
        job_id=context.job_id,
        name=run.name,
        host=options.host,
        provider="local",
        region="local",
        zone=options.intensity.zone,
        machine_type=host_facts().cpu_name,
        price_microusd_per_hour=context.price_microusd_per_hour,
        electricity_microusd_per_kwh=context.electricity_microusd_per_kwh,
        started_at=run.began_at,
    )
    return JournalEntry(
        kind=EntryKind.STARTED,
        at=run.began_at,
        started=event,
        pid=outer.pid,
        process_started_at=outer.process_started_at,
    )
