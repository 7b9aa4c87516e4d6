"""What a machine-hour costs, how much power it takes and how clean its electricity is: the rules, as pure functions.

Called by `service.py`; the figures come from the tables and from what hosts report of themselves.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

from ergonaut.carbon import yearly_factor
from ergonaut.errors import Refused
from ergonaut.events.base import PUBLIC_TENANT
from ergonaut.events.pricing import Accounting, Boundary, IntensityKind, Market, Signal
from ergonaut.ids import derived_id, is_name
from ergonaut.jobs import KNOWN_PROVIDERS
from ergonaut.units import GramsPerKwh, MicroUsd, Watts

LOCAL_PROVIDER = "local"
WORLD_ZONE = "WORLD"
OFFER_KEYS = "offer."
FORECAST_HOURS_DEFAULT = 24
FORECAST_HOURS_MAX = 168
"""A typical day repeats; beyond a week the season would have to be known."""

FORECAST_YEARS = (2000, 2100)
"""A yearly average of these years says nothing of another century."""

ZONE_LETTERS_MAX = 63
"""A zone is part of subjects and keys."""

_HOURS_A_DAY = 24


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine-hour for sale, or a machine of ours."""

    tenant: str
    provider: str
    region: str
    zone: str
    machine_type: str
    market: Market
    vcpus: float
    memory_gib: float
    accelerator: str
    accelerator_count: int
    price_microusd_per_hour: MicroUsd
    electricity_microusd_per_kwh: MicroUsd
    power_watts_expected: Watts
    pue: float
    billing_increment_seconds: int
    noted_at: datetime
    source: str

    @property
    def offer_id(self) -> str:
        """The offer's name, `provider/region/type/market`."""
        return f"{self.provider}/{self.region}/{self.machine_type}/{self.market}"

    @property
    def full_hour_microusd(self) -> float:
        """Rent of an hour and the electricity paid on top, at full load."""
        kwh = self.power_watts_expected * self.pue / 1000
        return self.price_microusd_per_hour + kwh * self.electricity_microusd_per_kwh


@dataclass(frozen=True, slots=True)
class OfferQuery:
    """Narrows offers; a field left empty does not narrow."""

    providers: frozenset[str] = frozenset()
    vcpus_min: float = 0
    memory_gib_min: float = 0
    accelerator: str = ""
    accelerator_count_min: int = 0

    def admits(self, offer: Offer) -> bool:
        """Whether the offer has all that is asked for."""
        return (
            (not self.providers or offer.provider in self.providers)
            and offer.vcpus >= self.vcpus_min
            and offer.memory_gib >= self.memory_gib_min
            and (not self.accelerator or offer.accelerator.casefold() == self.accelerator.casefold())
            and offer.accelerator_count >= self.accelerator_count_min
        )


def checked_query(query: OfferQuery) -> OfferQuery:
    """The query, or Refused naming the field that cannot be meant."""
    for provider in sorted(query.providers):
        if provider not in KNOWN_PROVIDERS:
            raise Refused(f"unknown provider {provider!r}; known are {', '.join(KNOWN_PROVIDERS)}", field="providers")
    for field, value in (("vcpus_min", query.vcpus_min), ("memory_gib_min", query.memory_gib_min)):
        if not 0 <= value < float("inf"):
            raise Refused(f"{value} is no amount; give 0 or more", field=field)
    return query


def cheapest_first(offers: Iterable[Offer], query: OfferQuery, tenant: str) -> list[Offer]:
    """The offers that a tenant may see and that the query admits, by the cost of an hour at full load."""
    seen = (offer for offer in offers if offer.tenant in (PUBLIC_TENANT, tenant))
    return sorted(filter(query.admits, seen), key=lambda offer: (offer.full_hour_microusd, offer.offer_id))


@dataclass(frozen=True, slots=True)
class PowerModel:
    """Expected watts of a machine under full load, by its parts; an estimate of about plus or minus a half."""

    watts_per_vcpu: float
    watts_per_memory_gib: float
    accelerator_watts: Mapping[str, float]
    other_accelerator_watts: float

    def watts(self, *, vcpus: float, memory_gib: float, accelerator: str, accelerator_count: int) -> Watts:
        """Sum over the machine's parts."""
        each = self.accelerator_watts.get(accelerator, self.other_accelerator_watts)
        return Watts(vcpus * self.watts_per_vcpu + memory_gib * self.watts_per_memory_gib + accelerator_count * each)


@dataclass(frozen=True, slots=True)
class ZoneFactor:
    """A zone's intensity over a year, what it rests on, and the kind of day that the zone has; without one, hours are alike."""

    zone: str
    intensity_grams_per_kwh: GramsPerKwh
    year: int
    boundary: Boundary
    range_fraction: float
    licence: str
    source: str
    shape: str = ""
    solar_offset_hours: float = 0.0
    signal: Signal = Signal.AVERAGE
    accounting: Accounting = Accounting.LOCATION_BASED
    own: bool = False
    """Whether the operator's own figure took the place of the shipped one."""

    @property
    def citation(self) -> str:
        """Where the factor comes from, in one line."""
        whose = "own figure: " if self.own else ""
        return f"{whose}{self.source} ({self.year}, {self.boundary.value}, {self.licence})"


@dataclass(frozen=True, slots=True)
class DayShape:
    """How intensity swings over a typical day: 24 multipliers with mean 1, by hour of mean solar time."""

    name: str
    multipliers: tuple[float, ...]
    range_fraction: float

    def at(self, solar_hour: float) -> float:
        """The multiplier over the hour that begins then; between two full hours they share by their parts."""
        first = int(solar_hour // 1) % _HOURS_A_DAY
        part = solar_hour % 1
        return self.multipliers[first] * (1 - part) + self.multipliers[(first + 1) % _HOURS_A_DAY] * part


@dataclass(frozen=True, slots=True)
class HourForecast:
    """A zone's intensity over one hour."""

    starts_at: datetime
    intensity_grams_per_kwh: GramsPerKwh
    range_fraction: float
    kind: IntensityKind


@dataclass(frozen=True, slots=True)
class ZoneForecast:
    """A zone's intensity hour by hour, and what that rests on."""

    zone: str
    hours: tuple[HourForecast, ...]
    source: str
    signal: Signal = Signal.AVERAGE
    accounting: Accounting = Accounting.LOCATION_BASED
    boundary: Boundary = Boundary.UNKNOWN


@dataclass(frozen=True, slots=True)
class Tables:
    """All that is known without asking anybody: list prices, grid factors, typical days, watts of parts."""

    offers: tuple[Offer, ...]
    zones: Mapping[str, ZoneFactor]
    shapes: Mapping[str, DayShape]
    power: PowerModel


def checked_hours(hours: int) -> int:
    """How many hours to tell; 0 stands for a day. Raises Refused above a week."""
    if hours > FORECAST_HOURS_MAX or hours < 0:
        raise Refused(f"{hours} is more than a week; ask for 1 to {FORECAST_HOURS_MAX}", field="hours")
    return hours or FORECAST_HOURS_DEFAULT


def checked_start(starts_at: datetime) -> datetime:
    """The moment, or Refused where a typical day says nothing of it."""
    if not FORECAST_YEARS[0] <= starts_at.year <= FORECAST_YEARS[1]:
        raise Refused(
            f"{starts_at:%Y-%m-%d} is not within {FORECAST_YEARS[0]} to {FORECAST_YEARS[1]}", field="starts_at"
        )
    return starts_at


def checked_zone(zone: str) -> str:
    """The zone as named, known or not; Refused where it cannot be the name of one."""
    if len(zone) > ZONE_LETTERS_MAX:
        raise Refused(f"has {len(zone)} letters; a zone's name has at most {ZONE_LETTERS_MAX}", field="zone")
    return zone


def forecast(tables: Tables, zone: str, starts_at: datetime, hours: int) -> ZoneForecast:
    """A zone's intensity from the hour that holds `starts_at` on; the world's average, flagged, where it is unknown."""
    first = starts_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    starts = [first + timedelta(hours=hour) for hour in range(hours)]
    factor = tables.zones.get(zone.upper()) or _of_the_whole(tables, zone)
    if factor is None or factor.zone == WORLD_ZONE:
        world = tables.zones[WORLD_ZONE]
        source = f"world average: no factor for zone {zone!r}; {world.citation}"
        hours_told = tuple(_even_hour(world, start, IntensityKind.WORLD_AVERAGE) for start in starts)
        return ZoneForecast(zone, hours_told, source, boundary=world.boundary)
    bases = (factor.signal, factor.accounting, factor.boundary)
    if not factor.shape:
        even = tuple(_even_hour(factor, start, IntensityKind.YEARLY) for start in starts)
        return ZoneForecast(zone, even, factor.citation, *bases)
    shape = tables.shapes[factor.shape]
    source = f"{factor.citation}, bent by the typical day `{shape.name}`, an estimate"
    return ZoneForecast(zone, tuple(_typical_hour(factor, shape, start) for start in starts), source, *bases)


def _of_the_whole(tables: Tables, zone: str) -> ZoneFactor | None:
    """The factor of a zone's other name, or of the country that it is a part of, which is trusted less."""
    found = yearly_factor(zone) if zone else None
    whole = tables.zones.get(found.zone) if found else None
    if found is None or whole is None or not found.stands_for:
        return whole
    source = f"{whole.source}, that of {whole.zone} as a whole"
    return replace(whole, source=source, range_fraction=max(whole.range_fraction, found.range_fraction))


def _even_hour(factor: ZoneFactor, start: datetime, kind: IntensityKind) -> HourForecast:
    return HourForecast(start, factor.intensity_grams_per_kwh, factor.range_fraction, kind)


def _typical_hour(factor: ZoneFactor, shape: DayShape, start: datetime) -> HourForecast:
    grams = factor.intensity_grams_per_kwh * shape.at(start.hour + factor.solar_offset_hours)
    # The year's figure and the day's swing may be off in the same direction, so their ranges add up.
    range_fraction = factor.range_fraction + shape.range_fraction
    return HourForecast(start, GramsPerKwh(grams), range_fraction, IntensityKind.TYPICAL)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine of ours, as its agent reported it."""

    tenant: str
    name: str
    zone: str
    vcpus: float
    memory_gib: float
    accelerator: str
    accelerator_count: int
    reported_at: datetime


@dataclass(frozen=True, slots=True)
class LocalTerms:
    """What running a machine of ours costs beyond owning it."""

    electricity_microusd_per_kwh: MicroUsd
    pue: float


def newer_host(known: Host | None, told: Host) -> Host | None:
    """The host to keep from now on; None where the report is stale or says nothing new."""
    if known is None:
        return told
    stale = told.reported_at <= known.reported_at
    unchanged = replace(told, reported_at=known.reported_at) == known
    return None if stale or unchanged else told


def offer_of_host(host: Host, terms: LocalTerms, power: PowerModel) -> Offer:
    """A machine of ours as an offer: no rent, but its electricity."""
    return Offer(
        tenant=host.tenant,
        provider=LOCAL_PROVIDER,
        region=host.name,
        zone=host.zone,
        machine_type="machine",
        market=Market.FREE,
        vcpus=host.vcpus,
        memory_gib=host.memory_gib,
        accelerator=host.accelerator,
        accelerator_count=host.accelerator_count,
        price_microusd_per_hour=MicroUsd(0),
        electricity_microusd_per_kwh=terms.electricity_microusd_per_kwh,
        power_watts_expected=power.watts(
            vcpus=host.vcpus,
            memory_gib=host.memory_gib,
            accelerator=host.accelerator,
            accelerator_count=host.accelerator_count,
        ),
        pue=terms.pue,
        billing_increment_seconds=1,
        noted_at=host.reported_at,
        source=f"reported by the host; electricity price and PUE {terms.pue} from the settings of pricing, not measured",
    )


def tellable_zone(zone: str) -> str:
    """The zone as it may stand in a subject; empty, which is unknown, where it cannot."""
    return zone if is_name(zone.lower().replace("_", "-")) else ""


def zones_in_use(offers: Iterable[Offer]) -> Sequence[str]:
    """The zones that offers name, sorted; those without a zone are left out."""
    return sorted({offer.zone for offer in offers if offer.zone})


def seconds_to_full_hour(now: datetime) -> float:
    """How long it is until the next full hour of UTC."""
    into = now.minute * 60 + now.second + now.microsecond / 1_000_000
    return 3600 - into


def offer_key(offer: Offer) -> str:
    """Under which an offer is remembered as told."""
    return f"{OFFER_KEYS}{offer.tenant}.{derived_id('offer', offer.offer_id)}"


def intensity_key(zone: str) -> str:
    """Under which a zone's intensity is remembered as told."""
    return f"intensity.{zone.lower()}"


def offer_text(offer: Offer) -> str:
    """All of an offer as text; two offers are the same when their texts are."""
    return json.dumps(asdict(offer) | {"noted_at": offer.noted_at.isoformat()}, sort_keys=True)


def offer_of_text(text: str) -> Offer | None:
    """The offer that `offer_text` wrote; None where that was another version's, with other fields."""
    fields = json.loads(text)
    if fields.keys() != Offer.__dataclass_fields__.keys():
        return None
    return Offer(
        **fields | {"market": Market(fields["market"]), "noted_at": datetime.fromisoformat(fields["noted_at"])}
    )


def forecast_digest(told: ZoneForecast) -> str:
    """A short text that is the same for the same hours and figures."""
    hours = (f"{hour.starts_at.isoformat()} {hour.intensity_grams_per_kwh} {hour.kind}" for hour in told.hours)
    bases = (told.signal.value, told.accounting.value, told.boundary.value)
    return derived_id("forecast", told.zone, told.source, *bases, *hours)
