"""`ergonaut rollout` and `ergonaut retrain` as a person runs them: the real command, door, Temporal and workflows, over fakes."""

import asyncio
import contextlib
import io
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from skipping import Serving
from stand_in import Scheduler, scheduling
from temporalio.client import Client
from temporalio.service import RPCError
from worlds import candidate

from ergonaut.jobs import Plan
from ergonaut.retraining import retraining_workflow_id
from ergonaut.rollouts import rollout_workflow_id
from ergonaut.workflows import RUNS_TASK_QUEUE
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_common.testing_commands import ergonaut_command
from ergonaut_orchestrator.adapters.temporal_workflows import TemporalWorkflows
from ergonaut_orchestrator.domain.rollouts import Versions
from ergonaut_orchestrator.fakes import FakeGateways
from ergonaut_orchestrator.fakes.serving import Rates
from ergonaut_orchestrator.rpc import SERVICE_NAMES, Reception
from ergonaut_orchestrator.service import Desk, Fleets, RollingOut, ServingDesk

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

RECIPE = """
model: digits
job: {name: again, command: ["true"], artifacts: ["*.onnx", "*.npz"], duration_seconds_expected: 5}
when: {on_drift: false, schedule: "0 3 * * 1", time_zone: Europe/Berlin}
rollout: {endpoint: digits, steps: [0.5], hold_seconds: 0, look_seconds: 0.1}
"""
QUICK = ("--steps", "0.1,0.5", "--hold", "0", "--settings", "quick.yaml")


@dataclass
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        return json.loads(self.out)


@dataclass
class Shell:
    """A person's shell in a folder, before a system whose gateway and machines are fakes."""

    folder: Path
    environment: dict[str, str]
    world: Serving

    async def run(self, *arguments: str, expect: int = 0) -> Done:
        """`ergonaut ARGUMENTS`; it must end with the expected code."""
        ended = await asyncio.to_thread(ergonaut_command, *arguments, env=self.environment, cwd=self.folder)
        done = Done(ended.returncode, ended.stdout, ended.stderr)
        assert done.code == expect, done
        return done

    async def refused(self, *arguments: str, code: int, words: str) -> None:
        """The command ends with this code and one clear sentence, whoever reads it."""
        done = await self.run(*arguments, expect=code)
        assert (words in done.err, done.out, "Traceback" in done.err) == (True, "", False), done

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return name


@pytest.fixture
async def shell(client: Client, tmp_path: Path) -> AsyncIterator[Shell]:
    keys_file, keys = key_ring_file(tmp_path)
    ring, reception = KeyRing.load(keys_file), Reception()
    world = Serving(SimpleNamespace(client=client), queue=RUNS_TASK_QUEUE)  # type: ignore[arg-type]
    scheduler = Scheduler(lambda: Plan(chosen=candidate(), weighed=1))
    scheduler.sources = world.jobs.sources.stored
    folder = tmp_path / "work"
    folder.mkdir()
    workflows = TemporalWorkflows(client)
    desk = Desk(workflows, RollingOut(world.traffic, world.models, world.announcer))
    reception.open(desk, ServingDesk(workflows, Fleets(workflows, FakeGateways())))
    async with (
        world.worker(),
        scheduling(scheduler, ring) as scheduler_address,
        serving("127.0.0.1:0", service="orchestrator", add=reception.add, keys=ring, names=SERVICE_NAMES) as server,
    ):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "ERGONAUT_HOME": str(tmp_path / "home"),
            "ERGONAUT_API_KEY": keys["default"],
            "ERGONAUT_ORCHESTRATOR_ADDRESS": f"127.0.0.1:{server.port}",
            "ERGONAUT_SCHEDULER_ADDRESS": scheduler_address,
            "COLUMNS": "200",
        }
        made = Shell(folder, environment, world)
        made.write("quick.yaml", "look_seconds: 0.1\nrule: {requests_min: 50}\n")
        yield made
        for workflow_id in (rollout_workflow_id("default", "digits"), retraining_workflow_id("default", "digits")):
            with contextlib.suppress(RPCError):
                await client.get_workflow_handle(workflow_id).terminate()


async def test_a_rollout_is_watched_until_the_version_has_taken_over_and_told_afterwards(shell: Shell) -> None:
    done = await shell.run("rollout", "start", "digits", "--version", "2", *QUICK, "--because", "it is newer")
    assert "digits: digits 2 promoted" in done.out.splitlines()[-1]
    assert shell.world.routes() == [("main", "2", 1.0)]
    status = (await shell.run("rollout", "status", "digits", "--json")).told
    assert (status["state"], status["version"], status["steps"]) == ("promoted", 2, 2)
    assert "promoted" in (await shell.run("rollout", "status", "digits")).out
    assert "promoted" in (await shell.run("rollout", "status", "digits", "--watch")).out
    assert [each["endpoint"] for each in (await shell.run("rollout", "list", "--json")).told] == ["digits"]
    assert "digits 2" in (await shell.run("rollout", "list")).out


async def test_a_rollout_that_is_aborted_ends_with_one_and_its_reason(shell: Shell) -> None:
    start = ("rollout", "start", "digits", "--version", "2", "--hold", "600", "--no-watch")
    assert (await shell.run(*start, "--json")).told["state"] == "starting"
    await shell.refused(*start, code=73, words="runs already")
    while (await shell.run("rollout", "status", "digits", "--json")).told["state"] != "watching":
        continue
    told = (await shell.run("rollout", "abort", "digits", "--because", "wrong file", "--json")).told
    assert told == {"endpoint": "digits", "aborting": True}
    ended = (await shell.run("rollout", "status", "digits", "--watch", "--json", expect=1)).told
    assert (ended["state"], ended["because"]) == ("rolled-back", "aborted: wrong file")
    assert shell.world.routes() == [("main", "1", 1.0)]
    await shell.refused("rollout", "abort", "digits", code=66, words="no rollout of endpoint digits is under way")


async def test_a_version_that_fails_is_taken_back_and_the_command_ends_with_one(shell: Shell) -> None:
    shell.world.traffic.rates["digits", 2] = Rates(failed=0.5)
    done = await shell.run("rollout", "start", "digits", "--version", "2", *QUICK, "--json", expect=1)
    assert (done.told["state"], "more than the champion's" in done.told["because"]) == ("rolled-back", True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("start", "nobody", "--version", "2"), 66, "there is no endpoint nobody"),
        (("start", "digits", "--version", "9"), 65, "version 9 of model digits is not kept"),
        (("start", "digits", "--version", "1"), 65, "is what digits serves already"),
        (("start", "digits", "--version", "0"), 65, "version"),
        (("start", "digits", "--version", "2", "--steps", "a,b"), 65, "--steps: 'a,b' is not such as"),
        (("start", "digits", "--version", "2", "--steps", "0.5,0.1"), 65, "must grow"),
        (("start", "digits", "--version", "2", "--hold", "-1"), 65, "hold_seconds"),
        (("start", "digits", "--version", "2", "--settings", "none.yaml"), 65, "none.yaml cannot be read"),
        (("start", "digits", "--version", "2", "--settings", "list.yaml"), 65, "has no fields such as"),
        (("start", "digits", "--version", "2", "--settings", "slip.yaml"), 65, "hold_secnds"),
        (("start", "../other", "--version", "2"), 65, "endpoint"),
        (("status", "digits2"), 66, "no rollout of endpoint digits2 is known"),
        (("status", "../other"), 65, "must be"),
        (("abort", "digits2"), 66, "no rollout of endpoint digits2 is under way"),
    ],
)
async def test_a_rollout_that_cannot_be_is_refused_in_one_sentence_with_a_code_for_scripts(
    shell: Shell, arguments: tuple[str, ...], code: int, words: str
) -> None:
    shell.write("list.yaml", "- a\n")
    shell.write("slip.yaml", "hold_secnds: 5\n")
    await shell.refused("rollout", *arguments, code=code, words=words)


async def test_a_recipe_is_set_shown_used_by_hand_paused_resumed_and_removed(shell: Shell) -> None:
    rows, truth = np.arange(400).reshape(400, 1).astype(np.float32), np.arange(400) % 10
    packed = io.BytesIO()
    np.savez(packed, x=rows, y=truth)
    (shell.folder / "model.onnx").write_bytes(b"model two")
    (shell.folder / "validation.npz").write_bytes(packed.getvalue())
    shell.world.models.models["default", "digits"] = Versions((1,), {"champion": 1}, default=1)
    shell.world.models.says = lambda version, asked: np.where(
        (asked[:, 0] < 100) & (version == 1), -1, asked[:, 0].astype(np.int64) % 10
    )
    recipe = shell.write("recipe.yaml", RECIPE)
    assert (await shell.run("retrain", "set", recipe, "--json")).told == {"model": "digits", "set": True}
    shown = (await shell.run("retrain", "show", "digits")).out
    assert "digits: waiting, trains next at " in shown
    assert "takes over digits" in shown
    assert (await shell.run("retrain", "pause", "digits", "--because", "release week", "--json")).told["paused"]
    assert "digits: paused (release week)" in (await shell.run("retrain", "show", "digits")).out
    ended = (await shell.run("retrain", "now", "digits", "--because", "to see", "--json")).told
    assert (ended["state"], ended["trigger"], ended["wanted_because"]) == ("promoted", "hand", "to see")
    assert (ended["challenger_version"], ended["compared"]["better_rows"]) == (2, 100)
    assert not (await shell.run("retrain", "resume", "digits", "--json")).told["paused"]
    told = (await shell.run("retrain", "show", "digits", "--json")).told
    assert (told["state"], told["recipe"]["when"]["time_zone"]) == ("waiting", "Europe/Berlin")
    assert [each["state"] for each in told["outcomes"]] == ["promoted"]
    assert [each["model"] for each in (await shell.run("retrain", "list", "--json")).told] == ["digits"]
    turned_down = await shell.run("retrain", "now", "digits", expect=1)
    assert "turned-down" in turned_down.out.splitlines()[-1]
    assert (await shell.run("retrain", "now", "digits", "--no-watch", "--json")).told["wanted"]
    assert (await shell.run("retrain", "remove", "digits", "--json")).told == {"model": "digits", "removed": True}
    await shell.refused("retrain", "show", "digits", code=66, words="model digits has no recipe; set one")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("set", "none.yaml"), 66, "there is no recipe file"),
        (("set", "slip.yaml"), 65, "when.shedule: is no field; did you mean schedule"),
        (("set", "never.yaml"), 65, "recipe.when.schedule: '0 3 30 2 *' is no cron schedule"),
        (("set", "mars.yaml"), 65, "recipe.when.time_zone: 'Mars/Base' is no time zone"),
        (("show", "nobody"), 66, "model nobody has no recipe; set one"),
        (("now", "nobody"), 66, "model nobody has no recipe"),
        (("pause", "nobody"), 66, "model nobody has no recipe"),
        (("resume", "nobody"), 66, "model nobody has no recipe"),
        (("remove", "nobody"), 66, "model nobody has no recipe"),
        (("pause", "../other"), 65, "model"),
        (("pause", "nobody", "--because", "x" * 1025), 65, "because: is longer than 1024 characters"),
    ],
)
async def test_a_retraining_that_cannot_be_is_refused_in_one_sentence_with_a_code_for_scripts(
    shell: Shell, arguments: tuple[str, ...], code: int, words: str
) -> None:
    shell.write("slip.yaml", RECIPE.replace("schedule", "shedule"))
    shell.write("never.yaml", RECIPE.replace("0 3 * * 1", "0 3 30 2 *"))
    shell.write("mars.yaml", RECIPE.replace("Europe/Berlin", "Mars/Base"))
    await shell.refused("retrain", *arguments, code=code, words=words)


async def test_without_a_system_or_a_key_it_says_so(shell: Shell) -> None:
    shell.environment["ERGONAUT_API_KEY"] = "nonsense"
    await shell.refused("rollout", "list", code=77, words="key")
    shell.environment["ERGONAUT_ORCHESTRATOR_ADDRESS"] = "127.0.0.1:1"
    await shell.refused("retrain", "list", code=69, words="listing retrainings")
