"""What the books of statements and certificates promise, over the fakes and over embedded ClickHouse."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from math import fsum
from random import Random
from typing import Any

import pytest

from ergonaut.errors import Conflict, NotFound, Refused
from ergonaut.events import PowerSample
from ergonaut.events.pricing import Accounting
from ergonaut.events.telemetry import Share
from ergonaut_common.clock import FakeClock
from ergonaut_ledger.adapters.rollups import ClickHouseRollUps, ClickHouseUsage
from ergonaut_ledger.adapters.statement_books import ClickHouseCertificateBook, ClickHouseStatementBooks
from ergonaut_ledger.domain.certificates import Certificate, Period
from ergonaut_ledger.domain.footprints import ComponentSum
from ergonaut_ledger.domain.statements import Asked, Line, StatementSums
from ergonaut_ledger.fakes.statements import FakeCertificateBook, FakeStatementBooks
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.ports import Store
from ergonaut_ledger.ports.statements import CertificateBook, StatementBooks
from ergonaut_ledger.service.rolling import Rolling
from ergonaut_ledger.service.statements import Statements

from .told import RUN, T0, batch_of, cpu_sample, finished, gpu_sample, reading, rent_sample, started

TODAY = Period(T0.replace(hour=0, minute=0), T0.replace(hour=0, minute=0) + timedelta(days=1))


@pytest.fixture
def books(store: Store, request: pytest.FixtureRequest) -> StatementBooks:
    if isinstance(store, FakeStore):
        return FakeStatementBooks(store)
    return ClickHouseStatementBooks(request.getfixturevalue("engine"), query_seconds=60)


@pytest.fixture
def certificates(store: Store, request: pytest.FixtureRequest) -> CertificateBook:
    if isinstance(store, FakeStore):
        return FakeCertificateBook()
    return ClickHouseCertificateBook(request.getfixturevalue("engine"), insert_seconds=60, query_seconds=60)


@pytest.fixture
def statements(books: StatementBooks, certificates: CertificateBook) -> Statements:
    return Statements(books, certificates, FakeClock(datetime(2026, 4, 1, tzinfo=UTC)))


def certificate(**changes: Any) -> Certificate:
    values: dict[str, Any] = {
        "certificate_id": "go-1",
        "kind": "renewable",
        "registry": "GO",
        "zone": "DE",
        "period": TODAY,
        "energy_kwh": 1.0,
    }
    return Certificate(**(values | changes))


async def keep_a_day(store: Store, tenant: str) -> None:
    """Two runs of one project, one of none, idling, a GPU that nobody measured, a machine with rent and making, and a gap."""
    machine = rent_sample(0, 0.5).model_copy(update={"embodied_grams_co2e": 2.5, "project": "vision"})
    of_vision = cpu_sample(0, 3.6e6, project="vision", carbon_grams_co2e=400.0, cost_usd=0.15)
    second = cpu_sample(1, 1.8e6, project="vision", run_id="run-2", carbon_grams_co2e=200.0, cost_usd=None)
    alone = cpu_sample(2, 7.2e6, run_id="run-3", carbon_grams_co2e=800.0, cost_usd=0.3)
    idle = cpu_sample(3, 9e5, run_id="", share=Share.IDLE, carbon_grams_co2e=100.0, cost_usd=None)
    yesterday = cpu_sample(-86_400, 5e9, project="vision")
    bought = cpu_sample(4, 3.6e6, project="vision", run_id="run-2", carbon_grams_co2e=20.0)
    await store.keep(
        batch_of(
            started(tenant, RUN, name="resnet", project="vision"),
            finished(tenant, RUN, metrics={"tokens": 300.0}),
            finished(tenant, "run-3", metrics={"tokens": 100.0}),
            finished(tenant, "run-9", metrics={"tokens": 7_000.0}),
            reading(tenant, 1, of_vision, machine, gpu_sample(0)),
            reading(tenant, 2, second, alone, idle, yesterday),
            reading(tenant, 5, bought, intensity_accounting=Accounting.MARKET_BASED, pue=1.5, intensity_source="label"),
        )
    )


async def test_runs_are_summed_by_project_with_each_sample_once(
    store: Store, books: StatementBooks, tenant: str
) -> None:
    await keep_a_day(store, tenant)
    await keep_a_day(store, tenant)
    vision, none = (await books.sums(Asked(tenant, TODAY), "project", 10)).lines
    assert (vision.label, vision.runs, vision.samples) == ("vision", 2, 4)
    assert vision.energy_joules == pytest.approx(9e6)
    assert vision.energy_joules_range == pytest.approx(9e6 * 0.3)
    assert vision.location_grams_co2e == pytest.approx(600)
    assert vision.other_joules == {"DE": pytest.approx(5.4e6)}
    assert (vision.embodied_grams_co2e, vision.rent_usd) == (2.5, 0.5)
    assert vision.electricity_usd == pytest.approx(0.15 + 3.6e6 / 3.6e6 * 0.15)
    assert (none.label, none.energy_joules, none.embodied_grams_co2e, none.rent_usd) == ("", 7.2e6, None, None)


@pytest.mark.parametrize(
    ("line_by", "labels"),
    [
        ("project", ["vision", ""]),
        ("job", [""]),
        ("run", ["run-3", "run-2", RUN]),
        ("host", ["host-1"]),
        ("day", ["2026-03-01"]),
    ],
)
async def test_lines_come_by_what_is_asked_largest_first(
    store: Store, books: StatementBooks, tenant: str, line_by: str, labels: list[str]
) -> None:
    await keep_a_day(store, tenant)
    asked = Asked(tenant, TODAY)
    for lines_max in (10, 1):
        sums = await books.sums(asked, line_by, lines_max)
        assert [one.label for one in sums.lines] == labels[:lines_max]
        assert sums.labels == len(labels)


async def test_a_project_has_its_own_and_nothing_of_the_others(
    store: Store, books: StatementBooks, tenant: str
) -> None:
    await keep_a_day(store, tenant)
    whole = (await books.sums(Asked(tenant, TODAY, "vision"), "run", 1)).whole
    assert (whole.energy_joules, whole.runs) == (pytest.approx(9e6), 2)
    assert (await books.sums(Asked(tenant, TODAY, "speech"), "run", 1)).whole.energy_joules is None
    assert (await books.sums(Asked(f"not-{tenant}", TODAY), "run", 1)).whole.samples == 0


async def test_energy_comes_by_day_and_basis_building_included(
    store: Store, books: StatementBooks, tenant: str
) -> None:
    await keep_a_day(store, tenant)
    days = await books.grid_days(Asked(tenant, TODAY))
    by_accounting = {one.basis.accounting: one for one in days}
    located, bought = by_accounting["location-based"], by_accounting["market-based"]
    assert located.day == TODAY.starts_at
    assert located.energy_joules == located.joules_without_pue == pytest.approx(13.5e6)
    assert located.grams_co2e == pytest.approx(1_500)
    assert (bought.energy_joules, bought.joules_without_pue) == (pytest.approx(5.4e6), 0)
    assert (bought.basis.zone, bought.basis.kind, bought.basis.source) == ("DE", "typical", "label")


async def test_what_is_missing_is_told(store: Store, books: StatementBooks, tenant: str) -> None:
    await keep_a_day(store, tenant)
    asked = Asked(tenant, TODAY)
    (gpu,) = await books.unmeasured(asked)
    assert (gpu.component, gpu.samples) == ("gpu0", 1)
    assert await books.messages_missing(asked) == 2
    hardware = await books.hardware(asked)
    assert (hardware.embodied_grams_co2e, hardware.hosts, hardware.hosts_known) == (2.5, 1, 1)


async def test_what_is_missing_at_the_edges_of_a_time_is_told(store: Store, books: StatementBooks, tenant: str) -> None:
    begins, ends = TODAY.starts_at, TODAY.ends_at
    moments = {
        3: begins - timedelta(minutes=1),
        7: begins + timedelta(minutes=1),
        8: begins + timedelta(minutes=2),
        10: ends + timedelta(minutes=1),
    }
    await store.keep(batch_of(*(reading(tenant, number, occurred_at=at) for number, at in moments.items())))
    assert await books.messages_missing(Asked(tenant, TODAY)) == 4, "4 to 6, and 9"


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_missing_is_counted_exactly_whatever_came_twice_late_or_across_an_edge(
    store: Store, books: StatementBooks, tenant: str, seed: int
) -> None:
    chance = Random(seed)
    told: dict[str, dict[int, datetime]] = {}
    facts = []
    for producer in ("agent-1", "agent-2", "agent-3"):
        begins = TODAY.starts_at - timedelta(hours=chance.uniform(0, 6))
        for number in range(1, 200):
            # A clock that is set now and then puts numbers before those that were told earlier.
            at = begins + timedelta(minutes=10 * number + chance.choice((0, 0, 0, 0, 90)))
            if chance.random() < 0.8:
                told.setdefault(producer, {})[number] = at
                facts.append(reading(tenant, number, producer=producer, occurred_at=at))
    chance.shuffle(facts)
    await store.keep(batch_of(*facts))
    await store.keep(batch_of(*facts[:50], first=1_000))
    await store.keep(batch_of(*(fact.model_copy(update={"event_id": f"{fact.event_id}-again"}) for fact in facts[:20])))
    for _ in range(10):
        first = TODAY.starts_at + timedelta(minutes=chance.choice((0, 60, chance.uniform(0, 600))))
        period = Period(first, first + timedelta(minutes=chance.choice((60, 600, chance.uniform(1, 700)))))
        expected = sum(missing_around(period, moments) for moments in told.values())
        assert await books.messages_missing(Asked(tenant, period)) == expected, period


def missing_around(period: Period, moments: dict[int, datetime]) -> int:
    """Of one producer: from the last number before those of the time to the first after them."""
    own = {number for number, at in moments.items() if period.holds(at)}
    if not own:
        return 0
    first = max((number for number in moments if number < min(own)), default=min(own))
    last = min((number for number in moments if number > max(own)), default=max(own))
    return last - first + 1 - sum(first <= number <= last for number in moments)


async def test_functional_units_are_those_of_runs_with_samples_in_the_time(
    store: Store, books: StatementBooks, tenant: str
) -> None:
    await keep_a_day(store, tenant)
    asked = Asked(tenant, TODAY)
    assert await books.functional_units(asked, "tokens") == 400
    assert await books.functional_units(asked, "epochs") == 0
    assert await books.functional_units(asked, "") == 3


async def test_runs_are_named_as_people_call_them(store: Store, books: StatementBooks, tenant: str) -> None:
    await keep_a_day(store, tenant)
    assert (await books.names(tenant, "run", [RUN, "run-2"])).get(RUN) == "resnet"
    assert await books.names(tenant, "host", ["host-1"]) == {}


async def test_a_time_without_samples_has_no_figures_rather_than_zeros(books: StatementBooks, tenant: str) -> None:
    asked = Asked(tenant, TODAY)
    sums = await books.sums(asked, "run", 10)
    assert (sums.lines, sums.labels) == ((), 0)
    whole = sums.whole
    assert (whole.energy_joules, whole.location_grams_co2e, whole.electricity_usd) == (None, None, None)
    assert await books.grid_days(asked) == []
    assert await books.messages_missing(asked) == 0


async def test_the_newest_version_of_a_certificate_stands_and_the_first_telling_of_a_version(
    certificates: CertificateBook, tenant: str
) -> None:
    first = certificate(principal="ann")
    await certificates.append(tenant, first, datetime(2026, 4, 1, tzinfo=UTC))
    await certificates.append(tenant, certificate(principal="bob"), datetime(2026, 4, 2, tzinfo=UTC))
    assert await certificates.find(tenant, "go-1") == first
    out = replace(first, voided=True, version=2)
    await certificates.append(tenant, out, datetime(2026, 4, 3, tzinfo=UTC))
    assert await certificates.everything(tenant) == [out]
    assert await certificates.find(f"not-{tenant}", "go-1") is None


async def test_a_statements_lines_add_up_to_its_total_and_certificates_stand_apart(
    store: Store, statements: Statements, tenant: str
) -> None:
    await keep_a_day(store, tenant)
    before = await statements.statement(Asked(tenant, TODAY), "run")
    await statements.record(tenant, certificate())
    told = await statements.statement(Asked(tenant, TODAY), "run")
    assert [line.name for line in told.lines][-1] == "idling and other processes of the hosts"
    assert [line.label for line in told.lines] == ["run-3", "run-2", RUN, ""]
    assert sum(line.energy_joules or 0 for line in told.lines) == pytest.approx(told.total.energy_joules)
    grams = sum(line.carbon_grams_co2e_location or 0 for line in told.lines)
    assert grams == pytest.approx(told.total.carbon_grams_co2e_location)
    assert grams == pytest.approx(1_500 + 1.5 * 381)
    assert asdict(told.total) == pytest.approx(asdict(before.total))
    assert [one.certificate_id for one in told.certificates] == ["go-1"]
    notes = " ".join(told.notes)
    assert "gpu0 was not measured in 1 samples" in notes
    assert "2 messages that producers numbered are missing" in notes


async def test_a_statement_is_the_sum_of_its_samples_and_a_runs_line_is_its_footprint(
    store: Store, statements: Statements, tenant: str
) -> None:
    dice = Random(7)
    samples = [
        cpu_sample(second, dice.uniform(0, 500), run_id=f"run-{second % 3}", carbon_grams_co2e=dice.random() / 7)
        for second in range(300)
    ]
    samples += [
        rent_sample(second, dice.random() / 900).model_copy(
            update={"run_id": f"run-{second % 3}", "embodied_grams_co2e": dice.random() / 11}
        )
        for second in range(300)
    ]
    await store.keep(batch_of(*(reading(tenant, number + 1, *samples[number::20]) for number in range(20))))
    told = await statements.statement(Asked(tenant, TODAY), "run")
    assert figures_of(told.total) == pytest.approx(sums_of(samples), rel=1e-9)
    assert len(told.lines) == 3
    for line in told.lines:
        ours = [sample for sample in samples if sample.run_id == line.label]
        footprint = await store.components(tenant, line.label)
        assert figures_of(line) == pytest.approx(sums_of(ours), rel=1e-9)
        assert figures_of(line) == pytest.approx(sums_of(footprint), rel=1e-9)


def figures_of(line: Line) -> tuple[float | None, ...]:
    cost_usd = (line.electricity_usd or 0) + (line.rent_usd or 0)
    return (line.energy_joules, line.carbon_grams_co2e_location, line.embodied_grams_co2e, cost_usd)


def sums_of(parts: Iterable[PowerSample | ComponentSum]) -> tuple[float, ...]:
    names = ("energy_joules", "carbon_grams_co2e", "embodied_grams_co2e", "cost_usd")
    parts = list(parts)
    return tuple(fsum(getattr(part, name) or 0.0 for part in parts) for name in names)


async def test_a_compliance_report_of_a_project_claims_its_part_of_the_tenants_certificates(
    store: Store, statements: Statements, tenant: str
) -> None:
    await keep_a_day(store, tenant)
    await statements.record(tenant, certificate(energy_kwh=1.5))
    whole = await statements.compliance(Asked(tenant, TODAY), "")
    vision = await statements.compliance(Asked(tenant, TODAY, "vision"), "")
    # 5.4 of the 13.5 MJ that are under no contract are of the project.
    assert whole.certified_kwh == pytest.approx(1.5)
    assert vision.certified_kwh == pytest.approx(1.5 * 5.4 / 13.5)
    assert any("Certificates and offsets are the tenant's" in note for note in vision.notes)
    assert not any("Certificates and offsets are the tenant's" in note for note in whole.notes)


async def test_a_compliance_report_by_hand(store: Store, statements: Statements, tenant: str) -> None:
    await keep_a_day(store, tenant)
    await statements.record(tenant, certificate(energy_kwh=1.0, intensity_grams_per_kwh=50.0))
    told = await statements.compliance(Asked(tenant, TODAY), "tokens")
    # 13.5 MJ are 3.75 kWh at 400 g; 3.6 MJ at PUE 1.5 are 1.5 kWh under a contract: 20 g by it, 381 g/kWh by the zone's year.
    assert told.energy_kwh == pytest.approx(5.25)
    assert told.scope2_location_grams_co2e == pytest.approx(1_500 + 571.5)
    assert told.scope2_market_grams_co2e == pytest.approx(2.75 * 400 + 1.0 * 50 + 20)
    assert told.certified_kwh == pytest.approx(1.0)
    assert told.sci_grams_co2e == pytest.approx((1_500 + 571.5 + 2.5) / 400)
    assert any("GHG Protocol Scope 2 Guidance" in note for note in told.notes)
    assert any("ISO/IEC 21031:2024" in note for note in told.notes)


async def test_a_certificate_is_recorded_once_listed_voided_and_never_again(
    statements: Statements, tenant: str
) -> None:
    await statements.record(tenant, certificate(principal="ann"))
    await statements.record(tenant, certificate(principal="bob"))
    with pytest.raises(Conflict):
        await statements.record(tenant, certificate(energy_kwh=2.0))
    assert [(one.principal, one.voided) for one in await statements.certificates(tenant, TODAY)] == [("ann", False)]
    await statements.void(tenant, "go-1", "bob")
    await statements.void(tenant, "go-1", "bob")
    assert [(one.principal, one.voided) for one in await statements.certificates(tenant, None)] == [("bob", True)]
    with pytest.raises(NotFound):
        await statements.void(tenant, "go-2", "bob")


async def test_what_no_statement_can_be_of_is_refused(statements: Statements, tenant: str) -> None:
    with pytest.raises(Refused, match=r"^line_by: 'colour'"):
        await statements.statement(Asked(tenant, TODAY), "colour")
    with pytest.raises(Refused, match=r"^period: "):
        await statements.compliance(Asked(tenant, Period(TODAY.ends_at, TODAY.starts_at)), "")


def flattened(sums: StatementSums) -> dict[tuple[str, str], object]:
    """What each line, the whole and the rest say, flat; their last digit hangs on the order in which samples are read."""
    lines = {"whole": sums.whole, "unattributed": sums.unattributed, **{one.label: one for one in sums.lines}}
    flat: dict[tuple[str, str], object] = {("all", "labels"): sums.labels}
    for name, line in lines.items():
        zones = line.other_joules.items()
        flat |= {(name, field): value for field, value in asdict(line).items() if field != "other_joules"}
        flat |= {(name, f"other_joules in {zone}"): joules for zone, joules in zones}
    return flat


async def test_a_statement_is_the_same_from_roll_ups_and_from_samples(
    store: Store, books: StatementBooks, tenant: str, request: pytest.FixtureRequest
) -> None:
    if isinstance(store, FakeStore):
        pytest.skip("a fake has no roll-ups")
    await keep_a_day(store, tenant)
    asked = Asked(tenant, Period(TODAY.starts_at - timedelta(days=2), TODAY.ends_at))
    days, units = await books.grid_days(asked), await books.functional_units(asked, "tokens")
    sums, unmeasured = await books.sums(asked, "run", 10), await books.unmeasured(asked)
    rollups = ClickHouseRollUps(request.getfixturevalue("engine"), seconds=60)
    await Rolling(rollups, FakeClock(TODAY.ends_at + timedelta(days=1))).catch_up()
    usage = ClickHouseUsage(request.getfixturevalue("engine"), query_seconds=60)
    assert await usage.touched_minutes(tenant, asked.period.starts_at, asked.period.ends_at) == []
    assert flattened(await books.sums(asked, "run", 10)) == pytest.approx(flattened(sums))
    assert await books.unmeasured(asked) == unmeasured
    assert await books.functional_units(asked, "tokens") == units
    after = await books.grid_days(asked)
    assert [(one.day, one.basis, one.energy_joules, one.grams_co2e) for one in after] == [
        (one.day, one.basis, pytest.approx(one.energy_joules), pytest.approx(one.grams_co2e)) for one in days
    ]
