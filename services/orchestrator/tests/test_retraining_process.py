"""The whole process at a retraining: killed in each of its steps, and started again."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conftest import until
from engines import Engines
from gateway_stand_in import Held, gateway
from skipping import DIGITS
from stand_in import ledger
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError
from worlds import archive_of

from ergonaut.jobs import source_digest
from ergonaut.retraining import RETRAINING, TRAIN_NOW_SIGNAL, RetrainingProgress, retraining_workflow_id
from ergonaut.workflows import PROGRESS_QUERY, RUNS_TASK_QUEUE
from ergonaut_common.auth import KeyRing
from ergonaut_common.testing import free_port
from ergonaut_orchestrator.domain.rollouts import Versions
from ergonaut_orchestrator.fakes import FakeServedModels, FakeTraffic

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.timeout(300)]

ROWS = np.arange(400).reshape(400, 1).astype(np.float32)
TRUTH = (np.arange(400) % 10).astype(np.int64)
TRAIN = b"""
import sys, time
from pathlib import Path
marks = Path(sys.argv[1])
with marks.open("a") as file:
    file.write("begun\\n")
time.sleep(3)
with marks.open("a") as file:
    file.write("ended\\n")
"""
ENDS = ["models.rollout.started", "models.rollout.promoted", "models.retraining.finished"]


def says(version: int, rows: Any) -> Any:
    """The first version has 100 of the rows wrong, all later ones none."""
    numbers = rows[:, 0].astype(np.int64)
    return np.where((numbers < 100) & (version == 1), -1, numbers % 10)


@dataclass
class Training:
    """The process, and the gateway that it asks, which may keep an answer under way."""

    engines: Engines
    traffic: FakeTraffic
    models: FakeServedModels
    keys: KeyRing
    address: str

    async def begin(self, **changes: Any) -> WorkflowHandle[Any, None]:
        """Set a recipe whose training leaves the files of its source, and want one."""
        packed = io.BytesIO()
        np.savez(packed, x=ROWS, y=TRUTH)
        source = archive_of({"train.py": TRAIN, "model.onnx": b"model two", "validation.npz": packed.getvalue()})
        await (await self.engines.bus.object_store("sources-default")).put(source_digest(source), source)
        job = {"name": "train", "command": ["python", "train.py", str(self.engines.folder / "marks")]}
        job |= {"source": source_digest(source), "artifacts": ["*.onnx", "*.npz"], "duration_seconds_expected": 5}
        return await self.engines.client.start_workflow(
            RETRAINING,
            {"model": "digits", "recipe": {"job": job} | changes},
            id=retraining_workflow_id("default", "digits"),
            task_queue=RUNS_TASK_QUEUE,
            start_signal=TRAIN_NOW_SIGNAL,
        )

    @contextlib.asynccontextmanager
    async def answering(self, question: str = "") -> AsyncIterator[Held]:
        """The gateway, which keeps the answers to one kind of question until it is told to release them."""
        traffic, models = Held(self.traffic, question), Held(self.models, question)
        asked = traffic if hasattr(FakeTraffic, question) else models
        async with gateway(traffic, models, self.keys, self.address):
            yield asked

    async def kill_in(self, question: str) -> None:
        """kill -9 while an answer is under way: what it was asked is done, and nobody knows."""
        async with self.answering(question) as asked:
            await asyncio.wait_for(asked.is_reached.wait(), 60)
            self.again()

    def again(self) -> None:
        """kill -9, and a new process in its place."""
        self.engines.process.kill()
        self.engines.process.start()

    async def until_told(self, kind: str) -> None:
        async with asyncio.timeout(90):
            while kind not in await self.told():
                await asyncio.sleep(0.1)

    async def told(self) -> list[str]:
        """What was told of models, each once however often it was sent."""
        return await self.engines.kinds_of("ERGONAUT_MODELS")


@pytest.fixture
async def training(engines: Engines) -> AsyncIterator[Training]:
    models = FakeServedModels()
    models.says = says
    models.models["default", "digits"] = Versions((1,), {"champion": 1}, default=1)
    traffic = FakeTraffic(models)
    traffic.endpoints["default", "digits"] = DIGITS
    environment = engines.process.environment
    keys = KeyRing.load(engines.folder / environment["ERGONAUT_KEYS_FILE"])
    environment["ERGONAUT_GATEWAY_ADDRESS"] = f"127.0.0.1:{free_port()}"
    async with ledger(keys) as address:
        environment["ERGONAUT_LEDGER_ADDRESS"] = address
        yield Training(engines, traffic, models, keys, environment["ERGONAUT_GATEWAY_ADDRESS"])


async def test_killed_in_each_of_its_steps_it_trains_deploys_rolls_out_and_tells_once(training: Training) -> None:
    engines = training.engines
    engines.process.start()
    rollout = {"endpoint": "digits", "steps": [0.5], "hold_seconds": 0.5, "look_seconds": 0.2}
    handle = await training.begin(rollout=rollout)
    await until(lambda: engines.marks() == ["begun"])
    training.again()
    for question in ("deploy", "ask", "apply", "name", "unname"):
        await training.kill_in(question)
    async with training.answering():
        await training.until_told("models.retraining.finished")
        training.again()
        progress = await _progress(handle)
    [outcome] = progress.outcomes
    assert (outcome.state, outcome.trigger, outcome.champion_version) == ("promoted", "hand", 1)
    assert (engines.marks(), engines.leases()) == (["begun", "ended"], [])
    assert len(training.models.uploads) == 1
    assert training.models.models["default", "digits"] == Versions((1, 2), {"champion": 2}, default=2)
    assert [route.version for route in training.traffic.endpoints["default", "digits"].routes] == ["2"]
    assert len(training.traffic.applied) == 2
    assert await training.told() == ENDS


async def test_killed_while_the_alias_moves_at_once_the_training_is_not_taken_for_one_that_somebody_overtook(
    training: Training,
) -> None:
    training.engines.process.start()
    handle = await training.begin()
    await training.kill_in("name")
    async with training.answering():
        await training.until_told("models.retraining.finished")
        [outcome] = (await _progress(handle)).outcomes
    assert (outcome.state, outcome.challenger_version) == ("promoted", 2)
    assert training.models.models["default", "digits"].aliases == {"champion": 2}


async def _progress(handle: WorkflowHandle[Any, None]) -> RetrainingProgress:
    """What the workflow says once a worker is there and the end is remembered."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(RPCError):
                told: RetrainingProgress = await handle.query(PROGRESS_QUERY, result_type=RetrainingProgress)
                if told.outcomes:
                    return told
            await asyncio.sleep(0.1)
