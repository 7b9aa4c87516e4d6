"""Reads the tables of prices, regions, grids, typical days and watts; says file, line and field of what is wrong.

The tables that come with the package are in `tables/`; an operator may name a folder of his own with the same five files.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from ergonaut.errors import Refused
from ergonaut.events.base import PUBLIC_TENANT
from ergonaut.events.pricing import Market
from ergonaut.jobs import KNOWN_PROVIDERS
from ergonaut.units import GramsPerKwh, MicroUsd, micro_from_usd
from ergonaut_pricing.domain import LOCAL_PROVIDER, WORLD_ZONE, DayShape, Offer, PowerModel, Tables, ZoneFactor

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
    """A zone's yearly average."""

    zone: Zone = Field(min_length=1)
    intensity_grams_per_kwh: float = Field(gt=0, lt=2000)
    year: int = Field(ge=2000)
    basis: Literal["life-cycle", "direct"]
    range_fraction: float = Field(ge=0, le=1)
    shape: str
    solar_offset_hours: float = Field(ge=-12, le=14)
    licence: str = Field(min_length=1)
    source: Url


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


def load_tables(folder: Path | None = None) -> Tables:
    """Read and check all five files; those of the package where no folder is named. Raises Refused."""
    if folder is None:
        with resources.as_file(resources.files("ergonaut_pricing") / "tables") as packaged:
            return _load(packaged)
    return _load(folder)


def _load(folder: Path) -> Tables:
    power = _power_model(_lines(folder / "power.csv", PowerRow))
    shapes = _shapes(_lines(folder / "shapes.csv", ShapeRow))
    zones = _zones(_lines(folder / "grid.csv", GridRow), shapes)
    regions = _regions(_lines(folder / "regions.csv", RegionRow), zones)
    offers = _offers(_lines(folder / "offers.csv", OfferRow), regions, power)
    return Tables(offers, zones, shapes, power)


def _lines(path: Path, kind: type[R]) -> Sequence[Line[R]]:
    """Every row of a file, each valid in itself."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            return list(_checked_lines(path.name, reader, kind))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"cannot be read: {error}", field=path.name) from error


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
    _unique(lines, "zone", lambda row: row.zone)
    for line in lines:
        if line.row.zone != WORLD_ZONE and line.row.shape not in shapes:
            raise line.wrong("shape", f"{line.row.shape!r} is not in shapes.csv")
    if all(line.row.zone != WORLD_ZONE for line in lines):
        raise Refused(f"has no row for {WORLD_ZONE}, which stands in for unknown zones", field="grid.csv")
    return {line.row.zone: _zone_factor(line.row) for line in lines}


def _zone_factor(row: GridRow) -> ZoneFactor:
    return ZoneFactor(
        zone=row.zone,
        intensity_grams_per_kwh=GramsPerKwh(row.intensity_grams_per_kwh),
        year=row.year,
        basis=row.basis,
        range_fraction=row.range_fraction,
        shape=row.shape,
        solar_offset_hours=row.solar_offset_hours,
        licence=row.licence,
        source=row.source,
    )


def _regions(lines: Sequence[Line[RegionRow]], zones: Mapping[str, ZoneFactor]) -> dict[tuple[str, str], RegionRow]:
    _unique(lines, "region", lambda row: f"{row.provider}/{row.region}")
    for line in lines:
        if line.row.zone and line.row.zone not in zones:
            raise line.wrong("zone", f"{line.row.zone!r} is not in grid.csv; leave it empty where the grid is unknown")
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
