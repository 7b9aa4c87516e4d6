"""`RunJob` on a real Temporal server, its activities over fakes: what the tests of the workflow share.

Record the histories that `test_histories` replays by ERGONAUT_RECORD_HISTORIES=1 .venv/bin/pytest services/orchestrator
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Interceptor, Worker
from worlds import FakeWorld

from ergonaut.ids import new_id
from ergonaut.workflows import PROGRESS_QUERY, RUN_JOB, JobProgress, JobStep, RunJobResult
from ergonaut_orchestrator.activities import Activities
from ergonaut_orchestrator.service import Bounds, Keeping, Leasing, Running
from ergonaut_orchestrator.workflows import RunJob

HISTORIES = Path(__file__).parent / "histories"
SOURCE = f"sha256-{'0' * 64}"


@asynccontextmanager
async def working(
    client: Client, fakes: FakeWorld, queue: str, interceptors: Sequence[Interceptor] = ()
) -> AsyncIterator[None]:
    bounds = Bounds(look_interval_seconds=0.1)
    world = fakes.world
    activities = Activities(Leasing(world), Running(world, bounds), Keeping(world, bounds))
    async with Worker(
        client,
        task_queue=queue,
        workflows=[RunJob],
        activities=activities.all(),
        interceptors=interceptors,
        max_heartbeat_throttle_interval=timedelta(seconds=0.2),
        default_heartbeat_throttle_interval=timedelta(seconds=0.2),
        graceful_shutdown_timeout=timedelta(seconds=5),
    ):
        yield


async def begin(client: Client, queue: str, *command: str, **changes: Any) -> WorkflowHandle[Any, RunJobResult]:
    """Start the workflow as any client would: by its name, with plain JSON."""
    job = {"name": "hello", "command": command or ("true",), "duration_seconds_expected": 5} | changes
    workflow_id = f"job/default/{new_id('job')}"
    return await client.start_workflow(
        RUN_JOB, {"job": job}, id=workflow_id, task_queue=queue, result_type=RunJobResult
    )


async def step_of(handle: WorkflowHandle[Any, RunJobResult]) -> JobStep:
    return (await handle.query(PROGRESS_QUERY, result_type=JobProgress)).step


async def record(handle: WorkflowHandle[Any, RunJobResult], name: str) -> None:
    """Keep the history where none of that name is kept: those of older versions are what an upgrade must go on from."""
    path = HISTORIES / f"{name}.json"
    if os.environ.get("ERGONAUT_RECORD_HISTORIES") and not path.exists():
        HISTORIES.mkdir(exist_ok=True)
        path.write_text((await handle.fetch_history()).to_json() + "\n")


async def is_at(handle: WorkflowHandle[Any, RunJobResult], step: JobStep) -> bool:
    return await step_of(handle) is step
