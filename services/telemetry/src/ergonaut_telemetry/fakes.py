"""In-memory stand-ins for the ports, for tests; those of Spool and Announcer pass the same contract tests as the real ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ergonaut.errors import Unavailable
from ergonaut.events import Event, IntensityChanged
from ergonaut.events.telemetry import Method
from ergonaut.metering import HostFacts, HostLoad, Reading
from ergonaut.metering.processtable import ProcessStat
from ergonaut.runcontext import RunContext
from ergonaut_telemetry.domain import (
    ComponentReading,
    HostReading,
    Memory,
    RunKey,
    RunReading,
    RunTotals,
    Spooled,
    Turn,
)

IDLE_WATTS = 10.0
WATTS_PER_BUSY_CPU = 20.0
LOGICAL_CPUS = 2
TOLD_KEPT_MAX = 3
_GIB = 2**30


class FakeMeters:
    """The Meters port over a host that does what it is told: two CPUs, 10 W idle, 20 W more for each that works, no GPU."""

    def __init__(self, began_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._began_at = began_at
        self._elapsed_seconds = 1_000.0
        self._busy_seconds = 0.0
        self._boots = self._agents = 1
        self._pid = 100
        self._runs: dict[str, RunReading] = {}
        self.cpu = Reading("cpu", Method.MODEL, "fake model", 0.4)
        self.lasting = True
        self.may_block = False

    def facts(self) -> HostFacts:
        return HostFacts("Fake CPU", LOGICAL_CPUS, 8.0, ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"))

    def read(self) -> HostReading:
        joules = IDLE_WATTS * self._elapsed_seconds + WATTS_PER_BUSY_CPU * self._busy_seconds
        gpu = Reading("gpu", Method.NOT_MEASURED, "fake: no driver")
        return HostReading(
            boot_id=f"boot-{self._boots}",
            agent=f"agent-{self._agents}",
            at=self._began_at + timedelta(seconds=self._elapsed_seconds),
            load=HostLoad(self._elapsed_seconds, self._busy_seconds, LOGICAL_CPUS, 8 * _GIB, 4 * _GIB),
            process_clock_seconds=self._elapsed_seconds,
            components=(
                ComponentReading(replace(self.cpu, energy_joules=joules), lasting=self.lasting),
                ComponentReading(gpu),
            ),
            runs=tuple(self._runs.values()),
        )

    def begin(self, context: RunContext, *, told_by_tracker: bool = False) -> None:
        """Start a run's only process."""
        self._pid += 1
        stat = ProcessStat(self._pid, 1, self._elapsed_seconds, 0.0, 0.0, _GIB, ended=False)
        run = RunReading(context, 0.0, _GIB, (stat,), told_by_tracker=told_by_tracker)
        self._runs[context.run_id] = run

    def end(self, run_id: str) -> None:
        """End a run's process."""
        del self._runs[run_id]

    def pass_time(self, seconds: float, *, others: float = 0.0, **runs: float) -> None:
        """Let time pass in which each named run (`run_1` for `run-1`) and others use these CPU-seconds."""
        self._elapsed_seconds += seconds
        self._busy_seconds += others + sum(runs.values())
        for name, used in runs.items():
            run = self._runs[name.replace("_", "-")]
            stat = replace(run.members[0], cpu_seconds=run.members[0].cpu_seconds + used)
            counted = replace(run, cpu_seconds=run.cpu_seconds + used, members=(stat,))
            self._runs[run.context.run_id] = counted

    def restart_agent(self) -> None:
        """What the agent's own counting does when its process is another one: it begins again at zero."""
        self._agents += 1
        self._runs = {run_id: replace(run, cpu_seconds=0.0) for run_id, run in self._runs.items()}

    def reboot(self) -> None:
        """Everything begins anew."""
        self._boots += 1
        self._agents += 1
        self._elapsed_seconds, self._busy_seconds, self._runs = 1.0, 0.0, {}


class FakeCard:
    """A meter of one card, whose joules and working processes (work by pid) the test sets."""

    accelerators = ("A card",)

    def __init__(self) -> None:
        self.joules = 0.0
        self.working: dict[int, float] = {}
        self.tells_users = True

    def read(self) -> Sequence[Reading]:
        return [Reading("gpu0", Method.COUNTER, "test", 0.05, self.joules)]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return {"gpu0": self.working} if self.tells_users else {}

    def close(self) -> None: ...


class FakeSpool:
    """The Spool port without a disk: bounded by a number of events, dropping a tenth when full; `broken` takes nothing."""

    def __init__(self, events_max: int = 1_000, producer: str = "agent-fake") -> None:
        self._events_max = events_max
        self._producer = producer
        self._memory = Memory()
        self._events: list[Spooled] = []
        self._position = 0
        self._dropped = 0
        self._runs: dict[RunKey, RunTotals] = {}
        self._zones: dict[str, list[IntensityChanged]] = {}
        self.broken = False

    @property
    def producer(self) -> str:
        return self._producer

    def remembered(self) -> Memory:
        return self._memory

    def record(self, turn: Turn) -> None:
        self._check_works()
        for event in turn.events:
            if len(self._events) >= self._events_max:
                tenth = max(1, len(self._events) // 10)
                self._events, self._dropped = self._events[tenth:], self._dropped + tenth
            self._position += 1
            self._events.append(Spooled(self._position, event))
        self._runs |= {(run.tenant, run.run_id): run for run in turn.runs}
        self._memory = turn.memory

    def oldest(self, count: int) -> Sequence[Spooled]:
        return self._events[:count]

    def sent(self, position: int) -> None:
        self._events = [spooled for spooled in self._events if spooled.position > position]

    def waiting(self) -> int:
        return len(self._events)

    def dropped(self) -> int:
        return self._dropped

    def run(self, tenant: str, run_id: str) -> RunTotals | None:
        return self._runs.get((tenant, run_id))

    def keep_intensity(self, event: IntensityChanged) -> bool:
        self._check_works()
        known = [one for one in self._zones.get(event.zone, ()) if one.occurred_at != event.occurred_at]
        if known and known[-1].occurred_at > event.occurred_at:
            return False
        self._zones[event.zone] = [*known, event][-TOLD_KEPT_MAX:]
        return True

    def intensities(self) -> Sequence[IntensityChanged]:
        return [event for told in self._zones.values() for event in told]

    def _check_works(self) -> None:
        if self.broken:
            raise Unavailable("the fake spool was told to take nothing")


class FakeAnnouncer:
    """The Announcer port as a list of what was told, each id once, as the bus keeps it; `away` takes nothing."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.away = False

    async def tell(self, event: Event, body: bytes = b"") -> None:  # noqa: ARG002 - the port's contract
        if self.away:
            raise Unavailable("the fake bus was told to be away")
        if event.event_id not in {known.event_id for known in self.told}:
            self.told.append(event)
