"""Emissions as auditors ask for them: GHG Protocol scope 2 by both methods, scope 3 for hardware, and ISO/IEC 21031. Pure.

Sources: GHG Protocol Scope 2 Guidance (WRI, WBCSD, 2015), chapters 4 to 7; Corporate Value Chain (Scope 3) Standard (2011),
category 2; ISO/IEC 21031:2024.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ergonaut.carbon import sci_grams, yearly_factor, yearly_intensity, zone_name
from ergonaut.units import carbon_grams, kwh_from_joules
from ergonaut_ledger.domain.certificates import OFFSET, Certificate, Period

LOCATION, MARKET, AVERAGE = "location-based", "market-based", "average"
_YEAR = re.compile(r"\((\d{4}), ")


@dataclass(frozen=True, slots=True)
class Basis:
    """On what an intensity rests."""

    zone: str
    kind: str
    source: str
    signal: str = AVERAGE
    accounting: str = LOCATION
    boundary: str = "unknown"

    @property
    def is_location_average(self) -> bool:
        """Whether it may stand in the location-based total as it is."""
        return self.accounting == LOCATION and self.signal == AVERAGE


@dataclass(frozen=True, slots=True)
class GridDay:
    """The energy of one day under one basis, building included, and its grams as they were stamped."""

    day: datetime
    basis: Basis
    energy_joules: float
    energy_joules_range: float
    grams_co2e: float
    joules_without_pue: float = 0.0
    """The part of it whose PUE is 1, told so or not told."""


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor that was used, the mean over the energy it was applied to."""

    basis: Basis
    intensity_grams_per_kwh: float
    year: int
    energy_joules: float


@dataclass(frozen=True, slots=True)
class ResidualFactor:
    """The mix of a zone that is left when all claimed power is taken out."""

    zone: str
    intensity_grams_per_kwh: float
    year: int
    source: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """Scope 3, category 2: grams known, and on how many of the hosts."""

    embodied_grams_co2e: float | None
    hosts: int
    hosts_known: int


@dataclass(frozen=True, slots=True)
class Use:
    """All that a compliance report is made of."""

    days: Sequence[GridDay]
    certificates: Sequence[Certificate]
    residual: Mapping[str, ResidualFactor]
    hardware: Hardware
    functional_unit: str
    functional_units: float
    tenant_days: Sequence[GridDay] | None = None
    """All of the tenant's days where `days` are those of one project: certificates are the tenant's, and each of its
    projects has the same part of its energy covered, so that no two claim one certificate."""

    @property
    def is_of_a_part(self) -> bool:
        """Whether the report is of less than the tenant."""
        return self.tenant_days is not None


@dataclass(frozen=True, slots=True)
class Compliance:
    """A compliance report."""

    period: Period
    energy_kwh: float
    energy_kwh_range: float
    scope2_location_grams_co2e: float
    scope2_market_grams_co2e: float
    certified_kwh: float
    hardware: Hardware
    sci_grams_co2e: float | None
    functional_unit: str
    functional_units: float
    offset_grams_co2e: float
    factors: tuple[Factor, ...]
    certificates: tuple[Certificate, ...]
    market_by_location_joules: float = 0.0
    """Energy that the market-based method weighs by the location's average, for want of anything better."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Energy with the grams of a method and the basis that they rest on."""

    basis: Basis
    energy_joules: float
    grams_co2e: float
    year: int = 0


def compliance_of(period: Period, use: Use) -> Compliance:
    """The report of a time; its notes are `compliance_notes`'."""
    located = [_located(day) for day in use.days]
    covered = _covered_part(use, period)
    market = list(_marketed(use.days, located, covered, use.residual))
    certified = sum(one.energy_joules for one in covered.values())
    certified_grams = sum(one.grams_co2e for one in covered.values())
    location_grams = sum(piece.grams_co2e for piece in located)
    embodied = use.hardware.embodied_grams_co2e
    offsets = [one for one in use.certificates if one.kind == OFFSET]
    return Compliance(
        period=period,
        energy_kwh=kwh_from_joules(sum(day.energy_joules for day in use.days)),
        energy_kwh_range=kwh_from_joules(sum(day.energy_joules_range for day in use.days)),
        scope2_location_grams_co2e=location_grams,
        scope2_market_grams_co2e=sum(piece.grams_co2e for piece in market) + certified_grams,
        certified_kwh=kwh_from_joules(certified),
        hardware=use.hardware,
        sci_grams_co2e=sci_grams(location_grams, embodied, use.functional_units) if use.days else None,
        functional_unit=use.functional_unit or "run",
        functional_units=use.functional_units,
        offset_grams_co2e=sum(one.offset_grams_co2e * one.part_of(period) for one in offsets),
        factors=_factors([*located, *(piece for piece in market if piece.basis.accounting == MARKET)]),
        certificates=tuple(use.certificates),
        market_by_location_joules=sum(one.energy_joules for one in market if one.basis.accounting == LOCATION),
    )


def _located(day: GridDay) -> _Piece:
    """A day's grams by the location-based method; a contract's or marginal figure gives way to the zone's yearly average."""
    if day.basis.is_location_average:
        return _Piece(day.basis, day.energy_joules, day.grams_co2e)
    year = yearly_intensity(day.basis.zone)
    known = yearly_factor(day.basis.zone)
    basis = Basis(day.basis.zone, year.kind, year.source, boundary=year.boundary.value)
    grams = carbon_grams(day.energy_joules, year.grams_per_kwh)
    return _Piece(basis, day.energy_joules, grams, known.year if known else 0)


@dataclass(frozen=True, slots=True)
class _Cover:
    """What certificates cover of one day's energy."""

    energy_joules: float = 0.0
    grams_co2e: float = 0.0


def _covered(days: Sequence[GridDay], certificates: Iterable[Certificate], period: Period) -> dict[int, _Cover]:
    """By the day's place: what certificates cover. Capped by consumption, evenly over a certificate's days and never twice."""
    covered: dict[int, _Cover] = {}
    for one in sorted(certificates, key=lambda one: (one.period.ends_at, one.certificate_id)):
        if one.kind == OFFSET:
            continue
        left = {
            place: day.energy_joules - covered.get(place, _Cover()).energy_joules
            for place, day in enumerate(days)
            if day.basis.accounting == LOCATION and one.serves(day.basis.zone) and _meets(one, day.day)
        }
        available = one.energy_kwh * one.part_of(period) * 3.6e6
        total = sum(left.values())
        fraction = min(1.0, available / total) if total > 0 else 0.0
        for place, joules in left.items():
            before, more = covered.get(place, _Cover()), joules * fraction
            grams = carbon_grams(more, one.intensity_grams_per_kwh)
            covered[place] = _Cover(before.energy_joules + more, before.grams_co2e + grams)
    return covered


def _covered_part(use: Use, period: Period) -> Mapping[int, _Cover]:
    """What certificates cover of the report's days, where these are only a part of the tenant's by the part."""
    if use.tenant_days is None:
        return _covered(use.days, use.certificates, period)
    place_of = {(day.day, day.basis): place for place, day in enumerate(use.tenant_days)}
    whole = _covered(use.tenant_days, use.certificates, period)
    parts: dict[int, _Cover] = {}
    for place, day in enumerate(use.days):
        at = place_of.get((day.day, day.basis))
        if at is not None and at in whole and use.tenant_days[at].energy_joules > 0:
            # Samples may still come in between two questions; a part is never more than all of it.
            part = min(1.0, day.energy_joules / use.tenant_days[at].energy_joules)
            parts[place] = _Cover(whole[at].energy_joules * part, whole[at].grams_co2e * part)
    return parts


def _meets(certificate: Certificate, day: datetime) -> bool:
    """Whether a day lies in a certificate's time, to the day: energy is known by days here."""
    midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = certificate.period.starts_at.replace(hour=0, minute=0, second=0, microsecond=0)
    return starts <= midnight < certificate.period.ends_at


def _marketed(
    days: Sequence[GridDay],
    located: Sequence[_Piece],
    covered: Mapping[int, _Cover],
    residual: Mapping[str, ResidualFactor],
) -> Iterable[_Piece]:
    """What certificates leave, by the market-based method: contracts' own figures, the residual mix, else the location's."""
    for place, (day, piece) in enumerate(zip(days, located, strict=True)):
        if day.basis.accounting == MARKET:
            yield _Piece(day.basis, day.energy_joules, day.grams_co2e)
            continue
        left = max(0.0, day.energy_joules - covered.get(place, _Cover()).energy_joules)
        zone = zone_name(day.basis.zone)
        known = residual.get(zone) or residual.get(zone.partition("-")[0])
        if known is not None:
            basis = Basis(day.basis.zone, "yearly", f"residual mix: {known.source}", accounting=MARKET)
            yield _Piece(basis, left, carbon_grams(left, known.intensity_grams_per_kwh), known.year)
        else:
            share = left / day.energy_joules if day.energy_joules else 0.0
            yield replace(piece, energy_joules=left, grams_co2e=piece.grams_co2e * share)


def _factors(pieces: Iterable[_Piece]) -> tuple[Factor, ...]:
    sums: dict[Basis, _Piece] = {}
    for piece in pieces:
        known = sums.get(piece.basis, _Piece(piece.basis, 0.0, 0.0))
        joules, grams = known.energy_joules + piece.energy_joules, known.grams_co2e + piece.grams_co2e
        sums[piece.basis] = _Piece(piece.basis, joules, grams, max(known.year, piece.year))
    told = [
        Factor(
            one.basis,
            one.grams_co2e / kwh_from_joules(one.energy_joules),
            one.year or _year_of(one.basis.source),
            one.energy_joules,
        )
        for one in sums.values()
        if one.energy_joules > 0
    ]
    return tuple(sorted(told, key=lambda factor: (-factor.energy_joules, factor.basis.zone, factor.basis.source)))


def _year_of(source: str) -> int:
    """The year that a citation names; 0 where it names none."""
    found = _YEAR.search(source)
    return int(found[1]) if found else 0
