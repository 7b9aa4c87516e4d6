"""`ergonaut efficiency`, `recommend`, `anomalies`, against a door that answers as a ledger does."""

import asyncio
import csv
import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from ergonaut.api.ledger.v1 import analysis_pb2 as pb
from ergonaut.api.ledger.v1 import ledger_pb2
from ergonaut.api.ledger.v1.analysis_pb2_grpc import (
    AnalysisServiceServicer,
    add_AnalysisServiceServicer_to_server,
)
from ergonaut.api.ledger.v1.ledger_pb2_grpc import LedgerServiceServicer, add_LedgerServiceServicer_to_server
from ergonaut.cli import analysis, exports, reports, statements
from ergonaut.cli.reports import gathered
from ergonaut.client import AsyncClient, Client
from ergonaut.errors import Unavailable
from ergonaut.reports import RunReport, render_html
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file

from .made_up_analysis import anomalies, efficiency, recommendations
from .made_up_runs import footprint, stamp

NAME = pb.DESCRIPTOR.services_by_name["AnalysisService"].full_name
APP = typer.Typer()
analysis.register(APP)
WHOLE = typer.Typer()
for each in (analysis, exports, reports, statements):
    each.register(WHOLE)


class Door(AnalysisServiceServicer):
    """A ledger's door with made-up answers, or with none."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.is_empty = False

    async def GetEfficiency(self, request: pb.GetEfficiencyRequest, context: Any) -> pb.GetEfficiencyResponse:
        self.asked.append(request)
        return pb.GetEfficiencyResponse() if self.is_empty else efficiency(20)

    async def ListRecommendations(
        self, request: pb.ListRecommendationsRequest, context: Any
    ) -> pb.ListRecommendationsResponse:
        self.asked.append(request)
        return pb.ListRecommendationsResponse(recommendations=() if self.is_empty else recommendations())

    async def ListAnomalies(self, request: pb.ListAnomaliesRequest, context: Any) -> pb.ListAnomaliesResponse:
        self.asked.append(request)
        return pb.ListAnomaliesResponse(anomalies=() if self.is_empty else anomalies())


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """A ledger with that door, in a thread of its own, since each command has an event loop of its own."""
    path, keys = key_ring_file(tmp_path, ("default",))
    opened, loop, ready = Door(), asyncio.new_event_loop(), threading.Event()
    stop, port = asyncio.Event(), 0

    async def serve() -> None:
        nonlocal port
        add = lambda server: add_AnalysisServiceServicer_to_server(opened, server)
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
    return CliRunner(env={"COLUMNS": "160"}).invoke(APP, arguments)


def test_efficiency_is_told_by_unit_and_by_phase(door: Door) -> None:
    told = ergonaut("efficiency", "run-1")
    assert told.exit_code == 0, told.output
    for words in ("By unit of work", "1,000 predictions", "29.2 ± 9.3 J", "By phase", "epoch 1", "and 6 more"):
        assert words in told.stdout
    assert door.asked[0].run_id == "run-1"
    rows = list(csv.DictReader(io.StringIO(ergonaut("efficiency", "run-1", "--csv").stdout)))
    assert len(rows) == 24
    assert len(json.loads(ergonaut("efficiency", "run-1", "--json").stdout)["phases"]) == 21


def test_recommendations_are_told_with_their_saving_and_basis(door: Door) -> None:
    told = ergonaut("recommend", "--days", "7", "--limit", "5")
    assert told.exit_code == 0, told.output
    for words in ("Run digits on hetzner hel1", "saves $0.0000100", "14 % ± 100 %", "McDonald"):
        assert words in told.stdout
    assert (door.asked[0].run_id, door.asked[0].days, door.asked[0].limit) == ("", 7, 5)
    [first, second] = json.loads(ergonaut("recommend", "run-1", "--json").stdout)
    assert ("saving_joules" in first, second["saving_joules"]) == (False, 140.0)


def test_anomalies_are_told_with_what_to_do(door: Door) -> None:
    told = ergonaut("anomalies", "run-1")
    assert told.exit_code == 0, told.output
    for words in ("Power spike", "2.6 times the usual 36 W; see what ran then.", "Drift"):
        assert words in told.stdout
    assert (door.asked[0].run_id, door.asked[0].days) == ("run-1", 7)
    assert len(json.loads(ergonaut("anomalies", "--json").stdout)) == 2


@pytest.mark.parametrize(
    ("command", "column", "words"),
    [
        (("efficiency", "run-1"), "energy_joules", "By unit of work"),
        (("recommend",), "saving_fraction", "The range is of each saving"),
        (("anomalies",), "expected", "Each bar is how many times the usual it was"),
    ],
)
def test_each_is_written_as_a_page_and_printed_as_csv(
    door: Door, tmp_path: Path, command: tuple[str, ...], column: str, words: str
) -> None:
    page = tmp_path / "page.html"
    told = ergonaut(*command, "--html", str(page), "--csv")
    assert told.exit_code == 0, told.output
    rows = list(csv.DictReader(io.StringIO(told.stdout)))
    assert all(float(row[column]) >= 0 for row in rows if row[column])
    assert words in page.read_text()
    assert "<svg" in page.read_text()
    assert f"written: {page}" in ergonaut(*command, "--html", str(page)).stdout


def test_csv_and_json_at_once_are_refused_before_anything_is_asked(door: Door) -> None:
    for command in (("efficiency", "run-1"), ("recommend",), ("anomalies",)):
        told = ergonaut(*command, "--csv", "--json")
        assert (told.exit_code, told.stdout, door.asked) == (65, "", [])
        assert "--csv: cannot be printed together with --json; choose one" in told.stderr


def test_nothing_to_tell_is_csv_of_a_header_only(door: Door) -> None:
    door.is_empty = True
    for command in (("efficiency", "run-1"), ("recommend",), ("anomalies",)):
        assert ergonaut(*command, "--csv").stdout.count("\n") == 1
    assert json.loads(ergonaut("recommend", "--json").stdout) == []


def test_nothing_to_tell_is_said_in_words(door: Door) -> None:
    door.is_empty = True
    assert "run.count" in ergonaut("efficiency", "run-1").stdout
    assert "Nothing measured here would save" in ergonaut("recommend").stdout
    assert "last 30 days" in ergonaut("anomalies", "--days", "30").stdout


def test_the_blocking_client_answers_the_same(door: Door) -> None:
    with Client() as client:
        assert client.analysis.efficiency("run-1") == efficiency(20)
        assert client.analysis.recommendations() == recommendations()
        assert client.analysis.anomalies("run-1", days=3) == anomalies()
    assert [request.run_id for request in door.asked] == ["run-1", "", "run-1"]


class OldDoor(LedgerServiceServicer):
    """A ledger from before there was an analysis."""

    def __init__(self, **run: Any) -> None:
        self.run = run

    async def GetRunFootprint(self, request: Any, context: Any) -> ledger_pb2.GetRunFootprintResponse:
        return footprint(**self.run)

    async def GetPowerSeries(self, request: Any, context: Any) -> ledger_pb2.GetPowerSeriesResponse:
        return ledger_pb2.GetPowerSeriesResponse()

    async def EstimateElsewhere(self, request: Any, context: Any) -> ledger_pb2.EstimateElsewhereResponse:
        return ledger_pb2.EstimateElsewhereResponse()


class BusyDoor(OldDoor):
    """A ledger that has the accounts, and no time for more."""

    async def GetPowerSeries(self, request: Any, context: Any) -> ledger_pb2.GetPowerSeriesResponse:
        raise Unavailable("too many ask")

    async def EstimateElsewhere(self, request: Any, context: Any) -> ledger_pb2.EstimateElsewhereResponse:
        raise Unavailable("too many ask")


async def gathered_from(door: OldDoor, folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunReport:
    """What `ergonaut report` gathers of the door's run."""
    path, keys = key_ring_file(folder, ("default",))
    name = ledger_pb2.DESCRIPTOR.services_by_name["LedgerService"].full_name
    add = lambda server: add_LedgerServiceServicer_to_server(door, server)
    monkeypatch.setenv("ERGONAUT_HOME", str(folder))
    monkeypatch.setenv("ERGONAUT_API_KEY", keys["default"])
    async with serving("127.0.0.1:0", service="ledger", add=add, keys=KeyRing.load(path), names=[name]) as server:
        monkeypatch.setenv("ERGONAUT_LEDGER_ADDRESS", f"127.0.0.1:{server.port}")
        async with AsyncClient() as client:
            return await gathered(client, footprint().run.run_id)


async def test_a_report_stands_without_its_analysis_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await gathered_from(OldDoor(), tmp_path, monkeypatch)
    assert made.energy.value == footprint().energy_joules
    assert [each.partition(":")[0] for each in made.analysis.missing] == [
        "anomalies",
        "phases and units",
        "what would save",
    ]
    assert "Not analysed, phases and units: " in render_html(made)


async def test_a_report_stands_without_its_power_and_other_places_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await gathered_from(BusyDoor(), tmp_path, monkeypatch)
    assert made.energy.value == footprint().energy_joules
    assert (made.power, made.places, made.hours) == ((), (), ())
    page = render_html(made)
    for what in ("power over time", "other places and hours"):
        assert f"Not analysed, {what}: " in page


async def test_a_run_whose_host_is_ahead_of_time_is_waited_for_no_longer_than_one_that_has_just_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "SETTLING_SECONDS", 0.05)
    tomorrow = stamp(datetime.now(UTC) + timedelta(days=1))
    async with asyncio.timeout(20):
        made = await gathered_from(OldDoor(ended_at=tomorrow), tmp_path, monkeypatch)
    assert made.ended_at == tomorrow.ToDatetime(UTC)


@pytest.mark.parametrize("name", ["efficiency", "recommend", "anomalies"])
def test_every_command_has_help_with_an_example(name: str) -> None:
    command = typer.main.get_command(APP).commands[name]  # type: ignore[attr-defined]
    assert f"ergonaut {name}" in command.help.partition("Example: ")[2]


@pytest.mark.parametrize(
    "name", ["report", "compare", "efficiency", "recommend", "anomalies", "usage", "statement", "compliance"]
)
def test_every_report_comes_in_the_same_forms_by_the_same_options(name: str) -> None:
    command = typer.main.get_command(WHOLE).commands[name]  # type: ignore[attr-defined]
    forms = {option: parameter for parameter in command.params for option in parameter.opts}
    assert {"--html", "--csv", "--json"} <= forms.keys()
    assert forms["--html"].metavar == "FILE"
    assert forms["--csv"].is_flag
    assert forms["--json"].is_flag
