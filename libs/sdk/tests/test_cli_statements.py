"""`ergonaut statement`, `compliance` and `certificate` against a door that keeps certificates and has one statement to tell."""

import asyncio
import csv
import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from ergonaut.api.ledger.v1 import statements_pb2 as pb
from ergonaut.api.ledger.v1.statements_pb2_grpc import (
    StatementServiceServicer,
    add_StatementServiceServicer_to_server,
)
from ergonaut.cli import statements
from ergonaut.errors import Refused
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file

NAME = pb.DESCRIPTOR.services_by_name["StatementService"].full_name
APP = typer.Typer()
statements.register(APP)


class Door(StatementServiceServicer):
    """Tells one line, and holds certificates in a dictionary."""

    def __init__(self) -> None:
        self.certificates: dict[str, pb.Certificate] = {}
        self.asked: list[Any] = []

    async def GetStatement(self, request: pb.GetStatementRequest, context: Any) -> pb.GetStatementResponse:
        self.asked.append(request)
        line = pb.StatementLine(
            label="vision", energy_joules=7.2e6, carbon_grams_co2e_location=800, rent_usd=0.0, runs=2, samples=9
        )
        notes = ["gpu0 was not measured [in 3 samples]."]
        return pb.GetStatementResponse(
            period=request.period, lines=[line], total=line, certificates=self.certificates.values(), notes=notes
        )

    async def GetComplianceReport(
        self, request: pb.GetComplianceReportRequest, context: Any
    ) -> pb.GetComplianceReportResponse:
        factor = pb.Factor(zone="DE", intensity_grams_per_kwh=381, kind="yearly", year=2023, energy_joules=7.2e6)
        return pb.GetComplianceReportResponse(
            period=request.period,
            energy_kwh=2,
            scope2_location_grams_co2e=762,
            scope2_market_grams_co2e=381,
            functional_unit="tokens",
            functional_units=1000,
            factors=[factor],
        )

    async def RecordCertificate(
        self, request: pb.RecordCertificateRequest, context: Any
    ) -> pb.RecordCertificateResponse:
        self.certificates[request.certificate.certificate_id] = request.certificate
        return pb.RecordCertificateResponse()

    async def ListCertificates(self, request: pb.ListCertificatesRequest, context: Any) -> pb.ListCertificatesResponse:
        return pb.ListCertificatesResponse(certificates=self.certificates.values())

    async def VoidCertificate(self, request: pb.VoidCertificateRequest, context: Any) -> pb.VoidCertificateResponse:
        self.certificates[request.certificate_id].voided = True
        return pb.VoidCertificateResponse()


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """A ledger with that door, in a thread of its own, since each command has an event loop of its own."""
    path, keys = key_ring_file(tmp_path, ("default",))
    opened, loop, ready = Door(), asyncio.new_event_loop(), threading.Event()
    stop, port = asyncio.Event(), 0

    async def serve() -> None:
        nonlocal port
        add = lambda server: add_StatementServiceServicer_to_server(opened, server)
        ring = KeyRing.load(path)
        async with serving("127.0.0.1:0", service="ledger", add=add, keys=ring, names=[NAME]) as server:
            port = server.port
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(20)
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path))
    monkeypatch.setenv("ERGONAUT_API_KEY", keys["default"])
    monkeypatch.setenv("ERGONAUT_LEDGER_ADDRESS", f"127.0.0.1:{port}")
    yield opened
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    loop.close()


def ergonaut(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(APP, arguments)


def test_a_statement_is_a_table_with_what_is_not_known_said(door: Door) -> None:
    told = ergonaut("statement", "--period", "2026-03", "--by", "project", "--project", "vision")
    assert told.exit_code == 0, told.output
    assert "Statement  2026-03-01 to 2026-03-31, UTC" in told.stdout
    assert "2.00 kWh" in told.stdout
    assert "not known" in told.stdout
    assert "gpu0 was not measured [in 3 samples]." in told.stdout
    (asked,) = door.asked
    assert (asked.line_by, asked.project) == ("project", "vision")


def test_a_statement_for_programs_has_empty_cells_where_nothing_is_known(door: Door) -> None:
    rows = list(csv.DictReader(io.StringIO(ergonaut("statement", "--period", "2026", "--csv").stdout)))
    assert [row["label"] for row in rows] == ["vision", "vision"]
    assert (rows[0]["rent_usd"], rows[0]["electricity_usd"]) == ("0.0", "")
    told = json.loads(ergonaut("statement", "--period", "2026", "--json").stdout)
    assert told["total"]["energy_joules"] == 7.2e6
    assert "embodied_grams_co2e" not in told["total"]


def test_a_compliance_report_tells_both_methods_and_its_factors(door: Door) -> None:
    told = ergonaut("compliance", "--period", "2026", "--unit", "tokens")
    assert told.exit_code == 0, told.output
    for words in ("Scope 2, location-based", "762 g", "381 g", "not known for one of 1,000 tokens", "2023"):
        assert words in told.stdout
    *figures, factor = csv.DictReader(io.StringIO(ergonaut("compliance", "--period", "2026", "--csv").stdout))
    assert (factor["zone"], factor["year"]) == ("DE", "2023")
    assert [row["grams_co2e"] for row in figures if row["name"].startswith("scope2")] == ["762.0", "381.0"]
    assert json.loads(ergonaut("compliance", "--period", "2026", "--json").stdout)["energy_kwh"] == 2


def test_both_are_written_as_pages_that_need_nothing_else(door: Door, tmp_path: Path) -> None:
    for command, words in (("statement", "Line by line"), ("compliance", "Emission factors")):
        page = tmp_path / f"{command}.html"
        assert ergonaut(command, "--period", "2026", "--html", str(page)).exit_code == 0
        assert words in page.read_text()
        assert "<script" not in page.read_text()
        assert "<svg" in page.read_text()


def test_a_certificate_is_added_listed_and_voided(door: Door) -> None:
    arguments = ("--period", "2026", "--registry", "GO", "--zone", "DE", "--kwh", "1000", "--json")
    assert json.loads(ergonaut("certificate", "add", "GO-1", *arguments).stdout) == {"certificate_id": "GO-1"}
    kept = door.certificates["GO-1"]
    assert kept.period.starts_at.ToDatetime(UTC) == datetime(2026, 1, 1, tzinfo=UTC)
    assert (kept.energy_kwh, kept.HasField("cost_usd")) == (1000, False)
    assert "1,000 kWh" in ergonaut("certificate", "list").stdout
    assert ergonaut("certificate", "void", "GO-1").stdout == "GO-1 is out of the books\n"
    (row,) = csv.DictReader(io.StringIO(ergonaut("certificate", "list", "--csv").stdout))
    assert (row["certificate_id"], row["voided"], row["cost_usd"]) == ("GO-1", "True", "")
    assert (float(row["energy_kwh"]), row["starts_at"][:10]) == (1000, "2026-01-01")
    assert json.loads(ergonaut("certificate", "list", "--json").stdout)[0]["voided"] is True


@pytest.mark.parametrize(
    ("text", "starts", "ends"),
    [
        ("2026", (2026, 1, 1), (2027, 1, 1)),
        ("2026-12", (2026, 12, 1), (2027, 1, 1)),
        ("2026-02-28", (2026, 2, 28), (2026, 3, 1)),
        ("2026-01..2026-04", (2026, 1, 1), (2026, 4, 1)),
    ],
)
def test_a_period_is_understood_as_people_write_it(
    text: str, starts: tuple[int, int, int], ends: tuple[int, int, int]
) -> None:
    assert statements.period_from(text) == (datetime(*starts, tzinfo=UTC), datetime(*ends, tzinfo=UTC))


@pytest.mark.parametrize(
    "text", ["", "march", "2026-13", "2026-00", "2026-03-00", "2026-02-30", "26", "2026..", "0000", "9999"]
)
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"^--period: "):
        statements.period_from(text)


COMMANDS = typer.main.get_command(APP).commands  # type: ignore[attr-defined]
CERTIFICATE = typer.main.get_command(statements.certificate_app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["statement", "compliance", *(f"certificate {name}" for name in CERTIFICATE)])
def test_every_command_has_help_with_an_example_and_speaks_json(name: str) -> None:
    group, _, leaf = name.partition(" ")
    command = CERTIFICATE[leaf] if leaf else COMMANDS[group]
    assert f"ergonaut {name}" in command.help.partition("Example: ")[2]
    assert any("--json" in parameter.opts for parameter in command.params)
