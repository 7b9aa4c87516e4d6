"""`ergonaut replicas` against a door that remembers what it was asked."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from ergonaut.api.orchestration.v1 import replicas_pb2 as pb
from ergonaut.api.orchestration.v1.replicas_pb2_grpc import (
    ReplicasServiceServicer,
    add_ReplicasServiceServicer_to_server,
)
from ergonaut.cli import replicas
from ergonaut.errors import NotFound
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import caller, serving
from ergonaut_common.testing import key_ring_file

COMMANDS = typer.main.get_command(replicas.app).commands  # type: ignore[attr-defined]
NAME = pb.DESCRIPTOR.services_by_name["ReplicasService"].full_name


class Door(ReplicasServiceServicer):
    """Holds sets in a dictionary."""

    def __init__(self) -> None:
        self.sets: dict[str, pb.Replicas] = {}
        self.principals: list[str] = []

    async def SetReplicas(self, request: pb.SetReplicasRequest, context: Any) -> pb.SetReplicasResponse:
        self.principals.append(caller().principal)
        replica = pb.Replica(job_id=f"{request.name}-replica-1", state="serving", address="127.0.0.1:9")
        self.sets[request.name] = pb.Replicas(
            name=request.name, target=2, wanted=3, replicas=[replica], spec=request.spec, because="no place"
        )
        return pb.SetReplicasResponse()

    async def GetReplicas(self, request: pb.GetReplicasRequest, context: Any) -> pb.GetReplicasResponse:
        if request.name not in self.sets:
            raise NotFound(f"no replicas are kept as {request.name}; set some")
        return pb.GetReplicasResponse(replicas=self.sets[request.name])

    async def ListReplicas(self, request: pb.ListReplicasRequest, context: Any) -> pb.ListReplicasResponse:
        return pb.ListReplicasResponse(sets=[self.sets[name] for name in sorted(self.sets)])

    async def StopReplicas(self, request: pb.StopReplicasRequest, context: Any) -> pb.StopReplicasResponse:
        self.principals.append(caller().principal)
        if self.sets.pop(request.name, None) is None:
            raise NotFound(f"no replicas are kept as {request.name}")
        return pb.StopReplicasResponse()


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """The door, open in a thread of its own, since each command has a loop of its own."""
    path, keys = key_ring_file(tmp_path, ("default", "operating"))
    served, opened, loop = Door(), threading.Event(), asyncio.new_event_loop()
    ending = asyncio.Event()

    async def serve() -> None:
        add = lambda server: add_ReplicasServiceServicer_to_server(served, server)
        async with serving("127.0.0.1:0", service="test", add=add, keys=KeyRing.load(path), names=[NAME]) as server:
            monkeypatch.setenv("ERGONAUT_ORCHESTRATOR_ADDRESS", f"127.0.0.1:{server.port}")
            opened.set()
            await ending.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    monkeypatch.delenv("ERGONAUT_API_KEY", raising=False)
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "client.key").write_text(keys["default"])
    (tmp_path / "secrets" / "operator.key").write_text(keys["operating"])
    assert opened.wait(10)
    yield served
    loop.call_soon_threadsafe(ending.set)
    thread.join(10)
    loop.close()


def command(*arguments: str) -> Result:
    return CliRunner().invoke(replicas.app, [*arguments], env={"COLUMNS": "160"})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_speaks_json(name: str) -> None:
    found = COMMANDS[name]
    assert f"ergonaut replicas {name}" in found.help.partition("Example: ")[2]
    assert any("--json" in parameter.opts for parameter in found.params)
    assert command(name, "--help").exit_code == 0


def test_a_set_is_kept_by_the_operators_key_as_it_was_written(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text("replicas_max: 2\ndrain_seconds: 5\nsettings: {ERGONAUT_GATEWAY_WORKERS: '2'}\n")
    told = command("set", "edge", "--spec", str(file), "--max", "4")
    assert told.exit_code == 0, told.output
    spec = door.sets["edge"].spec
    assert (spec.replicas_min, spec.replicas_max, spec.drain_seconds) == (1, 4, 5.0)
    assert spec.settings == {"ERGONAUT_GATEWAY_WORKERS": "2"}
    assert door.principals == ["user-of-operating"]


def test_what_is_not_told_stays_as_it_was(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text("replicas_max: 2\ndrain_seconds: 5\n")
    command("set", "edge", "--spec", str(file))
    told = json.loads(command("set", "edge", "--min", "0", "--max", "0", "--json").stdout)
    assert (told["spec"]["replicas_max"], told["spec"]["drain_seconds"]) == (0, 5.0)
    assert (door.sets["edge"].spec.replicas_min, door.sets["edge"].spec.drain_seconds) == (0, 5.0)


def test_how_a_set_stands_is_told_to_people_and_programs(door: Door) -> None:
    command("set", "edge", "--max", "4")
    shown = command("show", "edge").stdout
    for part in ("edge: 1 of 2 serve (1 to 4), 3 gateways wanted in all: no place", "edge-replica-1", "127.0.0.1:9"):
        assert part in shown, shown
    assert "1 of 2" in command("list").stdout
    [listed] = json.loads(command("list", "--json").stdout)
    assert json.loads(command("show", "edge", "--json").stdout) == listed


def test_a_stopped_set_is_waited_for_and_one_that_never_was_is_not_found(door: Door) -> None:
    command("set", "edge")
    told = command("stop", "edge")
    assert (told.exit_code, "all replicas have ended" in told.stdout) == (0, True)
    gone = command("stop", "edge")
    assert (gone.exit_code, "no replicas are kept as edge" in gone.stderr) == (66, True)


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        ("", ("--min", "5", "--max", "2"), "replicas_max: must be 5 at least"),
        ("", ("--max", "99"), "replicas_max: should be less than or equal to 32"),
        ("replicas: 3", (), "replicas: "),
        ("settings: {ERGONAUT_GATEWAY_GRPC_ADDRESS: '0.0.0.0:1'}", (), "takes free ports"),
        ("[1, 2]", (), "has no fields such as"),
        ("a: [", (), "cannot be read"),
    ],
)
def test_a_slip_of_the_pen_is_told_by_name(
    door: Door, tmp_path: Path, text: str, arguments: tuple[str, ...], sentence: str
) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text(text)
    told = command("set", "edge", *arguments, *(("--spec", str(file)) if text else ()))
    assert told.exit_code == 65, told.output
    assert sentence in told.stderr.replace("\n", " ")
    assert door.sets == {}


def test_without_an_operators_key_it_is_said_where_one_comes_from(door: Door, tmp_path: Path) -> None:
    (tmp_path / "secrets" / "operator.key").unlink()
    told = command("set", "edge")
    assert told.exit_code == 66
    assert "run `ergonaut up`" in told.stderr.replace("\n", " ")
