"""The whole process at a rollout: killed at any of its changes, cut off from the gateway, and started again."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import until
from engines import Engines
from gateway_stand_in import gateway
from skipping import DIGITS
from temporalio.client import WorkflowHandle

from ergonaut.rollouts import ABORT_SIGNAL, ROLLOUT, RolloutProgress, RolloutState, rollout_workflow_id
from ergonaut.workflows import RUNS_TASK_QUEUE
from ergonaut_common.auth import KeyRing
from ergonaut_orchestrator.domain.rollouts import Versions
from ergonaut_orchestrator.fakes import FakeServedModels, FakeTraffic
from ergonaut_orchestrator.fakes.serving import Rates

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.timeout(180)]

STEPS = [0.1, 0.5]


@dataclass
class Rolling:
    """The process, and the gateway that it asks."""

    engines: Engines
    traffic: FakeTraffic
    models: FakeServedModels

    async def begin(self, **changes: Any) -> WorkflowHandle[Any, RolloutProgress]:
        given = {"endpoint": "digits", "model": "digits", "version": 2, "steps": STEPS}
        given |= {"hold_seconds": 0.5, "look_seconds": 0.2} | changes
        return await self.engines.client.start_workflow(
            ROLLOUT,
            given,
            id=rollout_workflow_id("default", "digits"),
            task_queue=RUNS_TASK_QUEUE,
            result_type=RolloutProgress,
        )

    def routes(self) -> list[tuple[str, str, float]]:
        routes = self.traffic.endpoints["default", "digits"].routes
        return [(route.name, route.version, route.weight) for route in routes]

    async def told(self) -> list[str]:
        return await self.engines.kinds_of("ERGONAUT_MODELS")


@pytest.fixture
async def rolling(engines: Engines) -> AsyncIterator[Rolling]:
    models = FakeServedModels()
    models.models["default", "digits"] = Versions((1, 2), {"champion": 1}, default=1)
    traffic = FakeTraffic(models)
    traffic.endpoints["default", "digits"] = DIGITS
    keys_file = engines.process.environment["ERGONAUT_KEYS_FILE"]
    async with gateway(traffic, models, KeyRing.load(engines.folder / keys_file)) as address:
        engines.process.environment["ERGONAUT_GATEWAY_ADDRESS"] = address
        yield Rolling(engines, traffic, models)


@pytest.mark.parametrize("changes", [1, 2, 3], ids=["first step", "second step", "taking over"])
async def test_killed_at_any_of_its_changes_it_takes_over_and_makes_no_change_twice(
    rolling: Rolling, changes: int
) -> None:
    rolling.engines.process.start()
    handle = await rolling.begin()
    await until(lambda: len(rolling.traffic.applied) == changes)
    rolling.engines.process.kill()
    rolling.engines.process.start()
    result = await asyncio.wait_for(handle.result(), 90)
    assert (result.state, rolling.routes()) == (RolloutState.PROMOTED, [("main", "2", 1.0)])
    assert len(rolling.traffic.applied) == 3
    assert rolling.models.models["default", "digits"].aliases == {"champion": 2}
    assert await rolling.told() == ["models.rollout.started", "models.rollout.promoted"]


async def test_killed_while_a_bad_version_is_taken_back_the_old_routes_are_there_in_the_end(rolling: Rolling) -> None:
    rolling.traffic.rates["digits", 2] = Rates(failed=0.5)
    rolling.engines.process.start()
    handle = await rolling.begin(hold_seconds=30)
    await until(lambda: len(rolling.traffic.applied) == 2)
    rolling.engines.process.kill()
    rolling.engines.process.start()
    result = await asyncio.wait_for(handle.result(), 90)
    assert (result.state, rolling.routes()) == (RolloutState.ROLLED_BACK, [("main", "1", 1.0)])
    assert len(rolling.traffic.applied) == 2
    assert await rolling.told() == ["models.rollout.started", "models.rollout.reverted"]


async def test_aborted_while_nobody_works_it_takes_the_version_back_once_somebody_does(rolling: Rolling) -> None:
    rolling.engines.process.start()
    handle = await rolling.begin(hold_seconds=600)
    await until(lambda: len(rolling.traffic.applied) == 1)
    rolling.engines.process.kill()
    await handle.signal(ABORT_SIGNAL)
    rolling.engines.process.start()
    result = await asyncio.wait_for(handle.result(), 90)
    assert (result.state, rolling.routes()) == (RolloutState.ROLLED_BACK, [("main", "1", 1.0)])
