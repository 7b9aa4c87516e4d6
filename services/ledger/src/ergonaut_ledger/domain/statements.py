"""What a tenant used, line by line, before certificates and offsets; those stand beside it and are subtracted nowhere. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ergonaut.carbon import yearly_intensity
from ergonaut.errors import Refused
from ergonaut.units import carbon_grams
from ergonaut_ledger.domain.certificates import Certificate, Period

LINE_BY = ("project", "job", "run", "host", "day")
LINES_MAX = 10_000
"""Lines of one statement; more are not read by people, and the total has them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about: whose, when, and of which project; empty for all."""

    tenant: str
    period: Period
    project: str = ""


@dataclass(frozen=True, slots=True)
class LineSums:
    """Sums of samples under one label. None: no sample told it."""

    label: str
    energy_joules: float | None = None
    energy_joules_range: float | None = None
    location_grams_co2e: float | None = None
    """Of the samples whose intensity is average and location-based."""
    other_joules: Mapping[str, float] = field(default_factory=dict)
    """Joules, building included, by zone, of samples whose intensity is market-based or marginal."""
    embodied_grams_co2e: float | None = None
    electricity_usd: float | None = None
    rent_usd: float | None = None
    runs: int = 0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class StatementSums:
    """What was used in a time."""

    lines: tuple[LineSums, ...]
    """Of runs, one sum for each label, largest energy first, as many as were asked for."""
    labels: int
    """How many labels there are."""
    whole: LineSums
    """Of all runs."""
    unattributed: LineSums
    """Of idling and other processes of the tenant's hosts."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a statement."""

    label: str
    name: str
    energy_joules: float | None
    energy_joules_range: float | None
    carbon_grams_co2e_location: float | None
    embodied_grams_co2e: float | None
    electricity_usd: float | None
    rent_usd: float | None
    runs: int
    samples: int


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A component of which nobody knows how much it used, and why."""

    component: str
    source: str
    samples: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement."""

    period: Period
    lines: tuple[Line, ...]
    total: Line
    certificates: tuple[Certificate, ...]
    notes: tuple[str, ...]
    lines_omitted: int


def checked_line_by(line_by: str) -> str:
    """What a line is of; `project` where nothing is said. Raises Refused."""
    if line_by and line_by not in LINE_BY:
        raise Refused(f"{line_by!r} is none of {', '.join(LINE_BY)}", field="line_by")
    return line_by or LINE_BY[0]


def line_of(sums: LineSums, name: str = "") -> Line:
    """A line; energy under a market-based or marginal intensity is weighed by its zone's year, as location-based asks."""
    grams = list(weighed_by_year(sums.other_joules).values())
    known = sums.location_grams_co2e
    return Line(
        label=sums.label,
        name=name,
        energy_joules=sums.energy_joules,
        energy_joules_range=sums.energy_joules_range,
        carbon_grams_co2e_location=sum(grams, known or 0.0) if grams or known is not None else None,
        embodied_grams_co2e=sums.embodied_grams_co2e,
        electricity_usd=sums.electricity_usd,
        rent_usd=sums.rent_usd,
        runs=sums.runs,
        samples=sums.samples,
    )


def weighed_by_year(joules: Mapping[str, float]) -> dict[str, float]:
    """Grams of CO2e by zone, by each zone's yearly average, location-based."""
    return {zone: carbon_grams(amount, yearly_intensity(zone).grams_per_kwh) for zone, amount in joules.items()}


def added(parts: Sequence[LineSums]) -> LineSums:
    """The sum of sums; what none of them knows stays unknown."""
    other: dict[str, float] = {}
    for part in parts:
        for zone, joules in part.other_joules.items():
            other[zone] = other.get(zone, 0.0) + joules

    def total(name: str) -> float | None:
        return sum_of_known(getattr(part, name) for part in parts)

    return LineSums(
        label="",
        energy_joules=total("energy_joules"),
        energy_joules_range=total("energy_joules_range"),
        location_grams_co2e=total("location_grams_co2e"),
        other_joules=other,
        embodied_grams_co2e=total("embodied_grams_co2e"),
        electricity_usd=total("electricity_usd"),
        rent_usd=total("rent_usd"),
        runs=sum(part.runs for part in parts),
        samples=sum(part.samples for part in parts),
    )


def sum_of_known(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def common_notes(unmeasured: Sequence[Unmeasured], messages_missing: int) -> list[str]:
    """What is missing, in sentences: of statement and compliance report alike."""
    notes = [
        f"{part.component} was not measured in {part.samples} samples and is in no sum: {part.source}."
        for part in unmeasured
    ]
    if messages_missing:
        notes.append(
            f"{messages_missing} messages that producers numbered are missing here; their samples are in no sum."
        )
    return notes


def statement_notes(total: LineSums, parts: Sequence[LineSums]) -> list[str]:
    """What is uncertain in the figures of a statement whose lines are the parts, in sentences."""
    notes = [
        "All figures are before certificates and offsets, which stand in lines of their own and are subtracted nowhere."
    ]
    if total.other_joules:
        zones = ", ".join(sorted(zone or "unknown" for zone in total.other_joules))
        notes.append(
            f"Energy in {zones} carries a market-based or marginal intensity; its location-based grams are reckoned by the "
            "zone's yearly average."
        )
    if total.embodied_grams_co2e is None:
        notes.append("What making the machines emitted is not known for any machine.")
    unpriced_joules = sum_of_known(part.energy_joules for part in parts if part.electricity_usd is None)
    if total.electricity_usd is None:
        notes.append("The price of electricity is not known.")
    elif unpriced_joules and total.energy_joules:
        notes.append(
            f"The price of electricity is not known in lines with {100 * unpriced_joules / total.energy_joules:.3g} % of the "
            "energy; what it cost is in no sum."
        )
    return notes
