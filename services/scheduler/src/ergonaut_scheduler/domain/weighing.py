"""What a job would use on each offer at each start that is possible, and which limits that would break.

The rules, so that a person can check a figure:
energy  = the machine's expected watts x the job's share of it x duration x PUE; the share is the larger of the job's part of the
          vCPUs and of the accelerators, since the machine's watts are told for full load;
dollars = rent of the whole machine, rounded up to the billing increment, + electricity of that energy where it is paid on top;
grams   = that energy, hour by hour, at the zone's forecast intensity of the hour.
Start-up and transfer of files are not in the figures: nobody has measured them yet.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ergonaut.jobs import Budget, JobSpec, Resources
from ergonaut.units import MICROUSD_PER_USD, SECONDS_PER_HOUR, kwh_from_joules
from ergonaut_scheduler.domain.holds import Hold
from ergonaut_scheduler.domain.offers import Forecast, Offer
from ergonaut_scheduler.domain.wording import dollars, duration, grams, joules, number

STARTS_MAX = 48
"""Two days of hours: forecasts of intensity are worth little beyond."""

CANDIDATES_MAX = 5_000
"""About 0.2 s of weighing on a small machine; with more than that, the later starts and then the dearest offers are left out."""

_ROUNDING = 1e-9  # floating-point dust must not cost a whole billing increment


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One limit that a candidate breaks: the job's field, why, and by which fraction of the limit."""

    field: str
    because: str
    excess: float


@dataclass(frozen=True, slots=True)
class Weighed:
    """An offer at a start time with what it is expected to use, and what stands in its way."""

    offer: Offer
    starts_at: datetime
    ends_at: datetime
    cost_usd: float
    energy_joules: float
    carbon_grams: float
    obstacles: tuple[Obstacle, ...]

    @property
    def feasible(self) -> bool:
        """Whether nothing stands in its way."""
        return not self.obstacles


@dataclass(frozen=True, slots=True)
class Supply:
    """All that may carry a job: offers, each zone's forecast, and the providers that can be used here."""

    offers: Sequence[Offer]
    forecasts: Mapping[str, Forecast]
    connected: frozenset[str]


def weigh(spec: JobSpec, supply: Supply, now: datetime, hold: Hold | None = None) -> list[Weighed]:
    """Every candidate; an offer that can never carry the job is weighed once, so that its reason can be told."""
    offers = sorted(supply.offers, key=lambda offer: (offer.price_microusd_per_hour, offer.offer_id))[:CANDIDATES_MAX]
    lasting = {offer.offer_id: tuple(_lasting_obstacles(spec, offer, supply.connected)) for offer in offers}
    fitting = sum(1 for obstacles in lasting.values() if not obstacles)
    starts_each = (CANDIDATES_MAX - (len(offers) - fitting)) // max(1, fitting)
    possible = [at for at in possible_starts(spec, now) if hold is None or hold.lets_start(at)]
    starts = possible[: max(1, starts_each)]
    return [
        _weighed(spec, offer, start, supply.forecasts[offer.zone], lasting[offer.offer_id])
        for offer in offers
        for start in (starts[:1] if lasting[offer.offer_id] else starts)
    ]


def possible_starts(spec: JobSpec, now: datetime) -> list[datetime]:
    """Now, then each full hour at which the job could begin and still keep its deadline."""
    starts = [now]
    hour = now.replace(minute=0, second=0, microsecond=0)
    latest = spec.deadline - _duration(spec) if spec.deadline else None
    while len(starts) < STARTS_MAX:
        hour += timedelta(hours=1)
        if latest is not None and hour > latest:
            break
        starts.append(hour)
    return starts


def machine_share(resources: Resources, offer: Offer) -> float:
    """The part of the machine's full load that the job is expected to be."""
    of_vcpus = resources.vcpus / offer.vcpus
    of_accelerators = resources.accelerator_count / offer.accelerator_count if offer.accelerator_count else 0.0
    return min(1.0, max(of_vcpus, of_accelerators))


def rent_usd(offer: Offer, duration_seconds: float) -> float:
    """What the machine's rent comes to; an increment that was begun is paid whole."""
    increments = math.ceil(duration_seconds / offer.billing_increment_seconds - _ROUNDING)
    paid_seconds = max(1, increments) * offer.billing_increment_seconds
    return offer.price_microusd_per_hour / MICROUSD_PER_USD * paid_seconds / SECONDS_PER_HOUR


def _duration(spec: JobSpec) -> timedelta:
    return timedelta(seconds=spec.duration_seconds_expected)


def _weighed(
    spec: JobSpec, offer: Offer, starts_at: datetime, forecast: Forecast, lasting: tuple[Obstacle, ...]
) -> Weighed:
    ends_at = starts_at + _duration(spec)
    watts = offer.power_watts_expected * machine_share(spec.resources, offer) * offer.pue
    energy_joules = watts * spec.duration_seconds_expected
    electricity_usd = offer.electricity_microusd_per_kwh / MICROUSD_PER_USD * kwh_from_joules(energy_joules)
    cost_usd = rent_usd(offer, spec.duration_seconds_expected) + electricity_usd
    carbon_grams = watts / 1000 * forecast.grams_hours_per_kwh(starts_at, ends_at)
    passing = (
        *_deadline_obstacle(spec, ends_at),
        *_budget_obstacles(spec.budget, cost_usd, energy_joules, carbon_grams),
    )
    return Weighed(offer, starts_at, ends_at, cost_usd, energy_joules, carbon_grams, (*lasting, *passing))


def _lasting_obstacles(spec: JobSpec, offer: Offer, connected: frozenset[str]) -> Iterator[Obstacle]:
    """What stands in an offer's way at any hour."""
    if spec.providers and offer.provider not in spec.providers:
        allowed = ", ".join(spec.providers)
        yield Obstacle("providers", f"the job allows only {allowed}", 1.0)
    yield from _resource_obstacles(spec.resources, offer)
    if offer.provider not in connected:
        told = f"{offer.provider} is not connected (ERGONAUT_SCHEDULER_PROVIDERS)"
        yield Obstacle("providers", told, 1.0)


def _resource_obstacles(wanted: Resources, offer: Offer) -> Iterator[Obstacle]:
    if wanted.vcpus > offer.vcpus:
        told = f"has {number(offer.vcpus)} of the {number(wanted.vcpus)} vCPUs wanted"
        yield Obstacle("resources.vcpus", told, wanted.vcpus / offer.vcpus - 1)
    if wanted.memory_gib > offer.memory_gib:
        told = f"has {number(offer.memory_gib)} of the {number(wanted.memory_gib)} GiB of memory wanted"
        yield Obstacle("resources.memory_gib", told, wanted.memory_gib / offer.memory_gib - 1)
    if wanted.accelerator and wanted.accelerator != offer.accelerator:
        told = f"has {offer.accelerator or 'no accelerator'}, not {wanted.accelerator}"
        yield Obstacle("resources.accelerator", told, float(wanted.accelerator_count))
    elif wanted.accelerator_count > offer.accelerator_count:
        told = f"has {offer.accelerator_count} of the {wanted.accelerator_count} {wanted.accelerator} wanted"
        yield Obstacle("resources.accelerator_count", told, wanted.accelerator_count / offer.accelerator_count - 1)


def _deadline_obstacle(spec: JobSpec, ends_at: datetime) -> Iterator[Obstacle]:
    if spec.deadline and ends_at > spec.deadline:
        late_seconds = (ends_at - spec.deadline).total_seconds()
        told = f"ends {duration(late_seconds)} after the deadline"
        yield Obstacle("deadline", told, late_seconds / spec.duration_seconds_expected)


def _budget_obstacles(budget: Budget, cost_usd: float, energy_joules: float, carbon_grams: float) -> Iterator[Obstacle]:
    for field, limit, expected, told in (
        ("budget.cost_usd", budget.cost_usd, cost_usd, dollars),
        ("budget.carbon_grams_co2e", budget.carbon_grams_co2e, carbon_grams, grams),
        ("budget.energy_joules", budget.energy_joules, energy_joules, joules),
    ):
        if limit is not None and expected > limit:
            because = f"expected {told(expected)} is over the budget of {told(limit)}"
            yield Obstacle(field, because, expected / limit - 1)
