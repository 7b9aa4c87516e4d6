"""`ergonaut usage` and `ergonaut export` against a door that has two lines and one file to tell."""

import asyncio
import csv
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from grpc import aio
from typer.testing import CliRunner, Result

from ergonaut.api.ledger.v1 import exports_pb2, ledger_pb2
from ergonaut.api.ledger.v1.exports_pb2_grpc import ExportServiceServicer, add_ExportServiceServicer_to_server
from ergonaut.api.ledger.v1.ledger_pb2_grpc import LedgerServiceServicer, add_LedgerServiceServicer_to_server
from ergonaut.cli import exports
from ergonaut.errors import Unavailable
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file

APP = typer.Typer()
exports.register(APP)


class Door(LedgerServiceServicer, ExportServiceServicer):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.breaks_off = False

    async def GetUsage(self, request: ledger_pb2.GetUsageRequest, context: Any) -> ledger_pb2.GetUsageResponse:
        self.asked.append(request)
        known = ledger_pb2.Usage(starts_at=request.starts_at, host="host-1", energy_joules=7.2e6, samples=3_600)
        unknown = ledger_pb2.Usage(starts_at=request.starts_at, host="host-2", samples=60)
        return ledger_pb2.GetUsageResponse(usage=[known, unknown], step="day")

    async def GetExport(
        self, request: exports_pb2.GetExportRequest, context: Any
    ) -> AsyncIterator[exports_pb2.GetExportResponse]:
        self.asked.append(request)
        yield exports_pb2.GetExportResponse(chunk=b"PAR1")
        if self.breaks_off:
            raise Unavailable("the disk is busy")
        yield exports_pb2.GetExportResponse(chunk=b"PAR1")

    async def DescribeExport(
        self, request: exports_pb2.DescribeExportRequest, context: Any
    ) -> exports_pb2.DescribeExportResponse:
        column = exports_pb2.Column(name="energy_joules", type="double", unit="J", description="Energy [of a sample].")
        return exports_pb2.DescribeExportResponse(columns=[column])


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    path, keys = key_ring_file(tmp_path)
    served, ready, stop, loop = Door(), threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    address: list[str] = []

    def add(server: aio.Server) -> None:
        add_LedgerServiceServicer_to_server(served, server)
        add_ExportServiceServicer_to_server(served, server)

    async def serve() -> None:
        ring = KeyRing.load(path)
        async with serving("127.0.0.1:0", service="ledger", add=add, keys=ring, names=()) as server:
            address.append(f"127.0.0.1:{server.port}")
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ERGONAUT_API_KEY", keys["default"])
    monkeypatch.setenv("ERGONAUT_LEDGER_ADDRESS", address[0])
    yield served
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(APP, arguments)


def test_usage_is_a_table_that_says_what_was_not_measured(door: Door) -> None:
    done = run("usage", "--period", "2026-03", "--step", "day", "--by", "host, project", "--of", "run=run-1")
    assert done.exit_code == 0, done.output
    first, second = [line for line in done.output.splitlines() if "host-" in line]
    assert "7.2 MJ" in first or "2" in first
    assert "not measured" in second
    assert (door.asked[0].step, [*door.asked[0].group_by], door.asked[0].run_id) == (
        "day",
        ["host", "project"],
        "run-1",
    )


def test_usage_is_json_for_programs(door: Door) -> None:
    done = run("usage", "--period", "2026-03-01", "--json")
    assert [each["host"] for each in json.loads(done.output)["usage"]] == ["host-1", "host-2"]


def test_usage_is_written_as_a_page_and_printed_as_csv(door: Door, tmp_path: Path) -> None:
    page = tmp_path / "usage.html"
    done = run("usage", "--period", "2026-03", "--step", "day", "--by", "host", "--csv", "--html", str(page))
    assert done.exit_code == 0, done.output
    known, unknown = csv.DictReader(io.StringIO(done.stdout))
    assert (known["host"], float(known["energy_joules"]), known["samples"]) == ("host-1", 7.2e6, "3600")
    assert (unknown["host"], unknown["energy_joules"], unknown["cost_usd"]) == ("host-2", "", "")
    assert "Not measured, and so in no sum: host-2" in page.read_text()
    assert "<svg" in page.read_text()


def test_a_filter_that_is_none_is_refused(door: Door) -> None:
    done = run("usage", "--period", "2026-03", "--of", "colour=red")
    assert (done.exit_code, "colour=red" in done.output, door.asked) == (65, True, [])


def test_an_export_is_written_whole(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "march.parquet"
    done = run("export", "--table", "samples", "--period", "2026-03", "--out", str(file), "--anonymous")
    assert done.exit_code == 0, done.output
    assert file.read_bytes() == b"PAR1PAR1"
    assert door.asked[0].anonymous


def test_an_export_that_breaks_off_leaves_no_file(door: Door, tmp_path: Path) -> None:
    door.breaks_off = True
    file = tmp_path / "march.parquet"
    done = run("export", "--table", "samples", "--period", "2026-03", "--out", str(file))
    assert (done.exit_code, [*tmp_path.glob("*.parquet*")]) == (69, [])


def test_what_columns_mean_is_told_without_a_file(door: Door) -> None:
    done = run("export", "--table", "samples", "--describe")
    assert "Energy [of a sample]." in done.output
    assert run("export", "--table", "samples").exit_code == 65
