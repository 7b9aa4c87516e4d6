"""The whole process at a set of replicas that are real gateways: killed at each step, it goes on where it was."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest
from engines import Engines, processes_in
from temporalio.client import WorkflowHandle

from ergonaut.replicas import SERVING, SET_REPLICAS_SIGNAL, ReplicasSpec, ReplicaState, ServingProgress
from ergonaut.workflows import PROGRESS_QUERY, RUN_JOB, RUNS_TASK_QUEUE, STOP_SIGNAL

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.timeout(240)]

PATIENCE_SECONDS = 60.0
"""A gateway is there within a second or two; a machine that runs other tests takes longer."""


class Kept:
    """A set at the orchestrator's process."""

    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        self.handle: WorkflowHandle[Any, ServingProgress]

    async def begin(self, **spec: Any) -> None:
        self.handle = await self.engines.client.start_workflow(
            SERVING,
            {"name": "edge", "spec": spec},
            id="serving/default/edge",
            task_queue=RUNS_TASK_QUEUE,
            result_type=ServingProgress,
        )

    def killed(self) -> None:
        """kill -9, and a new one in its place."""
        self.engines.process.kill()
        self.engines.process.start()

    async def states(self) -> Counter[str]:
        """How many replicas are how; nothing while the process does not answer."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5):
                told = await self.handle.query(PROGRESS_QUERY, result_type=ServingProgress)
                return Counter(str(each.state) for each in told.replicas)
        return Counter()

    def gateways(self) -> dict[str, int]:
        """The process of each gateway, by its job."""
        found = {}
        for process in processes_in(self.engines.folder):
            with contextlib.suppress(psutil.Error):
                if "ergonaut_gateway" in process.cmdline():
                    found[process.environ()["ERGONAUT_GATEWAY_REPLICA"]] = process.pid
        return found

    async def jobs(self) -> int:
        """How many jobs there have been."""
        return len([each async for each in self.engines.client.list_workflows(f"WorkflowType = '{RUN_JOB}'")])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    give_up_at = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while not await condition():
        assert asyncio.get_running_loop().time() < give_up_at, f"waited {PATIENCE_SECONDS:g} s in vain"
        await asyncio.sleep(0.1)


async def test_killed_at_each_step_it_loses_no_replica_and_starts_none_twice(engines: Engines) -> None:
    kept = Kept(engines)

    async def serve(count: int) -> bool:
        return await kept.states() == {ReplicaState.SERVING: count} and len(kept.gateways()) == count

    engines.process.start()
    await kept.begin(replicas_min=1, replicas_max=2)
    kept.killed()
    await until(lambda: serve(1))
    [first] = kept.gateways().items()

    kept.killed()
    await kept.handle.signal(SET_REPLICAS_SIGNAL, ReplicasSpec(replicas_min=2, replicas_max=2))
    await until(lambda: _is_true(len(kept.gateways()) == 2))
    kept.killed()
    await until(lambda: serve(2))
    assert first in kept.gateways().items()
    assert await kept.jobs() == 2

    changed = ReplicasSpec(replicas_min=2, replicas_max=2, drain_seconds=5)
    await kept.handle.signal(SET_REPLICAS_SIGNAL, changed)
    old = set(kept.gateways())
    await until(lambda: _is_true(bool(set(kept.gateways()) - old)))
    kept.killed()

    async def all_are_new() -> bool:
        return await serve(2) and not old & set(kept.gateways())

    await until(all_are_new)
    assert await kept.jobs() == 4

    await kept.handle.signal(STOP_SIGNAL)
    kept.killed()
    end = await asyncio.wait_for(kept.handle.result(), PATIENCE_SECONDS)
    assert (end.stopping, end.replicas, kept.gateways(), engines.leases()) == (True, (), {}, [])
    finished = [event for event in await engines.told() if event["kind"] == "runs.run.finished"]
    told = [(event["state"], event["because"]) for event in finished]
    assert told == [("cancelled", "the job was asked to stop")] * 4, "none was killed"
    # Whose watch died while it drained is not seen to end, though its lease is given back only then.
    assert {event["exit_code"] for event in finished} <= {0, None}
    assert len({event["job_id"] for event in finished}) == 4


async def test_a_gateway_that_stands_still_is_replaced_and_ended_by_force(engines: Engines) -> None:
    kept = Kept(engines)
    engines.process.start()
    await kept.begin(replicas_min=2, replicas_max=2, drain_seconds=1)

    async def serve() -> bool:
        return (await kept.states())[ReplicaState.SERVING] == 2

    await until(serve)
    job_id, pid = next(iter(kept.gateways().items()))
    psutil.Process(pid).suspend()

    async def is_replaced() -> bool:
        return job_id not in kept.gateways() and await serve()

    await until(is_replaced)
    await kept.handle.signal(STOP_SIGNAL)
    await asyncio.wait_for(kept.handle.result(), PATIENCE_SECONDS)
    assert kept.gateways() == {}


async def _is_true(value: bool) -> bool:
    return value
