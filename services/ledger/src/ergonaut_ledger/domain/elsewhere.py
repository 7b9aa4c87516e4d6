"""What the same run would have cost and emitted on other machines and at other hours. Asked for by `Reporting`.

One assumption carries it all: another machine is as fast and as hungry as the one that the run was measured on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ergonaut.units import SECONDS_PER_HOUR, carbon_grams, kwh_from_joules, usd_from_micro

HOURS_A_DAY = 24
_LEVELS = frozenset({"yearly", "world-average"})


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine-hour as it was for sale when the run ran."""

    offer_id: str
    provider: str
    region: str
    zone: str
    machine_type: str
    vcpus: float
    memory_gib: float
    accelerator: str
    accelerator_count: int
    price_microusd_per_hour: int
    electricity_microusd_per_kwh: int
    pue: float
    billing_increment_seconds: int


@dataclass(frozen=True, slots=True)
class Need:
    """The least that a machine must have to carry the run."""

    vcpus: float = 0
    memory_gib: float = 0
    accelerator: str = ""
    accelerator_count: int = 0

    def is_met_by(self, offer: Offer) -> bool:
        """Whether a machine of this offer could carry the run."""
        big_enough = offer.vcpus >= self.vcpus and offer.memory_gib >= self.memory_gib
        if not self.accelerator_count:
            return big_enough
        # Of accelerators whose name nobody knows, no other can be said to be as fast.
        is_same = bool(self.accelerator) and offer.accelerator == self.accelerator
        accelerated = is_same and offer.accelerator_count >= self.accelerator_count
        return big_enough and accelerated


def with_used_accelerators(need: Need, own: Offer, used: int) -> Need:
    """The need of a run that used so many accelerators, whether or not it asked for them: without them it cannot be carried.

    >>> own = Offer("a", "a", "r", "DE", "m", 2, 4, "H100-80GB", 8, 0, 0, 1.0, 1)
    >>> with_used_accelerators(Need(vcpus=2), own, 1)
    Need(vcpus=2, memory_gib=0, accelerator='H100-80GB', accelerator_count=1)
    """
    if not used:
        return need
    count = max(need.accelerator_count, used)
    return replace(need, accelerator=need.accelerator or own.accelerator, accelerator_count=count)


@dataclass(frozen=True, slots=True)
class HourOfDay:
    """A zone's intensity at one hour of the day, the nearest known to the run."""

    intensity_grams_per_kwh: float
    kind: str
    range_fraction: float | None = None
    """The true intensity lies within plus or minus this fraction; None where nobody knows."""


Days = Mapping[str, Mapping[int, HourOfDay]]
"""Intensities by zone and by hour of the day, UTC."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The run as it was measured: what is carried over to other places."""

    own: Offer
    started_at: datetime
    duration_seconds: float
    energy_joules: float
    own_hour: HourOfDay
    """The intensity that its own samples were reckoned with."""
    has_own_figure: bool = False
    """Whether who runs it set that intensity, so that no zone's day says anything of other hours at its place."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The run under one offer and start."""

    offer: Offer
    starts_at: datetime
    cost_usd: float
    carbon_grams_co2e: float
    intensity_kind: str
    intensity_range_fraction: float | None = None


def other_places(measured: Measured, need: Need, offers: Iterable[Offer], days: Days) -> list[Elsewhere]:
    """The run under each offer that could carry it, its own among them, at its own hour; cheapest first, then cleanest.

    At its own place the intensity is that of its own samples; where that is a year's and the zone's hours are known, its own
    hours', since the hours of other zones are no yearly figures either. An offer in a zone of which no intensity is known is
    left out: grams that nobody knows are not zero.
    """
    candidates = {offer.offer_id: offer for offer in offers if need.is_met_by(offer)}
    candidates[measured.own.offer_id] = measured.own
    own_hour = _own_hour_like(measured, days) if is_level(measured.own_hour.kind) else measured.own_hour
    places = [
        _estimate(measured, offer, measured.started_at, hour)
        for offer in candidates.values()
        if (hour := _hour_at(measured, offer, days, own_hour)) is not None
    ]
    return sorted(places, key=lambda place: (place.cost_usd, place.carbon_grams_co2e, place.offer.offer_id))


def other_hours(measured: Measured, days: Days) -> list[Elsewhere]:
    """The run at its own place, begun at the same minute of each hour of its day; in order of time.

    At its own hour the intensity is that of its own samples where the zone's day rests on the same, and else that day's, so that
    like is compared with like. Where its zone has no known day, that of its samples stands for all hours.
    """
    own_hour = _own_hour_like(measured, days)
    flat = dict.fromkeys(range(HOURS_A_DAY), measured.own_hour)
    day = _own_day(measured, days) or flat
    starts = [measured.started_at.replace(hour=hour) for hour in range(HOURS_A_DAY)]
    estimates = [
        (start, own_hour if start == measured.started_at else _mean_over(day, start, measured.duration_seconds))
        for start in starts
    ]
    return [_estimate(measured, measured.own, start, hour) for start, hour in estimates if hour is not None]


def is_level(kind: str) -> bool:
    """Whether an intensity, or one of several joined by `and`, is a long time's mean and says nothing of an hour.

    >>> is_level("yearly"), is_level("typical and yearly"), is_level("typical")
    (True, True, False)
    """
    return not _LEVELS.isdisjoint(kind.split(" and "))


def rest_alike(one: str, other: str) -> bool:
    """Whether two kinds of intensity rest on the same: both on the day itself, both on a typical one, or both on one mean.

    >>> rest_alike("measured", "forecast"), rest_alike("measured", "typical"), rest_alike("yearly", "typical")
    (True, False, False)
    """
    return _bases(one) == _bases(other)


def rent_usd(offer: Offer, duration_seconds: float) -> float:
    """Rent for a time, each begun billing increment in full.

    >>> hourly = Offer("a", "a", "r", "DE", "m", 2, 4, "", 0, 1_000_000, 0, 1.0, 3600)
    >>> rent_usd(hourly, 3601)
    2.0
    """
    increments = math.ceil(duration_seconds / offer.billing_increment_seconds)
    hours = increments * offer.billing_increment_seconds / SECONDS_PER_HOUR
    return usd_from_micro(offer.price_microusd_per_hour * hours)


def electricity_usd(offer: Offer, energy_joules: float) -> float:
    """Electricity that is paid on top of the rent, for joules at the machine: paid by the building's meter, PUE and all."""
    return usd_from_micro(offer.electricity_microusd_per_kwh * kwh_from_joules(energy_joules) * offer.pue)


def method_sentence(not_measured: Sequence[str]) -> str:
    """How the estimates came to be, for people."""
    left_out = f"; {', '.join(not_measured)} was not measured and is left out" if not_measured else ""
    return (
        "The run's measured energy and time are taken over unchanged (another machine is assumed to be as fast and as hungry), "
        "times the zone's intensity at that hour (the nearest known day's where that day's is not known) and the site's PUE "
        "(where the run's own samples rest on another kind of intensity, such as a year's, its own hours are of that day, too); "
        f"plus rent for every begun billing increment, and electricity at the building's meter where it is paid on top{left_out}."
    )


def _bases(kind: str) -> set[str]:
    return {"of the day" if part in ("measured", "forecast") else part for part in kind.split(" and ")}


def _own_day(measured: Measured, days: Days) -> Mapping[int, HourOfDay]:
    return {} if measured.has_own_figure else days.get(measured.own.zone, {})


def _own_hour_like(measured: Measured, days: Days) -> HourOfDay:
    """The intensity of the run's own hours on the basis of its zone's day; that of its samples where they rest on the same."""
    told = _mean_over(_own_day(measured, days), measured.started_at, measured.duration_seconds)
    return measured.own_hour if told is None or rest_alike(told.kind, measured.own_hour.kind) else told


def _hour_at(measured: Measured, offer: Offer, days: Days, own_hour: HourOfDay) -> HourOfDay | None:
    """The intensity at an offer's site, the run's own in its own zone."""
    if offer.offer_id == measured.own.offer_id or (offer.zone and offer.zone == measured.own.zone):
        return own_hour
    return _mean_over(days.get(offer.zone, {}), measured.started_at, measured.duration_seconds)


def _estimate(measured: Measured, offer: Offer, starts_at: datetime, hour: HourOfDay) -> Elsewhere:
    rent = rent_usd(offer, measured.duration_seconds)
    return Elsewhere(
        offer=offer,
        starts_at=starts_at,
        cost_usd=rent + electricity_usd(offer, measured.energy_joules),
        carbon_grams_co2e=carbon_grams(measured.energy_joules, hour.intensity_grams_per_kwh) * offer.pue,
        intensity_kind=hour.kind,
        intensity_range_fraction=hour.range_fraction,
    )


def _mean_over(day: Mapping[int, HourOfDay], starts_at: datetime, duration_seconds: float) -> HourOfDay | None:
    """The intensity over a time, each hour of the day by its share of it; None where one that counts is not known."""
    shares = _hours_touched(starts_at, duration_seconds)
    if any(hour not in day for hour in shares):
        return None
    total_seconds = sum(shares.values())
    weighed = sum(day[hour].intensity_grams_per_kwh * seconds for hour, seconds in shares.items())
    # Hours of one day may err alike, so their ranges add up and none cancels another.
    off_by = [
        None
        if (fraction := day[hour].range_fraction) is None
        else fraction * day[hour].intensity_grams_per_kwh * seconds
        for hour, seconds in shares.items()
    ]
    known = [grams for grams in off_by if grams is not None]
    range_fraction = math.fsum(known) / weighed if weighed and len(known) == len(off_by) else None
    return HourOfDay(weighed / total_seconds, day[starts_at.hour].kind, range_fraction)


def _hours_touched(starts_at: datetime, duration_seconds: float) -> dict[int, float]:
    """Seconds that fall into each hour of the day. Whole days fall into all hours alike and are not counted one by one."""
    whole_days, rest_seconds = divmod(max(duration_seconds, 1.0), HOURS_A_DAY * SECONDS_PER_HOUR)
    shares = dict.fromkeys(range(HOURS_A_DAY), whole_days * SECONDS_PER_HOUR) if whole_days else {}
    into_hour_seconds = starts_at.minute * 60 + starts_at.second + starts_at.microsecond / 1e6
    hour = starts_at.hour
    while rest_seconds > 0:
        seconds = min(rest_seconds, SECONDS_PER_HOUR - into_hour_seconds)
        shares[hour] = shares.get(hour, 0.0) + seconds
        rest_seconds -= seconds
        hour, into_hour_seconds = (hour + 1) % HOURS_A_DAY, 0.0
    return shares
