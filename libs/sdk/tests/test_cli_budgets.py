"""`ergonaut budget` against a door that remembers what it was asked."""

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner, Result

from ergonaut.api.ledger.v1 import budgets_pb2 as pb
from ergonaut.api.ledger.v1.budgets_pb2_grpc import BudgetServiceServicer, add_BudgetServiceServicer_to_server
from ergonaut.cli import budgets
from ergonaut.errors import NotFound
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file

COMMANDS = typer.main.get_command(budgets.app).commands  # type: ignore[attr-defined]
NAME = pb.DESCRIPTOR.services_by_name["BudgetService"].full_name


def stamp(*parts: int) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(datetime(*parts, tzinfo=UTC))  # type: ignore[arg-type, misc]
    return moment


class Door(BudgetServiceServicer):
    """Holds budgets in a dictionary."""

    def __init__(self) -> None:
        self.budgets: dict[str, pb.Budget] = {}

    async def SetBudget(self, request: pb.SetBudgetRequest, context: Any) -> pb.SetBudgetResponse:
        self.budgets[request.budget.budget_id] = request.budget
        return pb.SetBudgetResponse(standing=self._standing(request.budget.budget_id))

    async def GetBudget(self, request: pb.GetBudgetRequest, context: Any) -> pb.GetBudgetResponse:
        return pb.GetBudgetResponse(standing=self._standing(request.budget_id))

    async def ListBudgets(self, request: pb.ListBudgetsRequest, context: Any) -> pb.ListBudgetsResponse:
        return pb.ListBudgetsResponse(standings=[self._standing(name) for name in sorted(self.budgets)])

    async def RemoveBudget(self, request: pb.RemoveBudgetRequest, context: Any) -> pb.RemoveBudgetResponse:
        self._standing(request.budget_id)
        del self.budgets[request.budget_id]
        return pb.RemoveBudgetResponse()

    def _standing(self, budget_id: str) -> pb.BudgetStanding:
        if budget_id not in self.budgets:
            raise NotFound(f"no budget {budget_id!r} is set")
        budget = self.budgets[budget_id]
        return pb.BudgetStanding(
            budget=budget,
            used=budget.limit * 0.85,
            used_range=budget.limit * 0.17,
            state="warned",
            window_started_at=stamp(2026, 3, 1),
            window_ends_at=stamp(2026, 4, 1),
            ends_at_expected=stamp(2026, 3, 28, 16, 20),
            paused_job_ids=["job-1"],
        )


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """The door, open in a thread of its own, since each command has a loop of its own."""
    path, keys = key_ring_file(tmp_path)
    served, opened, loop = Door(), threading.Event(), asyncio.new_event_loop()
    ending = asyncio.Event()

    async def serve() -> None:
        add = lambda server: add_BudgetServiceServicer_to_server(served, server)
        async with serving("127.0.0.1:0", service="test", add=add, keys=KeyRing.load(path), names=[NAME]) as server:
            monkeypatch.setenv("ERGONAUT_LEDGER_ADDRESS", f"127.0.0.1:{server.port}")
            opened.set()
            await ending.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    monkeypatch.setenv("ERGONAUT_API_KEY", keys["default"])
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path))
    assert opened.wait(10)
    yield served
    loop.call_soon_threadsafe(ending.set)
    thread.join(10)
    loop.close()


def budget(*arguments: str) -> Result:
    return CliRunner().invoke(budgets.app, [*arguments], env={"COLUMNS": "160"})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_speaks_json(name: str) -> None:
    command = COMMANDS[name]
    assert f"ergonaut budget {name}" in command.help.partition("Example: ")[2]
    assert any("--json" in parameter.opts for parameter in command.params)
    assert budget(name, "--help").exit_code == 0


def test_a_budget_is_set_as_it_was_written(door: Door) -> None:
    told = budget("set", "march", "2.5kWh", "--of", "project:vision", "--window", "month", "--action", "pause")
    assert told.exit_code == 0, told.output
    asked = door.budgets["march"]
    assert (asked.scope, asked.scope_key, asked.metric, asked.limit) == ("project", "vision", "energy_joules", 9e6)
    assert (asked.window, asked.action, asked.warn_fraction) == ("month", "pause", 0.8)
    assert not asked.HasField("starts_at")


def test_times_are_taken_as_utc(door: Door) -> None:
    told = budget("set", "march", "200usd", "--starts", "2026-03-01", "--ends", "2026-03-31T12:00:00")
    assert told.exit_code == 0, told.output
    assert door.budgets["march"].starts_at == stamp(2026, 3, 1)
    assert door.budgets["march"].ends_at == stamp(2026, 3, 31, 12)


def test_the_table_tells_use_range_window_end_and_state(door: Door) -> None:
    budget("set", "march", "200usd", "--window", "month")
    table = budget("list").stdout
    for part in (
        "170 USD ± 20 %",
        "200 USD",
        "████████··  85 %",
        "month to 2026-03-31",
        "2026-03-28 16:20",
        "warned",
    ):
        assert part in table, table
    assert "paused: job-1" in budget("show", "march").stdout


def test_json_is_what_the_door_said(door: Door) -> None:
    budget("set", "march", "200usd")
    [listed] = json.loads(budget("list", "--json").stdout)
    assert (listed["budget"]["budget_id"], listed["used"], listed["state"]) == ("march", 170.0, "warned")
    assert json.loads(budget("show", "march", "--json").stdout) == listed


def test_a_removed_budget_is_gone_and_one_that_never_was_is_not_found(door: Door) -> None:
    budget("set", "march", "200usd")
    assert budget("remove", "march").exit_code == 0
    gone = budget("remove", "march")
    assert gone.exit_code == 66
    assert "march" in gone.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("set", "b", "200"), "give a number and usd"),
        (("set", "b", "200 apples"), "give a number and usd"),
        (("set", "b", "5mJ"), "give a number and usd"),
        (("set", "b", "0J"), "limit: should be greater than 0"),
        (("set", "b", "5J", "--of", "planet:earth"), "project:NAME"),
        (("set", "b", "5J", "--of", "run"), "scope_key"),
        (("set", "B!", "5J"), "budget_id: must be 1 to 63 lower-case letters, digits and dashes"),
        (("set", "b", "5J", "--warn", "1.5"), "warn_fraction"),
    ],
)
def test_a_slip_of_the_pen_is_told_by_name(arguments: tuple[str, ...], sentence: str) -> None:
    told = budget(*arguments)
    assert told.exit_code == 65, told.output
    assert sentence in told.stderr
