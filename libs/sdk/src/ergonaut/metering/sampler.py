"""One look at the whole host: reads all meters and processes, and charges what was used since the last look."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ergonaut.events.telemetry import Method, Share
from ergonaut.metering.attribution import OTHERS, HostUse, RunKey, attribute
from ergonaut.metering.load import HostLoad, read_load
from ergonaut.metering.meters import Meter, Reading
from ergonaut.metering.processes import ProcessScan, RunUse, runs_by_pid


@dataclass(frozen=True, slots=True)
class Charge:
    """One component's joules over an interval, as far as they are one run's, others' or nobody's; None if not measured."""

    share: Share
    run_id: str
    reading: Reading
    started_at: datetime
    ended_at: datetime
    energy_joules: float | None
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class HostInterval:
    """All charges of an interval, and the runs that there were."""

    started_at: datetime
    ended_at: datetime
    charges: tuple[Charge, ...]
    runs: Mapping[RunKey, RunUse]


@dataclass(frozen=True, slots=True)
class _Look:
    at: datetime
    load: HostLoad
    runs: Mapping[RunKey, RunUse]


class HostSampler:
    """Takes the differences; however long ago the last look was, nothing is lost in between."""

    def __init__(
        self,
        meters: Sequence[Meter],
        processes: ProcessScan,
        *,
        load: Callable[[], HostLoad] = read_load,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._meters = meters
        self._processes = processes
        self._load = load
        self._now = now
        self._read: dict[tuple[str, str], tuple[datetime, float]] = {}
        self._last = self._look()
        self._difference(self._last)

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The newest reading of every component, measured or not."""
        return self._readings

    def sample(self) -> HostInterval:
        """Charge what was used since the last sample, or since the sampler was made."""
        look, before = self._look(), self._last
        use = self._use(before, look)
        charges: list[Charge] = []
        for started_at, reading, energy_joules in self._difference(look):
            charges += _charges(reading, energy_joules, use, (started_at, look.at))
        self._last = look
        return HostInterval(before.at, look.at, tuple(charges), look.runs)

    def close(self) -> None:
        """Give the meters back."""
        for meter in self._meters:
            meter.close()

    def _look(self) -> _Look:
        return _Look(self._now(), self._load(), self._processes.scan())

    def _difference(self, look: _Look) -> list[tuple[datetime, Reading, float | None]]:
        """Each component's joules since it could last be read, and since when that was."""
        self._readings = tuple(reading for meter in self._meters for reading in meter.read())
        differences: list[tuple[datetime, Reading, float | None]] = []
        for reading in self._readings:
            if reading.energy_joules is None:
                # A counter counts on while it is not read; of what a power sum missed nobody knows anything.
                self._read.pop((reading.component, Method.POWER_SAMPLES), None)
                differences.append((self._last.at, reading, None))
                continue
            # A counter and a power sum of one component begin at different zeros, so each way of measuring has its own.
            way = (reading.component, reading.method)
            since, before = self._read.get(way, (self._last.at, None))
            self._read[way] = (look.at, reading.energy_joules)
            if before is None:
                differences.append((since, _unmeasured(reading, "counting began in this interval"), None))
                continue
            joules = reading.energy_joules - before
            if joules < 0:
                # As after a driver's restart: what the counter had is lost, which does not mean that nothing was used.
                differences.append((since, _unmeasured(reading, "counting began anew in this interval"), None))
                continue
            differences.append((since, reading, joules))
        return differences

    def _use(self, before: _Look, look: _Look) -> HostUse:
        return HostUse(
            seconds=look.load.at_seconds - before.load.at_seconds,
            logical_cpus=look.load.logical_cpus,
            busy_cpu_seconds=look.load.busy_cpu_seconds - before.load.busy_cpu_seconds,
            memory_bytes=look.load.memory_bytes,
            memory_used_bytes=look.load.memory_used_bytes,
            run_cpu_seconds={key: _used_since(before.runs.get(key), use) for key, use in look.runs.items()},
            run_resident_bytes={key: use.resident_bytes for key, use in look.runs.items()},
            gpu_weights=self._gpu_weights(look.runs),
        )

    def _gpu_weights(self, runs: Mapping[RunKey, RunUse]) -> Mapping[str, Mapping[RunKey, float]]:
        run_of = runs_by_pid(runs)
        weights: dict[str, dict[RunKey, float]] = {}
        for meter in self._meters:
            for component, users in meter.users().items():
                weights[component] = defaultdict(float)
                for pid, weight in users.items():
                    weights[component][run_of.get(pid, OTHERS)] += weight
        return weights


def _unmeasured(reading: Reading, because: str) -> Reading:
    return replace(reading, source=f"{reading.source}; {because}")


def _used_since(before: RunUse | None, now: RunUse) -> float:
    # A run that had ended and was forgotten begins at zero again when another process of it turns up.
    if before is None or now.cpu_seconds < before.cpu_seconds:
        return now.cpu_seconds
    return now.cpu_seconds - before.cpu_seconds


def _charges(
    reading: Reading, energy_joules: float | None, use: HostUse, interval: tuple[datetime, datetime]
) -> list[Charge]:
    started_at, ended_at = interval
    shares: list[tuple[Share, RunKey, float | None]]
    if energy_joules is None:
        reading = Reading(reading.component, Method.NOT_MEASURED, reading.source)
        shares = [(Share.RUN, key, None) for key in use.run_cpu_seconds]
    else:
        split = attribute(reading.component, energy_joules, use, reading.idle_fraction)
        shares = [(Share.RUN, key, joules) for key, joules in split.runs.items()]
        shares += [(Share.OTHERS, OTHERS, split.others), (Share.IDLE, OTHERS, split.idle)]
    return [
        Charge(share, run_id, reading, started_at, ended_at, joules, tenant)
        for share, (tenant, run_id), joules in shares
    ]
