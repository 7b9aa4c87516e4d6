"""Chooses among what was weighed, by the job's objective, and says why: for the choice, for what was left, for a refusal.

`balanced` is the mean of each candidate's dollars, grams and waiting as parts of the worst that is feasible. They are parts of
the worst, and no places between best and worst, so that a difference of a thousandth never outweighs hours of waiting.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ergonaut.jobs import Candidate, JobSpec, Objective, Plan
from ergonaut_scheduler.domain.holds import Hold
from ergonaut_scheduler.domain.weighing import Supply, Weighed, possible_starts, weigh
from ergonaut_scheduler.domain.wording import compared, dollars, duration, grams

_Key = tuple[float | datetime | str, ...]


@dataclass(frozen=True, slots=True)
class _Scale:
    """The worst figures of the feasible candidates, by which the others are measured."""

    now: datetime
    cost_usd: float
    carbon_grams: float
    waiting_seconds: float


def plan(spec: JobSpec, supply: Supply, now: datetime, alternatives_max: int, hold: Hold | None = None) -> Plan:
    """What to choose for a job; the same inputs always give the same plan, in whatever order the offers come."""
    if hold is not None and not any(hold.lets_start(at) for at in possible_starts(spec, now)):
        return Plan(refused_because=hold.refusal)
    weighed = weigh(spec, supply, now, hold)
    feasible = [candidate for candidate in weighed if candidate.feasible]
    scale = _scale(feasible or weighed, now)
    order = _order(spec.objective, scale)
    if not feasible:
        rows = _best_of_each_offer(weighed, order)[:alternatives_max]
        told = tuple(_told(row, scale, spec, _obstacles_of(row)) for row in rows)
        return Plan(alternatives=told, refused_because=_refusal(weighed, spec, order), weighed=len(weighed))
    chosen = min(feasible, key=order)
    others = _best_of_each_offer([candidate for candidate in weighed if candidate is not chosen], order)
    because = _why_chosen(chosen, spec, len(feasible), len(weighed)) + (
        f"; not sooner, since {hold.because}" if hold else ""
    )
    return Plan(
        chosen=_told(chosen, scale, spec, because),
        alternatives=tuple(_told(row, scale, spec, _why_not(row, chosen)) for row in others[:alternatives_max]),
        weighed=len(weighed),
    )


def _scale(candidates: Sequence[Weighed], now: datetime) -> _Scale:
    return _Scale(
        now,
        cost_usd=max((candidate.cost_usd for candidate in candidates), default=0.0),
        carbon_grams=max((candidate.carbon_grams for candidate in candidates), default=0.0),
        waiting_seconds=max(((candidate.starts_at - now).total_seconds() for candidate in candidates), default=0.0),
    )


def _score(candidate: Weighed, objective: Objective, scale: _Scale) -> float:
    """Lower is better: dollars, grams, seconds until the end, or the mean of three parts of the worst."""
    if objective is Objective.CHEAPEST:
        return candidate.cost_usd
    if objective is Objective.GREENEST:
        return candidate.carbon_grams
    if objective is Objective.FASTEST:
        return (candidate.ends_at - scale.now).total_seconds()
    waiting_seconds = (candidate.starts_at - scale.now).total_seconds()
    parts = (
        _part(candidate.cost_usd, scale.cost_usd),
        _part(candidate.carbon_grams, scale.carbon_grams),
        _part(waiting_seconds, scale.waiting_seconds),
    )
    return sum(parts) / len(parts)


def _part(value: float, worst: float) -> float:
    return value / worst if worst > 0 else 0.0


def _order(objective: Objective, scale: _Scale) -> Callable[[Weighed], _Key]:
    """Ties go to the earlier end (for `greenest` first to fewer dollars), at last to the name, so that none is left to chance."""

    def key(candidate: Weighed) -> _Key:
        score = _without_dust(_score(candidate, objective, scale))
        cost, carbon = _without_dust(candidate.cost_usd), _without_dust(candidate.carbon_grams)
        end = candidate.ends_at
        ties: _Key = (cost, end, carbon) if objective is Objective.GREENEST else (end, cost, carbon)
        return (score, *ties, candidate.offer.offer_id)

    return key


def _without_dust(value: float) -> float:
    """Seven digits: sums of the same hours in another order differ in the sixteenth, and no job shall wait for that."""
    return float(f"{value:.6e}")


def _best_of_each_offer(candidates: Sequence[Weighed], order: Callable[[Weighed], _Key]) -> list[Weighed]:
    """One row an offer: feasible ones first, then those with least in their way."""
    best: dict[str, Weighed] = {}
    for candidate in candidates:
        known = best.get(candidate.offer.offer_id)
        if known is None or _rank(candidate, order) < _rank(known, order):
            best[candidate.offer.offer_id] = candidate
    return sorted(best.values(), key=lambda candidate: _rank(candidate, order))


def _rank(candidate: Weighed, order: Callable[[Weighed], _Key]) -> tuple[int, _Key]:
    return len(candidate.obstacles), order(candidate)


def _told(candidate: Weighed, scale: _Scale, spec: JobSpec, because: str) -> Candidate:
    offer = candidate.offer
    return Candidate(
        offer_id=offer.offer_id,
        provider=offer.provider,
        region=offer.region,
        zone=offer.zone,
        machine_type=offer.machine_type,
        starts_at=candidate.starts_at,
        ends_at=candidate.ends_at,
        cost_usd_expected=candidate.cost_usd,
        energy_joules_expected=candidate.energy_joules,
        carbon_grams_co2e_expected=candidate.carbon_grams,
        price_microusd_per_hour=offer.price_microusd_per_hour,
        electricity_microusd_per_kwh=offer.electricity_microusd_per_kwh,
        pue=offer.pue,
        score=_score(candidate, spec.objective, scale),
        feasible=candidate.feasible,
        because=because,
    )


def _why_chosen(chosen: Weighed, spec: JobSpec, feasible: int, weighed: int) -> str:
    if weighed == 1:
        return "the only candidate there was, and it keeps every limit"
    if feasible == 1:
        return f"the only one of {weighed:,} candidates that keeps every limit"
    praise = {
        Objective.CHEAPEST: f"the cheapest, at {dollars(chosen.cost_usd)},",
        Objective.GREENEST: f"the greenest, at {grams(chosen.carbon_grams)},",
        Objective.FASTEST: "the earliest to end",
        Objective.BALANCED: "the best balance of dollars, grams and waiting",
    }[spec.objective]
    return f"{praise} of the {feasible:,} candidates that keep every limit ({weighed:,} weighed)"


def _why_not(candidate: Weighed, chosen: Weighed) -> str:
    differences = ", ".join(filter(None, _differences(candidate, chosen)))
    if candidate.feasible:
        return differences or "the same figures; the tie went to the first by name"
    if any(obstacle.field.startswith("resources.") for obstacle in candidate.obstacles):
        # What the job would use on a machine that cannot hold it means nothing.
        return _obstacles_of(candidate)
    return "; ".join(filter(None, (_obstacles_of(candidate), differences)))


def _differences(candidate: Weighed, chosen: Weighed) -> tuple[str, str, str]:
    later_seconds = (candidate.ends_at - chosen.ends_at).total_seconds()
    when = f"ends {duration(abs(later_seconds))} {'later' if later_seconds > 0 else 'earlier'}" if later_seconds else ""
    return (
        compared(candidate.cost_usd, chosen.cost_usd, "dollars"),
        compared(candidate.carbon_grams, chosen.carbon_grams, "grams"),
        when,
    )


def _obstacles_of(candidate: Weighed) -> str:
    return "; ".join(obstacle.because for obstacle in candidate.obstacles)


def _refusal(weighed: Sequence[Weighed], spec: JobSpec, order: Callable[[Weighed], _Key]) -> str:
    """The nearest miss among what may be used here, and what would do if only it were connected."""
    if not weighed:
        return "providers: there is no offer at all; the pricing service knows of none yet"
    nearest = min(weighed, key=lambda candidate: (_provider_misses(candidate), *_miss(candidate), order(candidate)))
    obstacle = nearest.obstacles[0]
    told = f"{obstacle.field}: no offer may carry the job; the nearest miss is {nearest.offer.offer_id}: {_obstacles_of(nearest)}"
    out_of_reach = [
        candidate for candidate in weighed if candidate is not nearest and _only_unconnected(candidate, spec)
    ]
    if not out_of_reach:
        return told
    best = min(out_of_reach, key=order)
    return f"{told}; {best.offer.offer_id} would do for {dollars(best.cost_usd)}, but {_obstacles_of(best)}"


def _provider_misses(candidate: Weighed) -> int:
    return sum(1 for obstacle in candidate.obstacles if obstacle.field == "providers")


def _miss(candidate: Weighed) -> tuple[int, float]:
    return len(candidate.obstacles), sum(obstacle.excess for obstacle in candidate.obstacles)


def _only_unconnected(candidate: Weighed, spec: JobSpec) -> bool:
    allowed = not spec.providers or candidate.offer.provider in spec.providers
    return allowed and len(candidate.obstacles) == _provider_misses(candidate)
