"""Reads the tables of prices, regions, grids, typical days and watts; says file, line and field of what is wrong.

The tables that come with the package are in `tables/`; an operator may name a folder of his own with the same five files, and
beside it a file of own figures that take the place of zones' factors. The factors themselves are the SDK's, `ergonaut.carbon`.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from ergonaut.carbon.factors import WORLD, YearlyFactor, shipped_factors
from ergonaut.errors import Refused
from ergonaut.events.base import PUBLIC_TENANT
from ergonaut.events.pricing import Accounting, Boundary, Market, Signal
from ergonaut.jobs import KNOWN_PROVIDERS
from ergonaut.units import GramsPerKwh, MicroUsd, micro_from_usd
from ergonaut_pricing.domain import LOCAL_PROVIDER, DayShape, Offer, PowerModel, Tables, ZoneFactor

MEAN_TOLERANCE = 0.0005
"""Multipliers have three digits; their mean may miss 1 by no more than the rounding of one of them."""

ROWS_MAX = 100_000
"""More rows than all providers sell; a larger file is a mistake, and would fill the memory."""

Url = Annotated[str, Field(pattern=r"^https://[^\s]+$")]
Zone = Annotated[str, Field(pattern=r"^([A-Z0-9]+([-_][A-Z0-9]+)*)?$")]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OfferRow(_Row):
    """One list price, noted on a day."""

    provider: str
    region: str = Field(min_length=1)
    zone: Zone
    machine_type: str = Field(min_length=1)
    market: Literal[Market.ON_DEMAND, Market.SPOT]
    vcpus: float = Field(gt=0, allow_inf_nan=False)
    memory_gib: float = Field(gt=0, allow_inf_nan=False)
    accelerator: str
    accelerator_count: int = Field(ge=0)
    price_usd_per_hour: float = Field(gt=0, allow_inf_nan=False)
    billing_increment_seconds: int = Field(ge=1)
    noted_on: date
    source: Url
    noted_from: Url
    note: str

    @model_validator(mode="after")
    def _provider_sells(self) -> "OfferRow":
        if self.provider not in KNOWN_PROVIDERS or self.provider == LOCAL_PROVIDER:
            raise ValueError(f"provider: {self.provider!r} is no provider that sells; add it to KNOWN_PROVIDERS first")
        if bool(self.accelerator) != bool(self.accelerator_count):
            raise ValueError("accelerator_count: give both accelerator and accelerator_count, or neither")
        return self


class RegionRow(_Row):
    """Where a region stands, and how much its building uses beside its machines."""

    provider: str
    region: str = Field(min_length=1)
    zone: Zone
    pue: float = Field(ge=1, le=3)
    pue_basis: Literal["published", "assumed"]
    pue_year: int = Field(ge=2000)
    source: Url


class GridRow(_Row):
    """Which kind of day a zone has."""

    zone: Zone = Field(min_length=1)
    shape: str
    solar_offset_hours: float = Field(ge=-12, le=14)


class OwnRow(_Row):
    """A figure of one's own for a zone: a supplier's, a contract's, a mix with solar power of one's own, or a marginal one."""

    zone: Zone = Field(min_length=1)
    intensity_grams_per_kwh: float = Field(gt=0, lt=2000)
    year: int = Field(ge=2000, le=2100)
    signal: Signal
    accounting: Accounting
    boundary: Boundary
    range_fraction: float = Field(ge=0, le=2)
    shape: str
    source: str = Field(min_length=1, max_length=300)

    @model_validator(mode="after")
    def _contracts_are_no_margins(self) -> "OwnRow":
        if self.signal is Signal.MARGINAL and self.accounting is Accounting.MARKET_BASED:
            raise ValueError("accounting: a marginal signal is location-based; contracts have no margin")
        return self


class PowerRow(_Row):
    """Watts of one part."""

    component: Literal["vcpu", "memory_gib", "accelerator"]
    name: str
    watts: float = Field(gt=0, allow_inf_nan=False)
    note: str
    source: Url


HOUR_COLUMNS = tuple(f"h{hour:02d}" for hour in range(24))
_Multiplier = Annotated[float, Field(gt=0, lt=24)]
ShapeRow = create_model(
    "ShapeRow",
    __base__=_Row,
    __doc__="A typical day: 24 multipliers.",
    shape=(Annotated[str, Field(min_length=1)], ...),
    kind=(Literal["typical"], ...),
    range_fraction=(Annotated[float, Field(gt=0, le=1)], ...),
    **dict.fromkeys(HOUR_COLUMNS, (_Multiplier, ...)),  # type: ignore[call-overload]
)

R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Line(Generic[R]):
    """A row that is valid in itself, and where it stands."""

    file: str
    number: int
    row: R

    def wrong(self, field: str, because: str) -> Refused:
        """The error that names this row's field."""
        return Refused(because, field=f"{self.file}:{self.number}:{field}")


def load_tables(folder: Path | None = None, own: Path | None = None) -> Tables:
    """Read and check all five files, those of the package where no folder is named, and own figures. Raises Refused."""
    if folder is None:
        with resources.as_file(resources.files("ergonaut_pricing") / "tables") as packaged:
            return _load(packaged, own)
    return _load(folder, own)


def _load(folder: Path, own: Path | None) -> Tables:
    power = _power_model(_lines(folder / "power.csv", PowerRow))
    shapes = _shapes(_lines(folder / "shapes.csv", ShapeRow))
    zones = _zones(_lines(folder / "grid.csv", GridRow), shapes)
    if own is not None:
        zones |= _own_figures(_lines(own, OwnRow), shapes, zones)
    regions = _regions(_lines(folder / "regions.csv", RegionRow), zones)
    offers = _offers(_lines(folder / "offers.csv", OfferRow), regions, power)
    return Tables(offers, zones, shapes, power)


def _lines(path: Path, kind: type[R]) -> Sequence[Line[R]]:
    """Every row of a file, each valid in itself."""
    try:
        # Spreadsheets begin a file of theirs with a mark of its encoding, which is no part of the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(path.name, reader.fieldnames or (), kind)
            return list(_checked_lines(path.name, reader, kind))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"cannot be read: {error}", field=path.name) from error


def _check_header(file: str, columns: Sequence[str], kind: type[BaseModel]) -> None:
    """Without it a file whose first row is a figure would be read as one with no figures."""
    missing = [column for column in kind.model_fields if column not in columns]
    if missing:
        raise Refused(f"the first line names no column {', '.join(missing)}", field=f"{file}:1")


def _checked_lines(file: str, reader: "csv.DictReader[str]", kind: type[R]) -> Iterator[Line[R]]:
    for row in reader:
        if reader.line_num > ROWS_MAX:
            raise Refused(f"has more than {ROWS_MAX} lines", field=file)
        try:
            yield Line(file, reader.line_num, kind.model_validate(_named_cells(row)))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            message = problem["msg"].removeprefix("Value error, ")
            field = ".".join(str(part) for part in problem["loc"]) or message.partition(":")[0]
            raise Refused(message, field=f"{file}:{reader.line_num}:{field}") from error


def _named_cells(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row's cells by column; cells beyond the header get a name of their own, and are refused as such."""
    return {name if name is not None else "beyond the last column": cell for name, cell in row.items()}


def _unique(lines: Sequence[Line[R]], field: str, key: Callable[[R], object]) -> None:
    seen: dict[object, int] = {}
    for line in lines:
        name = key(line.row)
        if name in seen:
            raise line.wrong(field, f"{name} stands on line {seen[name]} already")
        seen[name] = line.number


def _power_model(lines: Sequence[Line[PowerRow]]) -> PowerModel:
    _unique(lines, "component", lambda row: f"{row.component} {row.name}".strip())
    watts = {(line.row.component, line.row.name): line.row.watts for line in lines}
    for component, name in (("vcpu", ""), ("memory_gib", ""), ("accelerator", "other")):
        if (component, name) not in watts:
            raise Refused(f"has no row for {component} {name}".rstrip(), field="power.csv")
    accelerators = {name: value for (component, name), value in watts.items() if component == "accelerator"}
    other = accelerators.pop("other")
    return PowerModel(watts["vcpu", ""], watts["memory_gib", ""], accelerators, other)


def _shapes(lines: Sequence[Line[Any]]) -> dict[str, DayShape]:
    _unique(lines, "shape", lambda row: row.shape)
    shapes = {}
    for line in lines:
        multipliers = tuple(getattr(line.row, column) for column in HOUR_COLUMNS)
        mean = sum(multipliers) / len(multipliers)
        if abs(mean - 1) > MEAN_TOLERANCE:
            raise line.wrong("h00", f"the mean of the 24 multipliers is {mean:.4f}; it must be 1")
        shapes[line.row.shape] = DayShape(line.row.shape, multipliers, line.row.range_fraction)
    return shapes


def _zones(lines: Sequence[Line[GridRow]], shapes: Mapping[str, DayShape]) -> dict[str, ZoneFactor]:
    """Every zone of the SDK's table, bent by its kind of day where that is known."""
    _unique(lines, "zone", lambda row: row.zone)
    factors = shipped_factors()
    days = {line.row.zone: line.row for line in lines}
    for line in lines:
        if line.row.shape not in shapes:
            raise line.wrong("shape", f"{line.row.shape!r} is not in shapes.csv")
        if line.row.zone not in factors or line.row.zone == WORLD:
            raise line.wrong(
                "zone", f"{line.row.zone!r} has no yearly factor; a figure of your own goes into own figures"
            )
    return {zone: _zone_factor(factor, days.get(zone)) for zone, factor in factors.items()}


def _zone_factor(factor: YearlyFactor, day: GridRow | None) -> ZoneFactor:
    return ZoneFactor(
        zone=factor.zone,
        intensity_grams_per_kwh=GramsPerKwh(factor.intensity_grams_per_kwh),
        year=factor.year,
        boundary=factor.boundary,
        range_fraction=factor.range_fraction,
        licence=factor.licence,
        source=factor.source,
        shape=day.shape if day else "",
        solar_offset_hours=day.solar_offset_hours if day else 0.0,
    )


def _own_figures(
    lines: Sequence[Line[OwnRow]], shapes: Mapping[str, DayShape], zones: Mapping[str, ZoneFactor]
) -> dict[str, ZoneFactor]:
    """Own figures by zone; each hour is alike unless a shape is named, since a contract has no time of day."""
    _unique(lines, "zone", lambda row: row.zone)
    own = {}
    for line in lines:
        row, known = line.row, zones.get(line.row.zone)
        if row.zone == WORLD:
            raise line.wrong(
                "zone", "the world's average stands in for what is not known, and has no figure of one's own"
            )
        if row.shape and row.shape not in shapes:
            raise line.wrong("shape", f"{row.shape!r} is not in shapes.csv; leave it empty where all hours are alike")
        own[row.zone] = ZoneFactor(
            zone=row.zone,
            intensity_grams_per_kwh=GramsPerKwh(row.intensity_grams_per_kwh),
            year=row.year,
            boundary=row.boundary,
            range_fraction=row.range_fraction,
            licence="own",
            source=row.source,
            shape=row.shape,
            solar_offset_hours=known.solar_offset_hours if known else 0.0,
            signal=row.signal,
            accounting=row.accounting,
            own=True,
        )
    return own


def _regions(lines: Sequence[Line[RegionRow]], zones: Mapping[str, ZoneFactor]) -> dict[tuple[str, str], RegionRow]:
    _unique(lines, "region", lambda row: f"{row.provider}/{row.region}")
    for line in lines:
        if line.row.zone and line.row.zone not in zones:
            raise line.wrong("zone", f"{line.row.zone!r} has no factor; leave it empty where the grid is unknown")
    return {(line.row.provider, line.row.region): line.row for line in lines}


def _offers(
    lines: Sequence[Line[OfferRow]], regions: Mapping[tuple[str, str], RegionRow], power: PowerModel
) -> tuple[Offer, ...]:
    offers = []
    for line in lines:
        region = regions.get((line.row.provider, line.row.region))
        if region is None:
            raise line.wrong("region", f"{line.row.provider}/{line.row.region} is not in regions.csv")
        if region.zone != line.row.zone:
            raise line.wrong("zone", f"{line.row.zone!r} is not the {region.zone!r} of regions.csv")
        offers.append(_offer(line.row, region, power))
    _unique(lines, "machine_type", lambda row: f"{row.provider}/{row.region}/{row.machine_type}/{row.market}")
    return tuple(offers)


def _offer(row: OfferRow, region: RegionRow, power: PowerModel) -> Offer:
    parts = {
        "vcpus": row.vcpus,
        "memory_gib": row.memory_gib,
        "accelerator": row.accelerator,
        "accelerator_count": row.accelerator_count,
    }
    return Offer(
        tenant=PUBLIC_TENANT,
        provider=row.provider,
        region=row.region,
        zone=row.zone,
        machine_type=row.machine_type,
        market=row.market,
        price_microusd_per_hour=micro_from_usd(row.price_usd_per_hour),
        electricity_microusd_per_kwh=MicroUsd(0),
        power_watts_expected=power.watts(**parts),  # type: ignore[arg-type]
        pue=region.pue,
        billing_increment_seconds=row.billing_increment_seconds,
        noted_at=datetime(row.noted_on.year, row.noted_on.month, row.noted_on.day, tzinfo=UTC),
        source=_source(row, region),
        **parts,  # type: ignore[arg-type]
    )


def _source(row: OfferRow, region: RegionRow) -> str:
    """Where the price is published, where it was read, and what else one should know of the row."""
    read = "" if row.noted_from == row.source else f" as told by {row.noted_from}"
    note = f" ({row.note})" if row.note else ""
    return f"{row.source}{read}{note}; PUE {region.pue_basis}"
