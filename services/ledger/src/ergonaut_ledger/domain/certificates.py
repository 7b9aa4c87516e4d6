"""Contractual instruments: certificates, power purchases and offsets, and how much of each a time may use. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ergonaut.carbon import zone_name
from ergonaut.errors import Conflict, Refused

KINDS = ("renewable", "power-purchase", "offset")
OFFSET = "offset"
TEXT_MAX = 200
"""Registries' serial numbers are shorter; more is a mistake."""

PERIOD_DAYS_MAX = 366
"""A year; who needs more asks for each year, as reports are written."""

EARLIEST_YEAR, LATEST_YEAR = 2000, 2200


@dataclass(frozen=True, slots=True)
class Period:
    """A time, its end left out; UTC."""

    starts_at: datetime
    ends_at: datetime

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.ends_at - self.starts_at

    def common(self, other: "Period") -> "Period | None":
        """What two times share; None where that is nothing."""
        starts_at, ends_at = max(self.starts_at, other.starts_at), min(self.ends_at, other.ends_at)
        return Period(starts_at, ends_at) if starts_at < ends_at else None

    def holds(self, moment: datetime) -> bool:
        """Whether a moment lies in it."""
        return self.starts_at <= moment < self.ends_at


@dataclass(frozen=True, slots=True)
class Certificate:
    """One instrument as it stands in the books."""

    certificate_id: str
    kind: str
    registry: str
    zone: str
    period: Period
    energy_kwh: float = 0.0
    intensity_grams_per_kwh: float = 0.0
    offset_grams_co2e: float = 0.0
    cost_usd: float | None = None
    principal: str = ""
    voided: bool = False
    version: int = 1

    def part_of(self, period: Period) -> float:
        """The fraction of it that a time may use: by the time in common, so that reports side by side never use it twice."""
        common = self.period.common(period)
        return 0.0 if common is None or self.voided else common.length / self.period.length

    def serves(self, zone: str) -> bool:
        """Whether it is of a zone's market: the zone itself, or the country that the zone is a part of."""
        own, used = zone_name(self.zone), zone_name(zone)
        return bool(own) and (used == own or used.startswith(f"{own}-"))


def checked_period(period: Period, *, days_max: int | None = PERIOD_DAYS_MAX) -> Period:
    """The period, or Refused where it is empty, too long, or of another century."""
    if not period.starts_at < period.ends_at:
        raise Refused("must end after it starts", field="period")
    if period.starts_at.year < EARLIEST_YEAR or period.ends_at.year >= LATEST_YEAR:
        raise Refused(f"must lie within {EARLIEST_YEAR} to {LATEST_YEAR}", field="period")
    if days_max is not None and period.length > timedelta(days=days_max):
        raise Refused(f"is {period.length.days} days; at most {days_max} fit one report", field="period")
    return period


def checked_certificate(told: Certificate) -> Certificate:
    """The certificate, or Refused naming the field that cannot be meant."""
    for field, text in (("certificate_id", told.certificate_id), ("registry", told.registry)):
        if not text.strip() or len(text) > TEXT_MAX or not text.isprintable():
            raise Refused(f"give 1 to {TEXT_MAX} printable letters", field=field)
    if told.kind not in KINDS:
        raise Refused(f"{told.kind!r} is none of {', '.join(KINDS)}", field="kind")
    checked_period(told.period, days_max=None)
    _checked_amounts(told)
    _checked_kind(told)
    return told


def _checked_amounts(told: Certificate) -> None:
    for field in ("energy_kwh", "intensity_grams_per_kwh", "offset_grams_co2e", "cost_usd"):
        amount = getattr(told, field)
        if amount is not None and not (math.isfinite(amount) and amount >= 0):
            raise Refused(f"{amount} is no amount; give 0 or more", field=field)


def _checked_kind(told: Certificate) -> None:
    offset = told.kind == OFFSET
    for field, amount, wanted in (
        ("offset_grams_co2e", told.offset_grams_co2e, offset),
        ("energy_kwh", told.energy_kwh, not offset),
    ):
        if bool(amount) != wanted:
            raise Refused(f"{'must be more than' if wanted else 'must be'} 0 for the kind {told.kind}", field=field)
    if offset and (told.zone or told.intensity_grams_per_kwh):
        raise Refused(
            "an offset has no zone and no intensity", field="zone" if told.zone else "intensity_grams_per_kwh"
        )
    if not offset and not told.zone.strip():
        raise Refused("name the grid zone of the plant", field="zone")


def recorded(known: Certificate | None, told: Certificate) -> Certificate | None:
    """What to write when a certificate is told; None where it is on record already. Raises Conflict where it stands otherwise."""
    if known is None:
        return told
    if known.voided:
        raise Conflict(f"certificate {told.certificate_id!r} was taken out of the books; record it under another id")
    if replace(told, principal=known.principal, version=known.version) != known:
        raise Conflict(
            f"certificate {told.certificate_id!r} is on record with other figures; void it, or use another id"
        )
    return None


def voided(known: Certificate, principal: str) -> Certificate | None:
    """What to write when a certificate is taken out; None where it is out already."""
    return None if known.voided else replace(known, voided=True, principal=principal, version=known.version + 1)


def concerning(certificates: Iterable[Certificate], period: Period) -> list[Certificate]:
    """Those in the books whose time meets a period, newest period first."""
    meeting = [one for one in certificates if not one.voided and one.period.common(period)]
    return sorted(meeting, key=lambda one: (one.period.ends_at, one.certificate_id), reverse=True)
