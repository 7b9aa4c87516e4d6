"""What the analysis adds to a report: phases, units, anomalies and recommendations, from the ledger's answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ergonaut.reports import numbers
from ergonaut.reports.numbers import Figure, significant

if TYPE_CHECKING:
    from ergonaut.api.ledger.v1 import analysis_pb2 as pb

_PER: dict[str, tuple[float, str]] = {
    "predictions": (1_000, "1,000 predictions"),
    "requests": (1_000, "1,000 requests"),
    "tokens": (1_000_000, "million tokens"),
    "epoch": (1, "epoch"),
}
"""How many of a unit people speak of at once; all others come one by one."""

NOTHING_SAVES = "Nothing measured here would save anything worth a word."

KINDS = {
    "move-hour": "Another hour",
    "move-region": "Another region",
    "cap-power": "A power cap",
    "right-size": "A smaller machine",
    "smaller-precision": "Smaller precision",
    "stop-idle": "Idle accelerators",
    "power-spike": "Power spike",
    "idle-accelerator": "Idle accelerator",
    "drift": "Drift",
}


@dataclass(frozen=True, slots=True)
class Phase:
    """What one phase of a run used; None where nothing within it was measured."""

    phase: str
    step: int | None
    started_at: datetime
    ended_at: datetime
    energy: Figure
    carbon_grams_co2e: float | None
    cost_usd: float | None
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The phase for people, such as `epoch 3`."""
        return self.phase if self.step is None else f"{self.phase} {self.step}"

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Unit:
    """What one unit of a run's work used, such as a token."""

    unit: str
    count: float
    energy: Figure
    carbon: Figure
    cost: Figure
    sci_grams_co2e: float | None

    @property
    def per(self) -> float:
        """How many of it people speak of at once."""
        return _PER.get(self.unit, (1, ""))[0]

    @property
    def label(self) -> str:
        """For what the figures times `per` are, such as `1,000 predictions`."""
        return _PER.get(self.unit, (1, self.unit.removesuffix("s") if len(self.unit) > 3 else self.unit))[1]

    @property
    def count_text(self) -> str:
        """How many there were."""
        return f"{self.count:,.0f}" if 1 <= self.count < 1e15 else significant(self.count)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A figure that is far from what was to be expected."""

    anomaly_id: str
    kind: str
    run_id: str
    host: str
    component: str
    started_at: datetime
    ended_at: datetime
    value: float
    expected: float
    unit: str
    because: str

    @property
    def label(self) -> str:
        """Its kind for people."""
        return KINDS.get(self.kind, self.kind)

    @property
    def seconds(self) -> float:
        """How long it went on."""
        return (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Something that would use less, and on what that rests."""

    kind: str
    subject: str
    sentence: str
    basis: str
    saving_fraction: float
    saving_usd: float | None
    saving_grams_co2e: float | None
    saving_joules: float | None
    range_fraction: float | None

    @property
    def label(self) -> str:
        """Its kind for people."""
        return KINDS.get(self.kind, self.kind)


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that the analysis tells of a run."""

    phases: tuple[Phase, ...] = ()
    phases_omitted: int = 0
    units: tuple[Unit, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    missing: tuple[str, ...] = ()
    """Parts that got no answer, each with the reason: what they would tell is not known, and not nothing."""


def analysis_of(
    efficiency: "pb.GetEfficiencyResponse | None" = None,
    recommendations: "Sequence[pb.Recommendation]" = (),
    anomalies: "Sequence[pb.Anomaly]" = (),
) -> Analysis:
    """Put together what the ledger's analysis answered."""
    return Analysis(
        phases=tuple(_phase(each) for each in efficiency.phases) if efficiency else (),
        phases_omitted=efficiency.phases_omitted if efficiency else 0,
        units=tuple(_unit(each) for each in efficiency.units) if efficiency else (),
        anomalies=tuple(_anomaly(each) for each in anomalies),
        recommendations=tuple(_recommendation(each) for each in recommendations),
    )


def saving_of(each: Recommendation) -> str:
    """What it would save, in words: all figures that are known, the part, and how far that may be off.

    >>> saving_of(Recommendation("move-hour", "run-1", "", "", 0.4, 0.0, 40.0, None, 0.1))
    'saves 40.0 g CO₂e, 40 % ± 10 %'
    >>> saving_of(Recommendation("move-hour", "run-1", "", "", 0.1, None, 4.0, None, 3.5))
    'saves 4.00 g CO₂e, 10 %, less sure than it is large'
    """
    known = [
        numbers.money(each.saving_usd) if each.saving_usd else "",
        f"{numbers.carbon(each.saving_grams_co2e)} CO₂e" if each.saving_grams_co2e else "",
        numbers.energy(each.saving_joules) if each.saving_joules else "",
    ]
    part = f"{numbers.significant(each.saving_fraction * 100, 2)} %"
    if each.range_fraction is None:
        off_by = ", range not known"
    elif each.range_fraction > 1:
        off_by = ", less sure than it is large"
    else:
        off_by = f" {numbers.plus_minus(each.range_fraction)}"
    return f"saves {', '.join([*filter(None, known), part])}{off_by}"


def nothing_odd(days: int | None = None) -> str:
    """What to say where no anomaly was found in so many days.

    >>> nothing_odd(7)
    'Nothing out of the ordinary was found in the last 7 days.'
    """
    return f"Nothing out of the ordinary was found{f' in the last {days} days' if days else ''}."


def value_in_words(value: float, unit: str) -> str:
    """What an anomaly saw or what was usual, in the words of its unit.

    >>> value_in_words(92.0, "watts"), value_in_words(130.0, "joules_per_step"), value_in_words(0.04, "fraction")
    ('92.0 W', '130 J a step', '4.00 %')
    """
    match unit:
        case "watts":
            return numbers.power(value)
        case "joules_per_step":
            return f"{numbers.energy(value)} a step"
        case "fraction":
            return f"{numbers.significant(value * 100)} %"
        case _:
            return f"{numbers.metric(value)} {unit}".strip()


def told(message: object, field_name: str) -> float | None:
    """An optional figure of a message; None where it is unset."""
    return getattr(message, field_name) if message.HasField(field_name) else None  # type: ignore[attr-defined]


def _phase(each: "pb.PhaseFootprint") -> Phase:
    return Phase(
        phase=each.phase,
        step=each.step if each.HasField("step") else None,
        started_at=each.started_at.ToDatetime(UTC),
        ended_at=each.ended_at.ToDatetime(UTC),
        energy=Figure(told(each, "energy_joules"), told(each, "energy_joules_range")),
        carbon_grams_co2e=told(each, "carbon_grams_co2e"),
        cost_usd=told(each, "cost_usd"),
        metrics=dict(sorted(each.metrics.items())),
    )


def _unit(each: "pb.UnitFootprint") -> Unit:
    fraction = told(each, "range_fraction")

    def ranged(value: float | None) -> Figure:
        return Figure(value, value * fraction if value is not None and fraction is not None else None)

    return Unit(
        unit=each.unit,
        count=each.count,
        energy=ranged(told(each, "energy_joules")),
        carbon=ranged(told(each, "carbon_grams_co2e")),
        # Dollars hold rent too, which is exact; nobody knows here which part of them is electricity.
        cost=Figure(told(each, "cost_usd")),
        sci_grams_co2e=told(each, "sci_grams_co2e"),
    )


def _anomaly(each: "pb.Anomaly") -> Anomaly:
    return Anomaly(
        anomaly_id=each.anomaly_id,
        kind=each.kind,
        run_id=each.run_id,
        host=each.host,
        component=each.component,
        started_at=each.started_at.ToDatetime(UTC),
        ended_at=each.ended_at.ToDatetime(UTC),
        value=each.value,
        expected=each.expected,
        unit=each.unit,
        because=each.because,
    )


def _recommendation(each: "pb.Recommendation") -> Recommendation:
    return Recommendation(
        kind=each.kind,
        subject=each.subject,
        sentence=each.sentence,
        basis=each.basis,
        saving_fraction=each.saving_fraction,
        saving_usd=told(each, "saving_usd"),
        saving_grams_co2e=told(each, "saving_grams_co2e"),
        saving_joules=told(each, "saving_joules"),
        range_fraction=told(each, "range_fraction"),
    )
