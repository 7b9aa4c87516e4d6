"""Power samples as agents tell them: hosts with many runs, one message a host and second, as `model_dump_json` writes them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ergonaut.events import PowerSample, PowerSampled
from ergonaut.events.telemetry import Method, Share
from ergonaut.units import carbon_grams

T0 = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
COMPONENTS = (("cpu", 65.0), ("dram", 12.0), ("gpu0", 310.0), ("gpu1", 290.0))
INTENSITY_GRAMS_PER_KWH = 344.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many hosts, each with so many runs; every run has four components and its machine."""

    hosts: int
    runs_per_host: int
    seed: int = 7

    @property
    def samples_per_message(self) -> int:
        """Every run's components and machine, and the idle and others' part of every component."""
        return self.runs_per_host * (len(COMPONENTS) + 1) + 2 * len(COMPONENTS)

    def seconds(self, count: int) -> Iterator[PowerSampled]:
        """The messages of so many seconds, host by host within each second."""
        chance = random.Random(self.seed)  # noqa: S311 - figures for a benchmark
        for second in range(count):
            for host in range(self.hosts):
                yield self._message(host, second, chance)

    def _message(self, host: int, second: int, chance: random.Random) -> PowerSampled:
        at = T0 + second * SECOND + timedelta(microseconds=chance.randrange(1000))
        samples = [sample for run in range(self.runs_per_host) for sample in _of_run(host, run, at, chance)]
        samples += [_sample(share, "", part, at, chance) for share in (Share.OTHERS, Share.IDLE) for part in COMPONENTS]
        return PowerSampled(
            event_id=f"event-{host:05x}-{second:08x}",
            tenant="default",
            occurred_at=at + SECOND,
            host=f"host-{host:04d}",
            producer=f"agent-{host:04d}",
            sequence=second + 1,
            zone="DE",
            intensity_grams_per_kwh=INTENSITY_GRAMS_PER_KWH,
            intensity_kind="yearly",
            intensity_source="Umweltbundesamt 2025",
            pue=1.2,
            samples=tuple(samples),
        )


def _of_run(host: int, run: int, at: datetime, chance: random.Random) -> Iterator[PowerSample]:
    run_id = f"run-{host:04d}-{run:04d}"
    for part in COMPONENTS:
        yield _sample(Share.RUN, run_id, part, at, chance)
    yield PowerSample(
        share=Share.RUN,
        run_id=run_id,
        job_id=f"job-{host:04d}-{run:04d}",
        project=f"project-{run % 8}",
        component="machine",
        method=Method.NOT_MEASURED,
        source="rent",
        started_at=at,
        ended_at=at + SECOND,
        cost_usd=0.0004,
        embodied_grams_co2e=0.011,
    )


def _sample(share: Share, run_id: str, part: tuple[str, float], at: datetime, chance: random.Random) -> PowerSample:
    component, watts = part
    joules = watts * chance.uniform(0.2, 1.0)
    return PowerSample(
        share=share,
        run_id=run_id,
        job_id=run_id.replace("run", "job"),
        project=f"project-{int(run_id[-4:]) % 8}" if run_id else "",
        component=component,
        method=Method.COUNTER if component.startswith("gpu") else Method.MODEL,
        source="NVML total energy" if component.startswith("gpu") else "utilisation times thermal design power",
        range_fraction=0.05 if component.startswith("gpu") else 0.3,
        started_at=at,
        ended_at=at + SECOND,
        energy_joules=joules,
        carbon_grams_co2e=carbon_grams(joules, INTENSITY_GRAMS_PER_KWH) * 1.2,
        cost_usd=joules / 3.6e6 * 0.31,
    )
