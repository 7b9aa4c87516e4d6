"""The shipped tables are what they say, and a bad row is named by file, line and field."""

import csv
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from ergonaut.errors import Refused
from ergonaut.events.pricing import Accounting, Boundary, IntensityKind, Market, Signal
from ergonaut.jobs import KNOWN_PROVIDERS
from ergonaut_pricing.adapters.tables import load_tables
from ergonaut_pricing.domain import Tables, forecast

SHIPPED = Path(str(resources.files("ergonaut_pricing") / "tables"))
FILES = ("offers.csv", "regions.csv", "grid.csv", "shapes.csv", "power.csv")


def rows_of(file: str) -> list[dict[str, str]]:
    with (SHIPPED / file).open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def tables_with(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the shipped tables in which one cell of one file is changed; row 0 is the first after the header."""

    def change(file: str, column: str, value: Any, row: int = 0) -> Path:
        folder = tmp_path / "tables"
        shutil.copytree(SHIPPED, folder)
        rows = rows_of(file)
        rows[row][column] = value
        with (folder / file).open("w", newline="") as lines:
            writer = csv.DictWriter(lines, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return folder

    return change


def test_every_provider_that_sells_has_offers(shipped: Tables) -> None:
    assert {offer.provider for offer in shipped.offers} == set(KNOWN_PROVIDERS) - {"local"}


def test_there_are_a_few_dozen_offers_of_both_markets_with_and_without_accelerators(shipped: Tables) -> None:
    assert 40 <= len(shipped.offers) <= 60
    assert {offer.market for offer in shipped.offers} == {Market.ON_DEMAND, Market.SPOT}
    assert {bool(offer.accelerator) for offer in shipped.offers} == {True, False}


def test_every_region_stands_in_a_zone_with_a_factor_or_says_that_its_grid_is_unknown(shipped: Tables) -> None:
    zones = {row["provider"]: row["zone"] for row in rows_of("regions.csv") if row["zone"] not in shipped.zones}
    assert zones == {"vastai": ""}


def test_every_row_of_every_table_has_a_source_on_the_web() -> None:
    sources = [row["source"] for file in FILES if file not in ("shapes.csv", "grid.csv") for row in rows_of(file)]
    sources += [row["noted_from"] for row in rows_of("offers.csv")]
    assert all(source.startswith("https://") for source in sources)


def test_every_price_is_dated_and_every_pue_has_its_year() -> None:
    dates = [date.fromisoformat(row["noted_on"]) for row in rows_of("offers.csv")]
    years = [int(row["pue_year"]) for row in rows_of("regions.csv")]
    assert min(dates) >= date(2025, 1, 1)
    assert min(years) >= 2018


def test_the_watts_of_every_accelerator_on_offer_are_known(shipped: Tables) -> None:
    offered = {offer.accelerator for offer in shipped.offers if offer.accelerator}
    assert offered <= set(shipped.power.accelerator_watts)


def test_every_typical_day_has_mean_one_and_is_marked_as_typical(shipped: Tables) -> None:
    assert {name: sum(shape.multipliers) / 24 for name, shape in shipped.shapes.items()} == {
        name: pytest.approx(1, abs=1e-9) for name in ("solar", "mixed", "wind", "flat", "thermal")
    }
    assert {row["kind"] for row in rows_of("shapes.csv")} == {"typical"}


def test_a_solar_grid_is_cleanest_at_noon_and_dirtier_in_the_evening_than_in_the_morning(shipped: Tables) -> None:
    solar = shipped.shapes["solar"].multipliers
    assert solar.index(min(solar)) == 12
    assert max(solar[18:22]) > max(solar[6:9])


def test_the_range_of_the_worlds_average_takes_in_every_zone_of_the_table(shipped: Tables) -> None:
    world = shipped.zones["WORLD"]
    reach = world.range_fraction * world.intensity_grams_per_kwh
    distances = [abs(zone.intensity_grams_per_kwh - world.intensity_grams_per_kwh) for zone in shipped.zones.values()]
    assert max(distances) <= reach


def test_a_zone_on_offer_has_a_kind_of_day_and_one_that_has_none_is_even(shipped: Tables) -> None:
    offered = {offer.zone for offer in shipped.offers if offer.zone}
    assert all(shipped.zones[zone].shape for zone in offered)
    assert shipped.zones["MN"].shape == ""


OWN_HEADER = "zone,intensity_grams_per_kwh,year,signal,accounting,boundary,range_fraction,shape,source\n"


def own_file(folder: Path, *rows: str) -> Path:
    path = folder / "own.csv"
    path.write_text(OWN_HEADER + "".join(f"{row}\n" for row in rows))
    return path


def test_a_figure_of_ones_own_takes_the_place_of_the_zones_and_says_what_it_is(tmp_path: Path) -> None:
    own = own_file(tmp_path, "DE,35,2025,average,market-based,life-cycle,0.1,,Stadtwerke label 2025")
    tables = load_tables(own=own)
    told = forecast(tables, "DE", datetime(2026, 3, 1, 12, tzinfo=UTC), 2)
    assert [(hour.intensity_grams_per_kwh, hour.kind) for hour in told.hours] == [(35, IntensityKind.YEARLY)] * 2
    assert (told.signal, told.accounting, told.boundary) == (
        Signal.AVERAGE,
        Accounting.MARKET_BASED,
        Boundary.LIFE_CYCLE,
    )
    assert told.source == "own figure: Stadtwerke label 2025 (2025, life-cycle, own)"
    assert forecast(tables, "FR", datetime(2026, 3, 1, tzinfo=UTC), 1).accounting is Accounting.LOCATION_BASED


def test_a_mix_with_solar_power_of_ones_own_may_have_a_day_and_a_zone_of_its_own(tmp_path: Path) -> None:
    own = own_file(tmp_path, "CAMPUS,120,2025,marginal,location-based,direct,0.3,solar,campus meters")
    told = forecast(load_tables(own=own), "campus", datetime(2026, 3, 1, tzinfo=UTC), 24)
    assert told.signal is Signal.MARGINAL
    assert {hour.kind for hour in told.hours} == {IntensityKind.TYPICAL}
    assert min(hour.intensity_grams_per_kwh for hour in told.hours) < 100


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ("DE,-5,2025,average,market-based,life-cycle,0.1,,x", "intensity_grams_per_kwh"),
        ("DE,0,2025,average,market-based,life-cycle,0.1,,x", "intensity_grams_per_kwh"),
        ("DE,nan,2025,average,market-based,life-cycle,0.1,,x", "intensity_grams_per_kwh"),
        ("de,35,2025,average,market-based,life-cycle,0.1,,x", "zone"),
        ("WORLD,35,2025,average,market-based,life-cycle,0.1,,x", "zone"),
        ("DE,35,25,average,market-based,life-cycle,0.1,,x", "year"),
        ("DE,35,2025,mean,market-based,life-cycle,0.1,,x", "signal"),
        ("DE,35,2025,average,green,life-cycle,0.1,,x", "accounting"),
        ("DE,35,2025,marginal,market-based,life-cycle,0.1,,x", "accounting"),
        ("DE,35,2025,average,market-based,total,0.1,,x", "boundary"),
        ("DE,35,2025,average,market-based,life-cycle,0.1,square,x", "shape"),
        ("DE,35,2025,average,market-based,life-cycle,0.1,,", "source"),
    ],
)
def test_a_nonsensical_own_figure_is_refused_by_file_line_and_field(tmp_path: Path, row: str, wrong: str) -> None:
    with pytest.raises(Refused, match=rf"^own\.csv:2:{wrong}: "):
        load_tables(own=own_file(tmp_path, row))


def test_own_figures_that_cannot_be_read_are_refused_by_their_file(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"^absent\.csv: cannot be read"):
        load_tables(own=tmp_path / "absent.csv")


@pytest.mark.parametrize(
    "text", ["", "DE,35,2025,average,market-based,life-cycle,0.1,,Stadtwerke label 2025\n", OWN_HEADER[5:]]
)
def test_own_figures_without_their_first_line_are_refused_and_never_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(Refused, match=r"^own\.csv:1: the first line names no column .*zone"):
        load_tables(own=tmp_path / "own.csv")


def test_own_figures_that_a_spreadsheet_saved_are_read(tmp_path: Path) -> None:
    rows = f"{OWN_HEADER}DE,35,2025,average,market-based,life-cycle,0.1,,Stadtwerke label 2025\r\n"
    (tmp_path / "own.csv").write_text(rows, encoding="utf-8-sig")
    assert load_tables(own=tmp_path / "own.csv").zones["DE"].own


def test_ranges_that_add_up_to_more_than_the_whole_are_told_as_they_are(tmp_path: Path) -> None:
    own = own_file(tmp_path, "CAMPUS,120,2025,average,location-based,direct,1.5,solar,a guess")
    [hour] = forecast(load_tables(own=own), "CAMPUS", datetime(2026, 3, 1, tzinfo=UTC), 1).hours
    assert hour.range_fraction > 1.5


@pytest.mark.parametrize(
    ("file", "column", "value", "wrong"),
    [
        ("offers.csv", "price_usd_per_hour", "0", "offers.csv:2:price_usd_per_hour:"),
        ("offers.csv", "price_usd_per_hour", "cheap", "offers.csv:2:price_usd_per_hour:"),
        ("offers.csv", "price_usd_per_hour", "nan", "offers.csv:2:price_usd_per_hour:"),
        ("offers.csv", "vcpus", "-4", "offers.csv:2:vcpus:"),
        ("offers.csv", "market", "free", "offers.csv:2:market:"),
        ("offers.csv", "provider", "acme", "offers.csv:2:provider:"),
        ("offers.csv", "provider", "local", "offers.csv:2:provider:"),
        ("offers.csv", "region", "atlantis", "offers.csv:2:region:"),
        ("offers.csv", "zone", "FR", "offers.csv:2:zone:"),
        ("offers.csv", "noted_on", "yesterday", "offers.csv:2:noted_on:"),
        ("offers.csv", "source", "hearsay", "offers.csv:2:source:"),
        ("offers.csv", "accelerator_count", "1", "offers.csv:2:accelerator_count:"),
        ("regions.csv", "zone", "XX", "regions.csv:2:zone:"),
        ("regions.csv", "pue", "0.9", "regions.csv:2:pue:"),
        ("grid.csv", "zone", "MOON", "grid.csv:2:zone:"),
        ("grid.csv", "solar_offset_hours", "noon", "grid.csv:2:solar_offset_hours:"),
        ("grid.csv", "shape", "square", "grid.csv:2:shape:"),
        ("shapes.csv", "h07", "0", "shapes.csv:2:h07:"),
        ("shapes.csv", "h07", "1.9", "shapes.csv:2:h00:"),
        ("power.csv", "watts", "", "power.csv:2:watts:"),
    ],
)
def test_a_bad_cell_is_refused_by_file_line_and_field(
    tables_with: Callable[..., Path], file: str, column: str, value: str, wrong: str
) -> None:
    with pytest.raises(Refused) as refusal:
        load_tables(tables_with(file, column, value))
    assert str(refusal.value).startswith(wrong)


def test_the_line_that_is_named_is_the_one_in_the_file(tables_with: Callable[..., Path]) -> None:
    with pytest.raises(Refused, match=r"^offers\.csv:7:vcpus:"):
        load_tables(tables_with("offers.csv", "vcpus", "many", row=5))


def test_the_same_offer_twice_is_refused(tables_with: Callable[..., Path]) -> None:
    second = rows_of("offers.csv")[1]
    folder = tables_with("offers.csv", "region", second["region"])
    with pytest.raises(Refused, match=r"^offers\.csv:2:zone:"):
        load_tables(folder)
    text = (SHIPPED / "offers.csv").read_text().splitlines()
    (folder / "offers.csv").write_text("\n".join([*text, text[1]]))
    with pytest.raises(Refused, match=r"^offers\.csv:62:machine_type: .* stands on line 2 already"):
        load_tables(folder)


def test_a_missing_file_a_missing_column_and_a_cell_too_many_are_each_refused(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    shutil.copytree(SHIPPED, folder)
    lines = (folder / "power.csv").read_text().splitlines()
    (folder / "power.csv").write_text("\n".join([*lines[:2], lines[2] + ",more", *lines[3:]]))
    with pytest.raises(Refused, match=r"^power\.csv:3:beyond the last column"):
        load_tables(folder)
    (folder / "power.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    with pytest.raises(Refused, match=r"^power\.csv:1: the first line names no column source"):
        load_tables(folder)
    (folder / "power.csv").unlink()
    with pytest.raises(Refused, match=r"^power\.csv: cannot be read"):
        load_tables(folder)
