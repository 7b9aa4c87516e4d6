"""The whole process on real engines: started from the environment alone, killed, told to leave, cut off, and started again."""

import asyncio
import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from conftest import until
from engines import HEARTBEAT_TIMEOUT_SECONDS, Engines, in_step, processes_in
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError
from worlds import lease

from ergonaut.workflows import JobStep, RunJobResult
from ergonaut_common.testing import ServiceProcess, free_port, nats_server, temporal_server

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.timeout(180)]

ONE_LIFE = ["runs.run.started", "runs.run.finished", "leases.lease.acquired", "leases.lease.released"]


async def test_a_job_goes_through_its_whole_life(engines: Engines) -> None:
    engines.process.start()
    result = await (await engines.begin(1)).result()
    assert (result.state, result.exit_code, result.artifacts) == ("succeeded", 0, (f"{result.run_id}/model.onnx",))
    assert result.metrics == {"step": 9.0}
    assert await engines.kinds() == ONE_LIFE
    progress = [event for event in await engines.told() if event["kind"] == "runs.run.progressed"]
    assert progress[-1]["phase"] == "train"
    store = await engines.bus.object_store("artifacts-default")
    assert (await store.get(f"{result.run_id}/model.onnx")).data == b"model"
    assert engines.leases() == []


async def test_a_failing_program_tells_the_end_of_its_errors_and_its_outputs_are_kept(engines: Engines) -> None:
    engines.process.start()
    result = await (
        await engines.begin(1, command=["python", "-c", "print('hi'); raise SystemExit('no data')"])
    ).result()
    assert (result.state, result.exit_code) == ("failed", 1)
    assert result.because == "the program ended with exit code 1: no data; artifacts: no file matches '*.onnx'"
    store = await engines.bus.object_store("artifacts-default")
    assert (await store.get(f"logs/{result.run_id}/stdout.log")).data == b"hi\n"


async def test_killed_in_the_middle_of_a_run_it_takes_the_same_run_up_again(engines: Engines) -> None:
    engines.process.start()
    handle = await engines.begin(6)
    await until(lambda: engines.marks() == ["begun"])
    await until(in_step(handle, JobStep.RUNNING))
    engines.process.kill()
    engines.process.start()
    result = await handle.result()
    assert result.state == "succeeded"
    assert engines.marks() == ["begun", "ended"]
    assert await engines.kinds() == ONE_LIFE
    assert engines.leases() == []
    steps = [event.activity_task_scheduled_event_attributes for event in (await handle.fetch_history()).events]
    assert {step.heartbeat_timeout.seconds for step in steps if step.activity_id} == {HEARTBEAT_TIMEOUT_SECONDS}


async def test_told_to_leave_it_leaves_nothing_running_and_tries_again_when_back(engines: Engines) -> None:
    engines.process.start()
    handle = await engines.begin(4)
    await until(lambda: engines.marks() == ["begun"])
    await until(in_step(handle, JobStep.RUNNING))
    assert await engines.process.stopped(within_seconds=12) == 0
    assert processes_in(engines.folder) == []
    engines.process.start()
    result = await handle.result()
    assert result.state == "succeeded"
    assert engines.marks() == ["begun", "begun", "ended"]
    kinds = await engines.kinds()
    assert [kind for kind in kinds if kind.startswith("runs.")] == [
        "runs.run.started",
        "runs.run.preempted",
        "runs.run.started",
        "runs.run.finished",
    ]
    assert engines.leases() == []


async def test_a_cancelled_jobs_program_is_gone_and_it_is_told_once(engines: Engines) -> None:
    engines.process.start()
    handle = await engines.begin(60)
    await until(lambda: engines.marks() == ["begun"])
    await until(in_step(handle, JobStep.RUNNING))
    await handle.cancel()
    result = await asyncio.wait_for(handle.result(), 20)
    assert (result.state, processes_in(engines.folder), engines.leases()) == ("cancelled", [], [])
    assert await engines.kinds() == ONE_LIFE


async def test_a_lease_that_nobody_answers_for_is_given_back_at_the_start(engines: Engines) -> None:
    orphan = lease()
    folder = engines.folder / "data" / "leases" / orphan.lease_id
    folder.mkdir(parents=True)
    (folder / "lease.json").write_text(json.dumps(asdict(orphan)))
    engines.process.start()
    await until(lambda: engines.leases() == [])
    await until(lambda: _is_told(engines, "leases.lease.released"))


async def _is_told(engines: Engines, kind: str) -> bool:
    return kind in await engines.kinds()


async def test_it_is_not_healthy_before_temporal_answers(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    port = free_port()
    with nats_server(tmp_path / "nats") as url:
        settings = {"ERGONAUT_NATS_URL": url, "ERGONAUT_TEMPORAL_ADDRESS": f"127.0.0.1:{port}"}
        process = ServiceProcess("orchestrator", tmp_path, settings, inherited={"PATH": os.environ["PATH"]})
        with process.running():
            await until(lambda: _health_is(process, "NOT_SERVING"))
            with temporal_server(tmp_path, port):
                await until(lambda: _health_is(process, "SERVING"))


async def _health_is(process: ServiceProcess, wanted: str) -> bool:
    return await process.health() == wanted


async def test_engines_that_die_in_the_middle_of_a_run_change_nothing_of_it(engines: Engines) -> None:
    engines.process.start()
    handle = await engines.begin(8)
    await until(lambda: engines.marks() == ["begun"])
    await until(in_step(handle, JobStep.RUNNING))
    for engine in (engines.nats, engines.temporal):
        engine.kill()
    await asyncio.sleep(2)
    for engine in (engines.nats, engines.temporal):
        engine.start()
    result = await asyncio.wait_for(_result(handle), 120)
    assert (result.state, result.artifacts) == ("succeeded", (f"{result.run_id}/model.onnx",))
    assert engines.marks() == ["begun", "ended"]
    assert await engines.kinds() == ONE_LIFE


async def _result(handle: WorkflowHandle[Any, RunJobResult]) -> RunJobResult:
    """The result, asked for again when the server was away."""
    while True:
        with contextlib.suppress(RPCError):
            return await handle.result()
        await asyncio.sleep(0.5)


async def test_told_to_leave_while_temporal_is_away_it_still_leaves_nothing_running(engines: Engines) -> None:
    engines.process.start()
    handle = await engines.begin(60)
    await until(lambda: engines.marks() == ["begun"])
    await until(in_step(handle, JobStep.RUNNING))
    engines.temporal.kill()
    engines.process.terminate()
    await until(lambda: processes_in(engines.folder) == [])
    assert await asyncio.to_thread(engines.process.exit_code, 12) == 0


@pytest.mark.parametrize("step", [JobStep.PROVISIONING, JobStep.COLLECTING, JobStep.TEARING_DOWN])
async def test_killed_in_any_step_it_takes_that_step_up_again(engines: Engines, step: JobStep) -> None:
    engines.process.start()
    handle = await engines.begin(0.5)
    await until(_reached(handle, step))
    engines.process.kill()
    engines.process.start()
    result = await asyncio.wait_for(handle.result(), 60)
    assert (result.state, result.artifacts) == ("succeeded", (f"{result.run_id}/model.onnx",))
    assert engines.marks() == ["begun", "ended"]
    assert await engines.kinds() == ONE_LIFE
    assert engines.leases() == []


def _reached(handle: WorkflowHandle[Any, RunJobResult], step: JobStep) -> Any:
    """As soon as the step has begun, by the history rather than the query, which is slower than a step."""
    activity = {"provisioning": "provision", "collecting": "collect", "tearing-down": "tear_down"}[step]

    async def so() -> bool:
        events = (await handle.fetch_history()).events
        scheduled = [event.activity_task_scheduled_event_attributes.activity_type.name for event in events]
        return activity in scheduled

    return so
