"""The worked example in the docs, through the books: its samples as events, and the report that the page tells."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ergonaut.carbon import Embodied, electricity_usd, embodied_grams, operational_grams, rent_usd
from ergonaut.events import PowerSample
from ergonaut.events.pricing import Boundary
from ergonaut.events.telemetry import Method, Share
from ergonaut_common.clock import FakeClock
from ergonaut_ledger.domain.certificates import Certificate, Period
from ergonaut_ledger.domain.statements import Asked
from ergonaut_ledger.ports import Store
from ergonaut_ledger.service.statements import Statements

from .test_statements_contract import books, certificates  # noqa: F401 - fixtures of the same ports
from .told import RUN, batch_of, finished, reading, started

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "worked-example.md").read_text()
DAY = datetime(2026, 3, 1, tzinfo=UTC)
PUE = 1.2


def table(heading: str) -> list[list[str]]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def moment(clock: str) -> datetime:
    hours, minutes, seconds = map(int, clock.split(":"))
    return DAY + timedelta(hours=hours, minutes=minutes, seconds=seconds)


def sample(component: str, times: tuple[str, str], joules: str, fraction: str, intensity: str) -> PowerSample:
    energy = float(joules) if joules not in ("not measured", "none") else None
    machine = component == "machine"
    return PowerSample(
        share=Share.RUN,
        run_id=RUN,
        component=component,
        method=Method.NOT_MEASURED if energy is None else Method.MODEL,
        source="page",
        range_fraction=float(fraction) if fraction else None,
        started_at=moment(times[0]),
        ended_at=moment(times[1]),
        energy_joules=energy,
        carbon_grams_co2e=operational_grams(energy, pue=PUE, intensity_grams_per_kwh=float(intensity or 0)),
        cost_usd=rent_usd(0.36, 60) if machine else electricity_usd(energy, pue=PUE, price_usd_per_kwh=0.30),
        embodied_grams_co2e=embodied_grams(Embodied(1_461_000, lifespan_years=4), 60) if machine else None,
    )


async def keep_the_page(store: Store, tenant: str) -> None:
    events = []
    for number, component, starts, ends, joules, fraction, intensity in table("The samples"):
        one = sample(component, (starts, ends), joules, fraction, intensity)
        bases = {"intensity_grams_per_kwh": float(intensity or 400), "intensity_boundary": Boundary.LIFE_CYCLE}
        events.append(reading(tenant, int(number), one, pue=PUE, occurred_at=one.ended_at, **bases))
    await store.keep(batch_of(started(tenant), finished(tenant, metrics={"tokens": 1_000.0}), *events))


@pytest.mark.parametrize("heading", ["The results", "The report"])
async def test_the_books_tell_what_the_page_tells(
    store: Store,
    books: object,  # noqa: F811
    certificates: object,  # noqa: F811
    tenant: str,
    heading: str,
) -> None:
    await keep_the_page(store, tenant)
    statements = Statements(books, certificates, FakeClock(DAY))  # type: ignore[arg-type]
    period = Period(DAY, DAY + timedelta(days=1))
    await statements.record(tenant, Certificate("wind-1", "renewable", "GO", "DE", period, energy_kwh=0.0005))
    asked = Asked(tenant, period)
    total = (await statements.statement(asked, "run")).total
    report = await statements.compliance(asked, "tokens")
    components, coverage = await store.components(tenant, RUN), await store.coverage(tenant, RUN)
    assert coverage is not None
    known = {
        "energy_joules": total.energy_joules,
        "energy_joules_range": total.energy_joules_range,
        "carbon_grams_co2e": total.carbon_grams_co2e_location,
        "electricity_usd": total.electricity_usd,
        "rent_usd": total.rent_usd,
        "cost_usd": sum(part.cost_usd or 0.0 for part in components),
        "embodied_grams_co2e": total.embodied_grams_co2e,
        "intensity_grams_per_kwh": coverage.intensity_grams_per_kwh,
        "energy_kwh": report.energy_kwh,
        "certified_kwh": report.certified_kwh,
        "scope2_location_grams_co2e": report.scope2_location_grams_co2e,
        "scope2_market_grams_co2e": report.scope2_market_grams_co2e,
        "scope3_embodied_grams_co2e": report.hardware.embodied_grams_co2e,
        "sci_grams_co2e": report.sci_grams_co2e,
    }
    on_page = {row[0]: float(row[-1]) for row in table(heading) if row[0] in known}
    assert len(on_page) >= 6
    assert on_page == {name: pytest.approx(known[name], rel=3e-6) for name in on_page}
