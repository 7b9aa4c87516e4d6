"""What Prometheus reads: powers by share and run, none for what is not measured, and none that is out of date."""

import pytest
from prometheus_client import CollectorRegistry

from ergonaut.runcontext import RunContext
from ergonaut_telemetry import figures
from ergonaut_telemetry.fakes import FakeMeters
from ergonaut_telemetry.figures import HostFigures
from ergonaut_telemetry.service import Sampling


class Scrape:
    """Figures of their own, so that no other test's are in them."""

    def __init__(self) -> None:
        self.figures = HostFigures()
        self._registry = CollectorRegistry()
        self._registry.register(self.figures)

    def value(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(name, labels)

    def cpu(self, name: str, share: str, run_id: str = "") -> float | None:
        tenant = "default" if run_id else ""
        return self.value(name, component="cpu", share=share, tenant=tenant, run=run_id)

    def sum(self, name: str) -> float:
        metrics = (sample for family in self._registry.collect() for sample in family.samples)
        return sum(sample.value for sample in metrics if sample.name == name)


@pytest.fixture
def scrape() -> Scrape:
    return Scrape()


def test_powers_are_shown_by_share_and_run_and_vanish_with_the_run(
    meters: FakeMeters, sampling: Sampling, run_1: RunContext, scrape: Scrape
) -> None:
    scrape.figures.show(sampling.sample())
    meters.begin(run_1)
    meters.pass_time(1.0, run_1=1.0)
    scrape.figures.show(sampling.sample())
    during = scrape.sum("ergonaut_power_watts")
    of_run = scrape.cpu("ergonaut_power_watts", "run", "run-1")
    meters.end("run-1")
    meters.pass_time(1.0)
    scrape.figures.show(sampling.sample())

    assert during == pytest.approx(30.0)
    assert of_run is not None
    assert of_run > 10.0
    assert scrape.cpu("ergonaut_power_watts", "run", "run-1") is None
    assert scrape.cpu("ergonaut_power_watts", "idle") == 10.0
    assert scrape.value("ergonaut_power_watts", component="gpu", share="idle", tenant="", run="") is None
    assert scrape.value("ergonaut_component_measured", component="gpu", method="not-measured") == 0.0


def test_energies_add_up_to_the_hosts_and_stand_until_the_run_is_long_gone(
    meters: FakeMeters, sampling: Sampling, run_1: RunContext, scrape: Scrape
) -> None:
    scrape.figures.show(sampling.sample())
    meters.begin(run_1)
    meters.pass_time(2.0, run_1=1.0, others=0.5)
    scrape.figures.show(sampling.sample())
    meters.end("run-1")
    meters.pass_time(1.0)
    scrape.figures.show(sampling.sample())

    assert scrape.sum("ergonaut_energy_joules_total") == pytest.approx(10.0 * 3 + 20.0 * 1.5)
    assert (scrape.cpu("ergonaut_energy_joules_total", "run", "run-1") or 0.0) > 0
    meters.pass_time(figures.RUN_KEPT_SECONDS + 1)
    for _ in range(2):
        meters.pass_time(1.0)
        scrape.figures.show(sampling.sample())
    assert scrape.cpu("ergonaut_energy_joules_total", "run", "run-1") is None


def test_runs_beyond_the_bound_are_counted_together_without_a_name(
    meters: FakeMeters, sampling: Sampling, scrape: Scrape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "RUNS_MAX", 4)
    scrape.figures.show(sampling.sample())
    for number in range(1, 10):
        meters.begin(RunContext(run_id=f"run-{number}", metered=True))
    meters.pass_time(1.0, **{f"run_{number}": 0.2 for number in range(1, 10)})
    scrape.figures.show(sampling.sample())

    named = [n for n in range(1, 10) if scrape.cpu("ergonaut_power_watts", "run", f"run-{n}") is not None]
    assert len(named) <= 4
    assert scrape.sum("ergonaut_power_watts") == pytest.approx(10.0 + 20.0 * 1.8)
    assert (scrape.cpu("ergonaut_power_watts", "run") or 0.0) > 0


def test_a_run_is_known_by_its_job_and_project_too(meters: FakeMeters, sampling: Sampling, scrape: Scrape) -> None:
    meters.begin(RunContext(run_id="run-1", job_id="job-1", project="vision", metered=True))
    scrape.figures.show(sampling.sample())

    names = {"job": "job-1", "project": "vision", "container": "", "pod": "", "slurm_job": ""}
    assert scrape.value("ergonaut_run_info", tenant="default", run="run-1", **names) == 1.0
