"""What Prometheus reads: powers by share, none for what is not measured, and none that is out of date."""

from prometheus_client import REGISTRY

from ergonaut.runcontext import RunContext
from ergonaut_telemetry import figures
from ergonaut_telemetry.fakes import FakeMeters
from ergonaut_telemetry.service import Sampling


def watts(component: str, share: str) -> float | None:
    return REGISTRY.get_sample_value("ergonaut_power_watts", {"component": component, "share": share})


def test_powers_are_shown_by_share_and_vanish_with_their_run(
    meters: FakeMeters, sampling: Sampling, run_1: RunContext
) -> None:
    figures.show(sampling.sample())
    meters.begin(run_1)
    meters.pass_time(1.0, run_1=1.0)
    figures.show(sampling.sample())
    during = {share: watts("cpu", share) for share in ("run", "others", "idle")}
    meters.end("run-1")
    meters.pass_time(1.0)
    figures.show(sampling.sample())

    assert sum(value or 0.0 for value in during.values()) == 30.0
    assert watts("cpu", "run") is None
    assert watts("cpu", "idle") == 10.0
    assert watts("gpu", "idle") is None
