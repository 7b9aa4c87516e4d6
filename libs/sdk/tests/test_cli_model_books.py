"""`ergonaut models energy`, `requests` and `forget` against a door that has three requests in two pages."""

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
from grpc import aio
from typer.testing import CliRunner, Result

from ergonaut.api.ledger.v1 import models_pb2 as pb
from ergonaut.api.ledger.v1.models_pb2_grpc import ModelBookServiceServicer, add_ModelBookServiceServicer_to_server
from ergonaut.cli import models
from ergonaut.cli.models_books import moment_from
from ergonaut.errors import Refused
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file

APP = typer.Typer()
models.register(APP)


class Door(ModelBookServiceServicer):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def ListModelFootprints(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        known = pb.ModelFootprint(
            model="digits",
            version=3,
            requests=10,
            predictions=4_000,
            cpu_seconds=2.0,
            predictions_measured=2_000,
            energy_joules=8.0,
            energy_joules_low=6.0,
            energy_joules_high=10.0,
            energy_method="calibrated,not-measured",
        )
        unknown = pb.ModelFootprint(model="other", version=1, requests=1, predictions=1, energy_method="not-measured")
        return pb.ListModelFootprintsResponse(footprints=[known, unknown])

    async def ListModelRequests(self, request: pb.ListModelRequestsRequest, context: Any) -> Any:
        told = pb.ListModelRequestsRequest()
        told.CopyFrom(request)
        self.asked.append(told)
        first = not request.page_token
        count = min(request.limit, 2 if first else 1)
        page = [
            pb.ModelRequest(
                request_id=f"{'a' if first else 'b'}{place}",
                version=3,
                latency_ms=1.25,
                inputs_json='[{"name": "x", "values": [1.0]}]',
                outputs_json="[]",
            )
            for place in range(count)
        ]
        return pb.ListModelRequestsResponse(requests=page, next_page_token="more" if first else "")

    async def ForgetModelRequests(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return pb.ForgetModelRequestsResponse()


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    path, keys = key_ring_file(tmp_path)
    served, ready, stop, loop = Door(), threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    address: list[str] = []

    def add(server: aio.Server) -> None:
        add_ModelBookServiceServicer_to_server(served, server)

    async def serve() -> None:
        ring = KeyRing.load(path)
        async with serving("127.0.0.1:0", service="ledger", add=add, keys=ring, names=()) as opened:
            address.append(f"127.0.0.1:{opened.port}")
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path))
    monkeypatch.setenv("ERGONAUT_LEDGER_ADDRESS", address[0])
    monkeypatch.setenv("ERGONAUT_API_KEY", keys["default"])
    yield served
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def run(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(APP, ["models", *arguments], input=text)


def test_energy_is_told_by_a_thousand_predictions_that_were_measured(door: Door) -> None:
    told = run("energy", "digits", "--since", "7d", "--csv")

    known, unknown = csv.DictReader(io.StringIO(told.stdout))
    assert (known["J / 1,000"], known["from"], known["to"]) == ("4", "3", "5")
    assert known["g / 1,000"] == "not known"
    assert unknown["J / 1,000"] == "not known"
    assert door.asked[0].model == "digits"


def test_requests_are_read_page_by_page(door: Door) -> None:
    told = run("requests", "digits", "--since", "2026-03-31", "--json")

    assert [each["id"] for each in json.loads(told.stdout)] == ["a0", "a1", "b0"]
    assert json.loads(told.stdout)[0]["inputs"] == [{"name": "x", "values": [1.0]}]
    assert door.asked[0].since.ToDatetime(UTC) == datetime(2026, 3, 31, tzinfo=UTC)
    assert [asked.page_token for asked in door.asked] == ["", "more"]


def test_no_more_requests_are_asked_for_than_are_wanted(door: Door) -> None:
    told = run("requests", "digits", "--limit", "2", "--csv")

    assert [row["id"] for row in csv.DictReader(io.StringIO(told.stdout))] == ["a0", "a1"]
    assert [asked.limit for asked in door.asked] == [2]


def test_requests_are_forgotten_once_somebody_said_so(door: Door) -> None:
    assert run("forget", "digits", text="n\n").exit_code == 1
    assert not door.asked

    told = run("forget", "digits", "--before", "7d", "--yes", "--json")

    assert json.loads(told.stdout)["forgotten"] is True
    before = door.asked[0].before.ToDatetime(UTC)
    assert abs(before - (datetime.now(UTC) - timedelta(days=7))) < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["yesterday", "7w", ""])
def test_a_time_that_nobody_understands_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        moment_from(text)
