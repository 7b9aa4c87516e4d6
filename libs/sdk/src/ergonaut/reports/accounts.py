"""Statements for those who pay and compliance reports for those who must report, from the ledger's answers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ergonaut.reports.analysis import told
from ergonaut.reports.numbers import Figure

if TYPE_CHECKING:
    from ergonaut.api.ledger.v1 import statements_pb2 as pb

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Period:
    """A time, its end left out."""

    starts_at: datetime
    ends_at: datetime

    @property
    def label(self) -> str:
        """The time for people; whole days by their dates, the last one included."""
        whole_days = self.starts_at.time() == self.ends_at.time() == datetime.min.time()
        if not whole_days:
            return f"{self.starts_at:%Y-%m-%d %H:%M} to {self.ends_at:%Y-%m-%d %H:%M} UTC"
        last = datetime.fromtimestamp(self.ends_at.timestamp() - 1, UTC)
        return (
            f"{self.starts_at:%Y-%m-%d}"
            if last < self.starts_at
            else f"{self.starts_at:%Y-%m-%d} to {last:%Y-%m-%d}, UTC"
        )


@dataclass(frozen=True, slots=True)
class Certificate:
    """A contractual instrument: energy attribute certificate, power purchase agreement, or offset."""

    certificate_id: str
    kind: str
    registry: str
    zone: str
    period: Period
    energy_kwh: float
    intensity_grams_per_kwh: float
    offset_grams_co2e: float
    cost_usd: float | None
    principal: str
    voided: bool


@dataclass(frozen=True, slots=True)
class Line:
    """What one project, job, run, host or day used, before certificates and offsets; None where not known."""

    label: str
    name: str
    energy: Figure
    carbon_grams_co2e_location: float | None
    embodied_grams_co2e: float | None
    electricity_usd: float | None
    rent_usd: float | None
    runs: int
    samples: int

    @property
    def title(self) -> str:
        """The line's name for people."""
        return self.name or self.label or "belongs to none"

    @property
    def cost_usd(self) -> float | None:
        """Electricity and rent; None where neither is known."""
        known = [usd for usd in (self.electricity_usd, self.rent_usd) if usd is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class Statement:
    """What was used and what it cost, line by line."""

    period: Period
    lines: tuple[Line, ...]
    total: Line
    certificates: tuple[Certificate, ...]
    notes: tuple[str, ...]
    lines_omitted: int


@dataclass(frozen=True, slots=True)
class Factor:
    """An emission factor that was used, and its source."""

    zone: str
    intensity_grams_per_kwh: float
    source: str
    kind: str
    year: int
    signal: str
    accounting: str
    boundary: str
    energy_joules: float

    @property
    def energy_kwh(self) -> float:
        """kWh that it was applied to."""
        return self.energy_joules / JOULES_PER_KWH


@dataclass(frozen=True, slots=True)
class Compliance:
    """Emissions by the GHG Protocol, scope 2 by both methods and scope 3 for hardware, and by ISO/IEC 21031."""

    period: Period
    energy_kwh: Figure
    scope2_location_grams_co2e: float
    scope2_market_grams_co2e: float
    certified_kwh: float
    scope3_embodied_grams_co2e: float | None
    sci_grams_co2e: float | None
    functional_unit: str
    functional_units: float
    offset_grams_co2e: float
    factors: tuple[Factor, ...]
    certificates: tuple[Certificate, ...]
    notes: tuple[str, ...]


def statement_of(answer: "pb.GetStatementResponse") -> Statement:
    """A statement from the ledger's answer."""
    return Statement(
        period=_period(answer.period),
        lines=tuple(_line(line) for line in answer.lines),
        total=_line(answer.total),
        certificates=tuple(certificate_of(each) for each in answer.certificates),
        notes=tuple(answer.notes),
        lines_omitted=answer.lines_omitted,
    )


def compliance_of(answer: "pb.GetComplianceReportResponse") -> Compliance:
    """A compliance report from the ledger's answer."""
    return Compliance(
        period=_period(answer.period),
        energy_kwh=Figure(answer.energy_kwh, answer.energy_kwh_range),
        scope2_location_grams_co2e=answer.scope2_location_grams_co2e,
        scope2_market_grams_co2e=answer.scope2_market_grams_co2e,
        certified_kwh=answer.certified_kwh,
        scope3_embodied_grams_co2e=told(answer, "scope3_embodied_grams_co2e"),
        sci_grams_co2e=told(answer, "sci_grams_co2e"),
        functional_unit=answer.functional_unit or "run",
        functional_units=answer.functional_units,
        offset_grams_co2e=answer.offset_grams_co2e,
        factors=tuple(_factor(each) for each in answer.factors),
        certificates=tuple(certificate_of(each) for each in answer.certificates),
        notes=tuple(answer.notes),
    )


def _period(period: "pb.Period") -> Period:
    return Period(period.starts_at.ToDatetime(UTC), period.ends_at.ToDatetime(UTC))


def _line(line: "pb.StatementLine") -> Line:
    return Line(
        label=line.label,
        name=line.name,
        energy=Figure(told(line, "energy_joules"), told(line, "energy_joules_range")),
        carbon_grams_co2e_location=told(line, "carbon_grams_co2e_location"),
        embodied_grams_co2e=told(line, "embodied_grams_co2e"),
        electricity_usd=told(line, "electricity_usd"),
        rent_usd=told(line, "rent_usd"),
        runs=line.runs,
        samples=line.samples,
    )


def _factor(each: "pb.Factor") -> Factor:
    return Factor(
        zone=each.zone,
        intensity_grams_per_kwh=each.intensity_grams_per_kwh,
        source=each.source,
        kind=each.kind,
        year=each.year,
        signal=each.signal,
        accounting=each.accounting,
        boundary=each.boundary,
        energy_joules=each.energy_joules,
    )


def certificate_of(each: "pb.Certificate") -> Certificate:
    """A certificate or offset from the ledger's answer."""
    return Certificate(
        certificate_id=each.certificate_id,
        kind=each.kind,
        registry=each.registry,
        zone=each.zone,
        period=_period(each.period),
        energy_kwh=each.energy_kwh,
        intensity_grams_per_kwh=each.intensity_grams_per_kwh,
        offset_grams_co2e=each.offset_grams_co2e,
        cost_usd=told(each, "cost_usd"),
        principal=each.principal,
        voided=each.voided,
    )
