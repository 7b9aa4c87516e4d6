"""What could be done to use less, each with an expected saving and what that rests on. Asked for by `Analysing`.

Nothing is recommended without a measurement of the run or host that it is about; where the effect is not measured, a named
source says how large it is and how far that may be off.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ergonaut.units import carbon_grams
from ergonaut_ledger.domain.accelerators import board_power_watts
from ergonaut_ledger.domain.elsewhere import (
    Elsewhere,
    Need,
    Offer,
    electricity_usd,
    is_level,
    rent_usd,
    rest_alike,
    with_used_accelerators,
)
from ergonaut_ledger.domain.footprints import Footprint, RunRecord, active_seconds

SAVING_FRACTION_MIN = 0.05
"""Smaller savings are within what intensities and meters are off by, and not worth the trouble."""

CAP_SAVING_FRACTION, CAP_TIME_FRACTION, CAP_OF_BOARD = 0.137, 0.068, 0.6
"""A cap at 150 of 250 W saved 13.7 % of the energy and took 6.8 % more time, mean over language models trained on V100 (McDonald
et al., "Great Power, Great Responsibility", Findings of NAACL 2022, arXiv 2205.09646)."""

CAP_BUSY_FRACTION = 0.7
"""Below this part of the board's limit an accelerator waits for something else, and a cap at 60 % changes little: generating
tokens on an H200 draws 137 to 300 of 700 W, and no cap is ever reached (Ma et al., 2026, arXiv 2605.11999)."""

CAP_BASIS = (
    "Measured energy of the accelerator, times the mean saving of a cap at 60 % on V100 (13.7 % of the energy for 6.8 % more "
    "time: McDonald et al., Findings of NAACL 2022). No one cap is best for all programs on H100 and H200 (arXiv 2603.16164), so "
    "the range goes down to nothing; Zeus (NSDI 2023) finds the best one for one's own program."
)

PRECISION_METRIC, FULL_PRECISION_BITS = "precision_bits", 32.0
"""A run tells by this metric in how many bits it calculates."""

PRECISION_SAVING_FRACTION = 1 / 3
"""The middle between nothing and two thirds, which is what three times the speed at unchanged power would save."""

PRECISION_BASIS = (
    "The run told that it calculates in 32 bits. Mixed precision trains as accurately (Micikevicius et al., ICLR 2018); "
    "TensorFlow's guide on it speaks of three times the speed on GPUs with tensor cores, which at unchanged power saves two "
    "thirds of the accelerator's measured energy. How much of that a program gets is not known before it is tried, so the range "
    "goes down to nothing, as it does where 32 bits already run as TF32. Rent saved by a shorter time is not estimated."
)

IDLE_FRACTION_MIN, IDLE_SECONDS_MIN = 0.5, 3_600.0
"""Only accelerators that lie idle for most of the time, and for an hour at least, are worth a word."""

ROOM_FACTOR = 2.0
"""A smaller machine must have twice the processors that the run's share of the CPU's energy stands for, since an idle CPU uses
energy too and a run is not equally busy at all times."""

USD_PER_GRAM = 190e-6
"""Only to put dollars and grams in one order: the social cost of a tonne of CO2 emitted in 2020, 190 dollars (US EPA, Report
on the Social Cost of Greenhouse Gases, 2023, discount rate 2 %)."""

GRAMS_PER_KWH_UNKNOWN = 475.0
"""Only to put joules of which nobody knows the grams in that order: the world's average of 2018 (IEA, Global Energy and CO2
Status Report, 2019)."""

HOURS_A_DAY = 24


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Something that would use less; a saving that nobody knows is None."""

    kind: str
    subject: str
    sentence: str
    basis: str
    saving_fraction: float
    saving_usd: float | None = None
    saving_grams_co2e: float | None = None
    saving_joules: float | None = None
    range_fraction: float | None = None


@dataclass(frozen=True, slots=True)
class HostShares:
    """What the CPU of a run's host used while the run ran, by whom it was charged to, in joules."""

    run_joules: float
    others_joules: float
    idle_joules: float

    @property
    def run_fraction(self) -> float:
        """The run's part of all."""
        total = self.run_joules + self.others_joules + self.idle_joules
        return self.run_joules / total if total else 0.0

    @property
    def idle_fraction(self) -> float:
        """The part of being on at all."""
        total = self.run_joules + self.others_joules + self.idle_joules
        return self.idle_joules / total if total else 0.0


@dataclass(frozen=True, slots=True)
class IdleAccelerator:
    """An accelerator in the hours in which no run held it."""

    host: str
    component: str
    idle_seconds: float
    seen_seconds: float
    energy_joules: float
    carbon_grams_co2e: float | None
    cost_usd: float | None
    range_fraction: float | None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run that bears on what it could save."""

    footprint: Footprint
    places: Sequence[Elsewhere] = ()
    hours: Sequence[Elsewhere] = ()
    own_offer: Offer | None = None
    offers: Sequence[Offer] = ()
    need: Need | None = None
    """What the run's job asked for; None where there is no job, and so nobody knows how much memory it needs."""
    deadline: datetime | None = None
    accelerator: str = ""
    busy_watts: Mapping[str, float] = field(default_factory=dict)
    """Power of each accelerator of the run when it was busy."""
    shares: HostShares | None = None

    @property
    def run(self) -> RunRecord:
        """The run."""
        return self.footprint.run


def recommendations_for(facts: RunFacts) -> list[Recommendation]:
    """All that could be done about one run."""
    found = (move_hour(facts), move_region(facts), cap_power(facts), right_size(facts), smaller_precision(facts))
    return [each for each in found if each is not None]


def move_hour(facts: RunFacts) -> Recommendation | None:
    """The cleanest hour at the run's own place that its deadline, where it has one, leaves."""
    run, own = facts.run, _own_hour(facts)
    if own is None or not own.carbon_grams_co2e:
        return None
    open_hours = [
        hour
        for hour in facts.hours
        if _fits(hour.starts_at, facts) and rest_alike(hour.intensity_kind, own.intensity_kind)
    ]
    best = min(open_hours, key=lambda hour: hour.carbon_grams_co2e, default=own)
    saving = own.carbon_grams_co2e - best.carbon_grams_co2e
    if saving < SAVING_FRACTION_MIN * own.carbon_grams_co2e:
        return None
    doubt = _grams_doubt(facts, own, best)
    until = f" (its deadline is {facts.deadline:%F %H:%M} UTC)" if facts.deadline else " if it can wait"
    return Recommendation(
        kind="move-hour",
        subject=run.run_id,
        sentence=f"Start {run.name} at {best.starts_at:%H:%M} UTC instead of {own.starts_at:%H:%M}{until}.",
        basis=(
            f"The run's measured energy times the intensity of {run.zone or 'its zone'} by the hour of its day, "
            f"{_said_of_kinds(own, best)}. {_said_of_range(doubt)}"
        ),
        saving_fraction=saving / own.carbon_grams_co2e,
        saving_usd=own.cost_usd - best.cost_usd,
        saving_grams_co2e=saving,
        range_fraction=doubt,
    )


def move_region(facts: RunFacts) -> Recommendation | None:
    """The place that saves most and is neither dearer nor dirtier than the run's own."""
    own_id = facts.own_offer.offer_id if facts.own_offer else ""
    own = next((place for place in facts.places if place.offer.offer_id == own_id), None)
    if own is None:
        return None
    better = [
        place
        for place in facts.places
        if place.cost_usd <= own.cost_usd
        and place.carbon_grams_co2e <= own.carbon_grams_co2e
        and _can_be_held_against(own, place)
        and (place.offer.provider, place.offer.region) != (own.offer.provider, own.offer.region)
    ]
    best = max(better, key=lambda place: _worth(own, place), default=own)
    usd, grams = own.cost_usd - best.cost_usd, own.carbon_grams_co2e - best.carbon_grams_co2e
    fractions = (
        usd / own.cost_usd if own.cost_usd else 0.0,
        grams / own.carbon_grams_co2e if own.carbon_grams_co2e else 0.0,
    )
    if max(fractions) < SAVING_FRACTION_MIN:
        return None
    offer, of_grams = best.offer, fractions[1] >= fractions[0]
    doubt = _grams_doubt(facts, own, best) if of_grams else _usd_doubt(facts, own, best)
    return Recommendation(
        kind="move-region",
        subject=facts.run.run_id,
        sentence=f"Run {facts.run.name} on {offer.provider} {offer.region} {offer.machine_type} ({market_of(offer)}).",
        basis=(
            "The run's measured energy and time taken over unchanged, the other machine taken to be as fast and as hungry; offer "
            f"{offer.offer_id}, intensity of {offer.zone}, {_said_of_kinds(own, best)}. "
            + (_said_of_range(doubt) if of_grams else "The range is that of the dollars, from the meters' own.")
        ),
        saving_fraction=max(fractions),
        saving_usd=usd,
        saving_grams_co2e=grams,
        range_fraction=doubt,
    )


def cap_power(facts: RunFacts) -> Recommendation | None:
    """A lower power limit for accelerators that draw near theirs."""
    board = board_power_watts(facts.accelerator, max(facts.busy_watts.values(), default=0.0))
    if board is None:
        return None
    busy = {name for name, watts in facts.busy_watts.items() if watts >= CAP_BUSY_FRACTION * board}
    joules = _measured_joules(facts.footprint, busy)
    if not joules:
        return None
    saved = joules * CAP_SAVING_FRACTION
    usd = _capped_usd(facts, saved)
    if usd is not None and usd < 0:
        return None
    return Recommendation(
        kind="cap-power",
        subject=facts.run.run_id,
        sentence=(
            f"Limit {', '.join(sorted(busy))} to {CAP_OF_BOARD * board:.0f} W for {facts.run.name} (nvidia-smi -pl); it will "
            f"take about {CAP_TIME_FRACTION:.0%} longer."
        ),
        basis=CAP_BASIS,
        saving_fraction=saved / facts.footprint.energy_joules,
        saving_usd=usd,
        saving_grams_co2e=_grams(facts.footprint, saved),
        saving_joules=saved,
        range_fraction=1.0,
    )


def right_size(facts: RunFacts) -> Recommendation | None:
    """A cheaper machine of the same provider and region for a run that leaves its machine mostly idle."""
    own, need, shares = facts.own_offer, facts.need, facts.shares
    if own is None or need is None or shares is None or not own.price_microusd_per_hour or not own.vcpus:
        return None
    if shares.idle_fraction < IDLE_FRACTION_MIN:
        return None
    vcpus = max(1.0, own.vcpus * min(shares.run_fraction * ROOM_FACTOR, 1.0))
    least = with_used_accelerators(replace(need, vcpus=vcpus), own, facts.footprint.accelerators_used)
    smaller = [
        offer for offer in facts.offers if _is_alike(offer, own) and offer.vcpus < own.vcpus and least.is_met_by(offer)
    ]
    seconds = _seconds(facts)
    paid = rent_usd(own, seconds)
    best = min(smaller, key=lambda offer: (rent_usd(offer, seconds), offer.offer_id), default=own)
    saved = paid - rent_usd(best, seconds)
    if not paid or saved < SAVING_FRACTION_MIN * paid:
        return None
    instead = f"{best.machine_type} with {best.vcpus:g} vCPUs instead of {own.machine_type} with {own.vcpus:g}"
    return Recommendation(
        kind="right-size",
        subject=facts.run.run_id,
        sentence=f"Run {facts.run.name} on {instead}.",
        basis=(
            f"While it ran, {shares.idle_fraction:.0%} of its machine's CPU energy was for being on and "
            f"{shares.run_fraction:.0%} the run's; the smaller one has twice that share of processors and the "
            f"{need.memory_gib:g} GiB that the job asks for, at the price of {best.offer_id}. Time is taken to be unchanged; "
            "energy is not estimated."
        ),
        saving_fraction=saved / paid,
        saving_usd=saved,
    )


def smaller_precision(facts: RunFacts) -> Recommendation | None:
    """Mixed precision for a run that told that it calculates in 32 bits on an accelerator whose energy was measured."""
    if facts.run.metrics.get(PRECISION_METRIC) != FULL_PRECISION_BITS:
        return None
    joules = _measured_joules(facts.footprint, {part.component for part in facts.footprint.components})
    if not joules:
        return None
    saved = joules * PRECISION_SAVING_FRACTION
    return Recommendation(
        kind="smaller-precision",
        subject=facts.run.run_id,
        sentence=f"Train {facts.run.name} in mixed precision (bfloat16) instead of 32 bits.",
        basis=PRECISION_BASIS,
        saving_fraction=saved / facts.footprint.energy_joules,
        saving_usd=_electricity(facts, saved),
        saving_grams_co2e=_grams(facts.footprint, saved),
        saving_joules=saved,
        range_fraction=1.0,
    )


def stop_idle(idle: IdleAccelerator) -> Recommendation | None:
    """Turning off, or lending out, an accelerator that no run holds for most of the time."""
    fraction = idle.idle_seconds / idle.seen_seconds if idle.seen_seconds else 0.0
    if fraction < IDLE_FRACTION_MIN or idle.idle_seconds < IDLE_SECONDS_MIN or not idle.energy_joules:
        return None
    return Recommendation(
        kind="stop-idle",
        subject=idle.host,
        sentence=(
            f"Turn {idle.host} off between runs, or lend {idle.component} to others: no run held it in "
            f"{idle.idle_seconds / 3600:.0f} of {idle.seen_seconds / 3600:.0f} hours."
        ),
        basis=f"Measured: what {idle.component} used in the hours in which no run was charged for it.",
        saving_fraction=fraction,
        saving_usd=idle.cost_usd,
        saving_grams_co2e=idle.carbon_grams_co2e,
        saving_joules=idle.energy_joules,
        range_fraction=idle.range_fraction,
    )


def ranked(found: Iterable[Recommendation], names: Mapping[str, str], limit: int) -> list[Recommendation]:
    """Largest saving first. Runs of one name are one job that comes again: savings are added, the largest speaks for all."""
    groups: dict[tuple[str, str], list[Recommendation]] = {}
    for each in found:
        groups.setdefault((each.kind, names.get(each.subject, each.subject)), []).append(each)
    joined = [_joined(name, group) for (_, name), group in groups.items()]
    return sorted(joined, key=lambda each: (-_order(each), each.kind, each.subject))[:limit]


def _joined(name: str, group: Sequence[Recommendation]) -> Recommendation:
    best = max(group, key=_order)
    if len(group) == 1:
        return best
    return replace(
        best,
        subject=name,
        basis=f"{best.basis} Added over {len(group)} runs of this name.",
        saving_usd=_sum_of_known(each.saving_usd for each in group),
        saving_grams_co2e=_sum_of_known(each.saving_grams_co2e for each in group),
        saving_joules=_sum_of_known(each.saving_joules for each in group),
    )


def _order(each: Recommendation) -> float:
    grams = each.saving_grams_co2e
    if grams is None:
        grams = carbon_grams(each.saving_joules or 0.0, GRAMS_PER_KWH_UNKNOWN)
    return (each.saving_usd or 0.0) + grams * USD_PER_GRAM


def _worth(own: Elsewhere, place: Elsewhere) -> tuple[float, str]:
    saved = own.cost_usd - place.cost_usd + (own.carbon_grams_co2e - place.carbon_grams_co2e) * USD_PER_GRAM
    return saved, place.offer.offer_id


def _can_be_held_against(own: Elsewhere, place: Elsewhere) -> bool:
    """Whether the grams of two places tell more than on what they rest: an hour is no year, and one set by hand is neither."""
    one, other = own.intensity_kind, place.intensity_kind
    return rest_alike(one, other) or not (is_level(one) or is_level(other))


def _said_of_kinds(own: Elsewhere, best: Elsewhere) -> str:
    if own.intensity_kind == best.intensity_kind:
        return f"{best.intensity_kind} for both"
    return f"{best.intensity_kind} there against {own.intensity_kind} here"


def _own_hour(facts: RunFacts) -> Elsewhere | None:
    return next((hour for hour in facts.hours if hour.starts_at == facts.run.started_at), None)


def _fits(starts_at: datetime, facts: RunFacts) -> bool:
    """Whether a start at this time of day, today or tomorrow, still makes the deadline."""
    wait = (starts_at - facts.run.started_at) % timedelta(hours=HOURS_A_DAY)
    if facts.deadline is None:
        return True
    return facts.run.started_at + wait + timedelta(seconds=_seconds(facts)) <= facts.deadline


def _seconds(facts: RunFacts) -> float:
    coverage = facts.footprint.coverage
    return active_seconds(facts.run, coverage.last_at if coverage else facts.run.started_at)


def _is_alike(offer: Offer, own: Offer) -> bool:
    """Whether an offer is of the same provider, region and market."""
    same_place = (offer.provider, offer.region) == (own.provider, own.region)
    return same_place and market_of(offer) == market_of(own)


def market_of(offer: Offer) -> str:
    """`on-demand`, `spot` or `free`, the last part of an offer's id."""
    return offer.offer_id.rpartition("/")[2]


def _measured_joules(footprint: Footprint, components: set[str]) -> float:
    """Joules of accelerators that a meter read; a model's guess is no ground for advice."""
    parts = [
        part.energy_joules or 0.0
        for part in footprint.components
        if part.component in components
        and part.component.startswith("gpu")
        and part.method in ("counter", "power-samples")
    ]
    return math.fsum(parts)


def _range_fraction(footprint: Footprint) -> float:
    return footprint.energy_joules_range / footprint.energy_joules if footprint.energy_joules else 0.0


def _grams_doubt(facts: RunFacts, own: Elsewhere, best: Elsewhere) -> float | None:
    """How far a difference in grams may be off: what both intensities may be off by, and the meters' part; None where not known.

    The intensities' ranges are added, as if one were too high where the other is too low. Hours of one zone err partly alike, so
    this is the widest that it can be.
    """
    ranges = (own.intensity_range_fraction, best.intensity_range_fraction)
    saved = own.carbon_grams_co2e - best.carbon_grams_co2e
    if None in ranges or saved <= 0:
        return None
    off_by = own.carbon_grams_co2e * (ranges[0] or 0.0) + best.carbon_grams_co2e * (ranges[1] or 0.0)
    return off_by / saved + _range_fraction(facts.footprint)


def _usd_doubt(facts: RunFacts, own: Elsewhere, best: Elsewhere) -> float | None:
    """How far a difference in dollars may be off: rent is agreed, electricity follows from the energy."""
    joules, saved = facts.footprint.energy_joules, own.cost_usd - best.cost_usd
    electricity = electricity_usd(own.offer, joules) - electricity_usd(best.offer, joules)
    return abs(electricity) * _range_fraction(facts.footprint) / saved if saved > 0 else None


def _said_of_range(doubt: float | None) -> str:
    if doubt is None:
        return "How far the intensities may be off is not known, so there is no range."
    nothing = "; on a given day there may be nothing to save" if doubt >= 1 else ""
    return f"The range is that of the grams, from the meters' and both intensities' own{nothing}."


def _grams(footprint: Footprint, joules: float) -> float | None:
    coverage = footprint.coverage
    return None if coverage is None else carbon_grams(joules, coverage.intensity_grams_per_kwh) * coverage.pue


def _electricity(facts: RunFacts, joules: float) -> float | None:
    """Dollars of electricity that is paid by the kWh; None where it is in the rent, or nobody knows."""
    own = facts.own_offer
    return electricity_usd(own, joules) if own and own.electricity_microusd_per_kwh else None


def _capped_usd(facts: RunFacts, saved_joules: float) -> float | None:
    """Electricity saved less the rent of the longer time; a machine of one's own has no rent."""
    own, seconds = facts.own_offer, _seconds(facts)
    if own is None or not (own.electricity_microusd_per_kwh or own.price_microusd_per_hour):
        return None
    more_rent = rent_usd(own, seconds * (1 + CAP_TIME_FRACTION)) - rent_usd(own, seconds)
    return electricity_usd(own, saved_joules) - more_rent


def _sum_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None
