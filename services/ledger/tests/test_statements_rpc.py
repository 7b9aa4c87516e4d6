"""The door of statements, in process, on a free port, over the fakes; and the file of residual mixes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from ergonaut.api.ledger.v1 import statements_pb2 as pb
from ergonaut.client import Connection
from ergonaut.client.statements import Statements as StatementClient
from ergonaut.errors import Conflict, NotFound, Refused
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import FakeClock
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_ledger.adapters.residual_mix import load_residual_mix
from ergonaut_ledger.fakes.statements import FakeCertificateBook, FakeStatementBooks
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.rpc import SERVICE_NAMES, statement_door
from ergonaut_ledger.service.statements import Statements

from .told import T0, batch_of, cpu_sample, reading, started

NAME = pb.DESCRIPTOR.services_by_name["StatementService"].full_name
DAY = (T0.replace(hour=0, minute=0), T0.replace(hour=0, minute=0) + timedelta(days=1))


@pytest.fixture
def books() -> FakeStore:
    return FakeStore()


@pytest.fixture
async def clients(books: FakeStore, tmp_path: Path) -> AsyncIterator[dict[str, StatementClient]]:
    path, keys = key_ring_file(tmp_path, ("alpha", "beta"))
    statements = Statements(
        FakeStatementBooks(books), FakeCertificateBook(), FakeClock(datetime(2026, 4, 1, tzinfo=UTC))
    )
    add, ring = statement_door(statements), KeyRing.load(path)
    async with serving("127.0.0.1:0", service="ledger", add=add, keys=ring, names=[NAME]) as server:
        connections = {
            tenant: Connection({"ledger": f"127.0.0.1:{server.port}"}, keys[tenant]) for tenant in ("alpha", "beta")
        }
        yield {tenant: StatementClient(connection) for tenant, connection in connections.items()}
        for connection in connections.values():
            await connection.close()


def certificate(**changes: Any) -> pb.Certificate:
    told = pb.Certificate(
        certificate_id="go-1", kind="renewable", registry="GO", zone="de", energy_kwh=1.0, cost_usd=3.0
    )
    told.period.starts_at.FromDatetime(DAY[0])
    told.period.ends_at.FromDatetime(DAY[1])
    for name, value in changes.items():
        setattr(told, name, value)
    return told


async def test_a_statement_and_a_report_travel_whole(books: FakeStore, clients: dict[str, StatementClient]) -> None:
    await books.keep(batch_of(started("alpha"), reading("alpha", 1, cpu_sample(0, 7.2e6))))
    alpha = clients["alpha"]
    await alpha.record(certificate())
    told = await alpha.statement(*DAY, line_by="run")
    (line,) = told.lines
    assert (line.label, line.name, line.energy_joules) == ("run-1", "digits", 7.2e6)
    assert told.total.carbon_grams_co2e_location == pytest.approx(800)
    assert not told.total.HasField("embodied_grams_co2e")
    report = await alpha.compliance(*DAY)
    assert (report.energy_kwh, report.certified_kwh) == (2.0, 1.0)
    assert report.scope2_location_grams_co2e == pytest.approx(800)
    assert report.scope2_market_grams_co2e == pytest.approx(400)
    assert not report.HasField("sci_grams_co2e")
    assert (report.functional_unit, report.functional_units) == ("run", 1)
    (kept,) = report.certificates
    assert (kept.zone, kept.cost_usd, kept.voided) == ("DE", 3.0, False)
    assert kept.principal


async def test_a_sum_of_dollars_says_how_much_of_the_energy_has_no_price(
    books: FakeStore, clients: dict[str, StatementClient]
) -> None:
    priced, unpriced = cpu_sample(0, 300.0, cost_usd=0.5), cpu_sample(0, 100.0, run_id="run-2", cost_usd=None)
    await books.keep(batch_of(reading("alpha", 1, priced, unpriced)))
    told = await clients["alpha"].statement(*DAY, line_by="run")
    assert told.total.electricity_usd == 0.5
    assert [note for note in told.notes if "price" in note] == [
        "The price of electricity is not known in lines with 25 % of the energy; what it cost is in no sum."
    ]


async def test_another_tenant_sees_neither_use_nor_certificates(
    books: FakeStore, clients: dict[str, StatementClient]
) -> None:
    await books.keep(batch_of(reading("alpha", 1)))
    await clients["alpha"].record(certificate())
    beta = clients["beta"]
    assert not (await beta.statement(*DAY)).lines
    assert (await beta.compliance(*DAY)).energy_kwh == 0
    assert await beta.certificates() == []
    with pytest.raises(NotFound):
        await beta.void("go-1")


async def test_a_certificate_is_recorded_once_and_voided_for_good(clients: dict[str, StatementClient]) -> None:
    alpha = clients["alpha"]
    await alpha.record(certificate())
    await alpha.record(certificate())
    with pytest.raises(Conflict):
        await alpha.record(certificate(energy_kwh=2.0))
    await alpha.void("go-1")
    assert [one.voided for one in await alpha.certificates()] == [True]
    with pytest.raises(Conflict):
        await alpha.record(certificate())


async def test_what_cannot_be_meant_is_refused_by_its_field(clients: dict[str, StatementClient]) -> None:
    alpha = clients["alpha"]
    with pytest.raises(Refused, match="period: must end after it starts"):
        await alpha.statement(DAY[1], DAY[0])
    with pytest.raises(Refused, match="line_by: 'colour'"):
        await alpha.statement(*DAY, line_by="colour")
    with pytest.raises(Refused, match="project: 'a b'"):
        await alpha.compliance(*DAY, project="a b")
    with pytest.raises(Refused, match="kind: 'green'"):
        await alpha.record(certificate(kind="green"))
    with pytest.raises(Refused, match=r"certificate\.period: tell when it starts"):
        await alpha.record(pb.Certificate(certificate_id="go-1"))


async def test_nobody_gets_in_without_a_key(clients: dict[str, StatementClient]) -> None:
    address = clients["alpha"]._connection.services["ledger"]
    async with aio.insecure_channel(address) as stranger:
        ask = stranger.unary_unary("/ergonaut.api.ledger.v1.StatementService/ListCertificates")
        with pytest.raises(aio.AioRpcError) as caught:
            await ask(b"", timeout=5)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_a_residual_mix_without_its_first_line_is_refused_and_never_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "residual.csv"
    path.write_text("DE,700,2024,AIB\n")
    with pytest.raises(Refused, match=r"^residual\.csv:1: the first line names no column zone"):
        load_residual_mix(path)


def test_residual_mixes_are_read_by_zone(tmp_path: Path) -> None:
    path = tmp_path / "mix.csv"
    path.write_text("zone,intensity_grams_per_kwh,year,source\nDE,700,2024,AIB\nSE-SE3,45.5,2024,AIB\n")
    mixes = load_residual_mix(path)
    assert {zone: (mix.intensity_grams_per_kwh, mix.year) for zone, mix in mixes.items()} == {
        "DE": (700, 2024),
        "SE-SE3": (45.5, 2024),
    }


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ("DE,-1,2024,AIB", "mix.csv:2:intensity_grams_per_kwh"),
        ("DE,700,24,AIB", "mix.csv:2:year"),
        ("de,700,2024,AIB", "mix.csv:2:zone"),
        ("DE,700,2024", "mix.csv:2:source"),
        ("DE,700,2024,AIB,more", "mix.csv:2:beyond the last column"),
        ("DE,700,2024,AIB\nDE,701,2024,AIB", "mix.csv:3:zone"),
    ],
)
def test_a_nonsensical_residual_mix_is_refused_by_file_line_and_field(tmp_path: Path, row: str, wrong: str) -> None:
    path = tmp_path / "mix.csv"
    path.write_text(f"zone,intensity_grams_per_kwh,year,source\n{row}\n")
    with pytest.raises(Refused) as refusal:
        load_residual_mix(path)
    assert refusal.value.field == wrong


def test_the_ledger_tells_that_it_answers_statements() -> None:
    assert NAME in SERVICE_NAMES
