"""The meters of this host, through the SDK's metering library: every component, and the processes of every run."""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ergonaut.events.telemetry import Method
from ergonaut.ids import new_id
from ergonaut.metering import (
    Cgroups,
    HostFacts,
    Meter,
    ProcessScan,
    Reading,
    RunKey,
    RunUse,
    claimed_by_environment,
    host_facts,
    read_load,
    runs_by_pid,
)
from ergonaut.metering.attribution import OTHERS
from ergonaut.metering.processtable import ProcessStat, ProcessTable, open_process_table
from ergonaut.runcontext import RunContext
from ergonaut_telemetry.adapters.tracked_programs import TrackedPrograms
from ergonaut_telemetry.domain import ComponentReading, Holder, HostReading, RunReading

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
QUICK_SECONDS_MAX = 0.05
"""A host whose reading once took longer has a meter that asks some program or bus, and may do so again."""


class HostMeters:
    """The Meters port over real devices, /proc and the control groups."""

    def __init__(
        self,
        meters: Sequence[Meter],
        table: ProcessTable | None = None,
        cgroups: Cgroups | None = None,
        tracked: TrackedPrograms | None = None,
    ) -> None:
        self._meters = meters
        self._facts = host_facts(meters)
        self._table = _Remembering(table or open_process_table())
        self._tracked = tracked
        told = tracked.told if tracked is not None else tuple
        self._scan = ProcessScan(self._claimed, self._table, cgroups or Cgroups(), told)
        self._scanned_ticks = 0.0
        self._boot_id = boot_id()
        self._agent = new_id("agent")
        # The driver of a card may hang; files of the kernel do not.
        self._may_block = any(getattr(meter, "accelerators", ()) for meter in meters)

    @property
    def may_block(self) -> bool:
        return self._may_block

    def facts(self) -> HostFacts:
        return self._facts

    def read(self) -> HostReading:
        began = time.perf_counter()
        reading = self._read()
        self._may_block = self._may_block or time.perf_counter() - began > QUICK_SECONDS_MAX
        return reading

    def _read(self) -> HostReading:
        self._look_for_tracked()
        uses = self._scan.scan()
        holders = tuple(self._holders(uses))
        at_work = {holder.run for holder in holders if holder.weight > 0}
        reading = HostReading(
            boot_id=self._boot_id,
            agent=self._agent,
            at=datetime.now(UTC),
            load=read_load(),
            process_clock_seconds=_process_clock_seconds(),
            components=tuple(_component(reading) for meter in self._meters for reading in meter.read()),
            runs=tuple(
                self._run(use) for key, use in uses.items() if use.pids or use.used_cpu_seconds or key in at_work
            ),
            holders=holders,
        )
        self._table.forget()
        return reading

    def close(self) -> None:
        """Give the devices back."""
        for meter in self._meters:
            meter.close()

    def _look_for_tracked(self) -> None:
        if self._tracked is None:
            return
        # What began since the last scan, or within its tick, the scan looks at by itself. Only there its parents' runs are known
        # before it is asked whose it is, so that nobody leaves a metered run by calling itself tracked.
        ticks = _process_clock_seconds() / _SECONDS_PER_START_UNIT
        for key in self._tracked.look(self._table, before_ticks=self._scanned_ticks - 1):
            self._scan.release(key)
        self._scanned_ticks = ticks

    def _claimed(self, pid: int) -> RunContext | None:
        """The run of a process. One that is not marked as metered measures itself: it is a run only where its tracker says so."""
        context = claimed_by_environment(pid, self._table)
        if context is not None and context.metered:
            return context
        return self._tracked.run_of(pid) if self._tracked is not None else None

    def _run(self, use: RunUse) -> RunReading:
        members = tuple(stat for pid in use.pids if (stat := self._table.seen(pid)) is not None)
        context, slurm_job_id = use.context, use.workload.slurm_job_id
        if slurm_job_id and not context.job_id:
            # All ranks and steps of one Slurm job are one job, whoever started them.
            context = context.model_copy(update={"job_id": f"slurm-{slurm_job_id}"})
        return RunReading(
            context,
            use.cpu_seconds,
            use.resident_bytes,
            members,
            use.workload,
            use.group,
            use.group_cpu_seconds,
            told_by_tracker=not context.metered,
        )

    def _holders(self, uses: Mapping[RunKey, RunUse]) -> Iterable[Holder]:
        run_of = runs_by_pid(uses)
        weights: dict[tuple[str, RunKey], float] = defaultdict(float)
        for meter in self._meters:
            for component, users in meter.users().items():
                # A card that nobody holds is not one whose users nobody tells.
                weights[(component, OTHERS)] += 0.0
                for pid, weight in users.items():
                    weights[(component, run_of.get(pid, OTHERS))] += weight
        return (Holder(component, key, weight) for (component, key), weight in weights.items())


class _Remembering:
    """A process table that keeps what was read of each process during one scan; start times in seconds."""

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._seen: dict[int, ProcessStat] = {}
        self.pids = table.pids
        self.environment = table.environment
        self.newest = table.newest
        self.begun = table.begun

    def read(self, pid: int) -> ProcessStat | None:
        stat = self._table.read(pid)
        if stat is not None:
            self._seen[pid] = stat
        return stat

    def seen(self, pid: int) -> ProcessStat | None:
        """What was read of a process in this scan."""
        stat = self._seen.get(pid)
        return replace(stat, started=stat.started * _SECONDS_PER_START_UNIT) if stat else None

    def forget(self) -> None:
        """Begin another scan."""
        self._seen.clear()


def _component(reading: Reading) -> ComponentReading:
    # A model counts from the boot and a GPU's own counter from its driver's start; sums made by a meter end with it.
    counts_by_itself = reading.method == Method.COUNTER and reading.component.startswith("gpu")
    return ComponentReading(reading, lasting=reading.method == Method.MODEL or counts_by_itself)


# Linux tells start times in ticks since boot, psutil elsewhere in Unix seconds.
_SECONDS_PER_START_UNIT = 1 / os.sysconf("SC_CLK_TCK") if sys.platform == "linux" else 1.0


def _process_clock_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.time()


def boot_id() -> str:
    """Names this boot; where the system has no such name, no absence is ever bridged."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return new_id("boot")
