"""Pauses of the whole process on real engines: what is saved survives every death, and nothing is done twice."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import until
from engines import Engines, in_step, processes_in
from temporalio.client import WorkflowHandle
from worlds import archive_of

from ergonaut.budgets import BudgetMetric, BudgetScope
from ergonaut.events import BudgetExceeded, BudgetRenewed
from ergonaut.jobs import BudgetAction, source_digest
from ergonaut.workflows import JobStep, RunJobResult

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.timeout(180)]

Handle = WorkflowHandle[Any, RunJobResult]

COUNT = b"""
import os, signal, sys, time
from pathlib import Path
folder, marks, steps = Path(os.environ["ERGONAUT_CHECKPOINT_FOLDER"]), Path(sys.argv[1]), int(sys.argv[2])
kept = folder / "step"
done = int(kept.read_text()) if kept.exists() else 0

def leave(*_):
    with marks.open("a") as file:
        file.write(f"asked-at-{time.time()}\\n")
    part = folder / ".step"
    part.write_text(str(done))
    part.replace(kept)
    sys.exit(0)

signal.signal(signal.SIGTERM, leave)
while done < steps:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with marks.open("a") as file:
        file.write(f"step-{done}\\n")
    done += 1
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    time.sleep(0.05)
Path("model.onnx").write_bytes(b"model")
"""
SOURCE = archive_of({"count.py": COUNT})
BUDGET: dict[str, Any] = {
    "tenant": "default",
    "budget_id": "team",
    "scope": BudgetScope.TENANT,
    "metric": BudgetMetric.ENERGY_JOULES,
    "limit": 10.0,
    "used": 10.5,
    "window_started_at": datetime(2026, 1, 1, tzinfo=UTC),
}


async def counting(engines: Engines, steps: int, **changes: Any) -> Handle:
    """A job that counts, each step marked; it runs when this returns."""
    await (await engines.bus.object_store("sources-default")).put(source_digest(SOURCE), SOURCE)
    command = ["python", "count.py", str(engines.folder / "marks"), str(steps)]
    engines.process.start()
    handle = await engines.begin(0, command=command, source=source_digest(SOURCE), **changes)
    await until(lambda: len(steps_of(engines)) >= 3)
    await until(in_step(handle, JobStep.RUNNING))
    return handle


def steps_of(engines: Engines) -> list[str]:
    return [mark for mark in engines.marks() if mark.startswith("step-")]


def requests_of(engines: Engines) -> list[str]:
    return [mark for mark in engines.marks() if mark.startswith("asked-at-")]


async def goes_on_to_its_end(engines: Engines, handle: Handle, steps: int) -> None:
    """Resume, and see that each step was done once."""
    await handle.signal("resume")
    result = await asyncio.wait_for(handle.result(), 60)
    assert (result.state, result.artifacts) == ("succeeded", (f"{result.run_id}/model.onnx",))
    assert steps_of(engines) == [f"step-{step}" for step in range(steps)]
    assert (engines.leases(), processes_in(engines.folder)) == ([], [])
    store = await engines.bus.object_store("artifacts-default")
    names = [info.name for info in await store.list() if not info.deleted]
    assert not [name for name in names if name.startswith("checkpoints/")]


async def test_a_paused_program_counts_on_where_it_stopped(engines: Engines) -> None:
    handle = await counting(engines, 40)
    await handle.signal("pause", {"because": "lunch"})
    await until(in_step(handle, JobStep.PAUSED))
    assert (engines.leases(), processes_in(engines.folder)) == ([], [])
    await goes_on_to_its_end(engines, handle, 40)
    runs = [kind for kind in await engines.kinds() if kind.startswith("runs.")]
    assert runs == ["runs.run.started", "runs.run.paused", "runs.run.started", "runs.run.finished"]


async def test_a_preempted_program_counts_on_where_it_stopped(engines: Engines) -> None:
    handle = await counting(engines, 40)
    assert await engines.process.stopped(within_seconds=12) == 0
    engines.process.start()
    await goes_on_to_its_end(engines, handle, 40)


async def test_killed_while_the_job_is_paused_it_goes_on_all_the_same(engines: Engines) -> None:
    handle = await counting(engines, 30)
    await handle.signal("pause")
    await until(in_step(handle, JobStep.PAUSED))
    engines.process.kill()
    engines.process.start()
    await goes_on_to_its_end(engines, handle, 30)


@pytest.mark.parametrize(
    ("activity", "steps"),
    # A program that was not asked to stop yet goes on until the process is back, and must not come to its end meanwhile.
    [("ask_to_stop", 200), ("save", 30), ("tear_down", 30), ("drop_checkpoint", 30)],
)
async def test_killed_in_any_step_of_a_pause_it_takes_that_step_up_again(
    engines: Engines, activity: str, steps: int
) -> None:
    handle = await counting(engines, steps)
    if activity == "drop_checkpoint":
        await handle.signal("pause")
        await until(in_step(handle, JobStep.PAUSED))
        await handle.signal("resume")
        await until(in_step(handle, JobStep.RUNNING))
    await handle.signal("pause")
    await until(_scheduled(handle, activity))
    engines.process.kill()
    engines.process.start()
    await until(in_step(handle, JobStep.PAUSED))
    assert (engines.leases(), processes_in(engines.folder)) == ([], [])
    await goes_on_to_its_end(engines, handle, steps)


async def test_killed_before_it_could_hear_of_a_pause_it_hears_when_it_is_back(engines: Engines) -> None:
    handle = await counting(engines, 400)
    engines.process.kill()
    await handle.signal("pause")
    engines.process.start()
    await until(in_step(handle, JobStep.PAUSED))
    assert (engines.leases(), processes_in(engines.folder)) == ([], [])
    await handle.cancel()
    assert (await handle.result()).state == "cancelled"


def _scheduled(handle: Handle, activity: str) -> Any:
    async def so() -> bool:
        events = (await handle.fetch_history()).events
        return activity in [event.activity_task_scheduled_event_attributes.activity_type.name for event in events]

    return so


async def test_a_used_up_budget_pauses_the_program_and_once_renewed_lets_it_go_on(engines: Engines) -> None:
    handle = await counting(engines, 200)
    job_id = handle.id.rpartition("/")[2]
    await engines.bus.publish(BudgetExceeded(**BUDGET, action=BudgetAction.PAUSE, job_ids=(job_id, "long-gone")))
    await until(in_step(handle, JobStep.PAUSED))
    paused = [event for event in await engines.told() if event["kind"] == "runs.run.paused"]
    assert (paused[0]["budget_id"], len(requests_of(engines))) == ("team", 1)
    await engines.bus.publish(BudgetRenewed(**BUDGET | {"budget_id": "other"}, because="raised", job_ids=(job_id,)))
    await engines.bus.publish(BudgetRenewed(**BUDGET, because="raised", job_ids=(job_id,)))
    await until(in_step(handle, JobStep.RUNNING))
    await goes_on_to_its_end(engines, handle, 200)


async def test_a_used_up_budget_that_stops_ends_the_job_in_its_name(engines: Engines) -> None:
    handle = await counting(engines, 4000)
    job_id = handle.id.rpartition("/")[2]
    await engines.bus.publish(BudgetExceeded(**BUDGET, action=BudgetAction.STOP, job_ids=(job_id,)))
    result = await asyncio.wait_for(handle.result(), 20)
    assert (result.state, "budget team is used up" in result.because) == ("cancelled", True)
    assert (engines.leases(), processes_in(engines.folder)) == ([], [])
