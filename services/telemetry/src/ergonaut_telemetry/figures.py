"""What Prometheus may read of the agent. The figures are made when they are scraped; a sample only adds to sums.

Sums over `run` and `share` are the host's: `sum by (component) (ergonaut_power_watts)` is what the meters say.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ergonaut.events import PowerSample
from ergonaut.events.telemetry import Method
from ergonaut_telemetry.domain import HostReading, RunKey, Turn, mean_watts

RUNS_MAX = 200
"""Runs that have series of their own, some ten each. What further runs use stands under the share `run` without a name; the
ledger has them all."""

RUN_KEPT_SECONDS = 300.0
"""How long a run's sums stand after its last sample: longer than anybody waits between two scrapes."""

samples = Counter("ergonaut_samples", "Samples of the host that were taken and kept.")
failures = Counter("ergonaut_sample_failures", "Samples that the spool did not take; the next covered their time.")
sent = Counter("ergonaut_spool_sent", "Events that the bus has stored.")
drops = Counter("ergonaut_spool_drops", "Events that were dropped unsent, since the spool was full.")
spooled = Gauge("ergonaut_spool_events", "Events that wait in the spool.")

_Whose = tuple[str, str, str]
_NOBODY: RunKey = ("", "")


@dataclass(slots=True)
class _Sums:
    """Of one payer since the agent started, or since the run was first seen."""

    joules: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    carbon_grams_co2e: float = 0.0
    cost_usd: float = 0.0
    told_at: float = 0.0


class HostFigures(Collector):
    """The host's energy by component, share and run."""

    def __init__(self) -> None:
        self._sums: dict[_Whose, _Sums] = {}
        self._turn: Turn | None = None

    def show(self, turn: Turn) -> None:
        """Take a sample in. What is not measured adds nothing, rather than a zero."""
        samples.inc()
        self._turn = turn
        now = turn.host.sampled_at.timestamp()
        for whose, sample in self._owed(turn):
            sums = self._sums.setdefault(whose, _Sums())
            sums.told_at = now
            if sample.energy_joules is not None:
                sums.joules[sample.component] += sample.energy_joules
            sums.carbon_grams_co2e += sample.carbon_grams_co2e or 0.0
            sums.cost_usd += sample.cost_usd or 0.0
        if len(self._sums) > len(turn.runs):
            old = [whose for whose, sums in self._sums.items() if whose[2] and now - sums.told_at > RUN_KEPT_SECONDS]
            for whose in old:
                del self._sums[whose]

    def collect(self) -> Iterable[Metric]:
        turn = self._turn
        yield from self._totals()
        yield GaugeMetricFamily(
            "ergonaut_last_sample_timestamp_seconds",
            "When the newest sample was taken, Unix seconds; 0 before the first.",
            value=turn.host.sampled_at.timestamp() if turn else 0.0,
        )
        if turn is None or turn.memory.reading is None:
            return
        power = GaugeMetricFamily(
            "ergonaut_power_watts",
            "Power over the last sample, by component and whose it is.",
            labels=["component", "share", "tenant", "run"],
        )
        grouped: dict[tuple[str, _Whose], list[PowerSample]] = defaultdict(list)
        for whose, sample in self._owed(turn):
            grouped[(sample.component, whose)].append(sample)
        for (component, whose), mine in grouped.items():
            if (watts := mean_watts(mine)) is not None:
                power.add_metric((component, *whose), watts)
        yield power
        yield from _components(turn.memory.reading)
        yield _runs(turn.memory.reading)
        yield _intensities(turn)

    def _owed(self, turn: Turn) -> Iterable[tuple[_Whose, PowerSample]]:
        for event in turn.events:
            for sample in event.samples:
                run = (event.tenant, sample.run_id) if sample.run_id else _NOBODY
                whose = (sample.share.value, *run)
                if sample.run_id and whose not in self._sums and len(self._sums) >= RUNS_MAX:
                    whose = (sample.share.value, *_NOBODY)
                yield whose, sample

    def _totals(self) -> Iterable[Metric]:
        labels = ["share", "tenant", "run"]
        energy = CounterMetricFamily(
            "ergonaut_energy_joules", "Energy since the agent started.", labels=["component", *labels]
        )
        carbon = CounterMetricFamily("ergonaut_carbon_grams_co2e", "CO2e of that energy, grams.", labels=labels)
        cost = CounterMetricFamily("ergonaut_cost_usd", "Electricity and rent, US dollars.", labels=labels)
        for whose, sums in self._sums.items():
            for component, joules in sums.joules.items():
                energy.add_metric((component, *whose), joules)
            carbon.add_metric(whose, sums.carbon_grams_co2e)
            cost.add_metric(whose, sums.cost_usd)
        return (energy, carbon, cost)


def _components(reading: HostReading) -> Iterable[Metric]:
    measured = GaugeMetricFamily(
        "ergonaut_component_measured",
        "1 for a component that has a figure, 0 for one that nothing here can measure.",
        labels=["component", "method"],
    )
    spread = GaugeMetricFamily(
        "ergonaut_component_range_fraction", "The true figure is within plus or minus this.", labels=["component"]
    )
    for part in reading.components:
        one = part.reading
        measured.add_metric((one.component, one.method.value), float(one.method != Method.NOT_MEASURED))
        if one.range_fraction is not None:
            spread.add_metric((one.component,), one.range_fraction)
    return (measured, spread)


def _runs(reading: HostReading) -> Metric:
    """What else a run is known by, to be joined on tenant and run."""
    info = GaugeMetricFamily(
        "ergonaut_run_info",
        "1 for each run that uses the host.",
        labels=["tenant", "run", "job", "project", "container", "pod", "slurm_job"],
    )
    for run in reading.runs[:RUNS_MAX]:
        context, workload = run.context, run.workload
        names: Sequence[str] = (
            *run.key, context.job_id, context.project, workload.container_id, workload.pod_uid, workload.slurm_job_id,
        )  # fmt: skip
        info.add_metric(names, 1.0)
    return info


def _intensities(turn: Turn) -> Metric:
    gauge = GaugeMetricFamily(
        "ergonaut_intensity_grams_per_kwh", "Grid intensity of the last sample.", labels=["zone", "kind"]
    )
    for zone, kind, grams in {
        (event.zone, event.intensity_kind, event.intensity_grams_per_kwh) for event in turn.events
    }:
        gauge.add_metric((zone, kind), grams)
    return gauge


_host = HostFigures()
REGISTRY.register(_host)
show = _host.show
