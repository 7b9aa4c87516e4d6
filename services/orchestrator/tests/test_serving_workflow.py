"""`Serving` on a Temporal server whose time skips: replicas come, go, are replaced and end, as gateways announce themselves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import until
from job_stand_in import FINISH_SIGNAL, Gatehouse, StandInJob
from temporal_world import record
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from ergonaut.ids import new_id
from ergonaut.replicas import (
    SERVING,
    SET_REPLICAS_SIGNAL,
    ReplicasSpec,
    ReplicaState,
    ServingProgress,
    serving_workflow_id,
)
from ergonaut.workflows import PROGRESS_QUERY, STOP_SIGNAL, Asked, job_workflow_id
from ergonaut_common.testing import skipping_temporal_server
from ergonaut_orchestrator.activities import ServingActivities
from ergonaut_orchestrator.adapters.temporal_workflows import TemporalWorkflows
from ergonaut_orchestrator.service import Fleets
from ergonaut_orchestrator.workflows import Serving


class Listed(TemporalWorkflows):
    """The server whose time skips lists no workflows; where the jobs are begun it is known which run."""

    def __init__(self, client: Client, gatehouse: Gatehouse) -> None:
        super().__init__(client)
        self._gatehouse = gatehouse

    async def ids(self, workflow: str, prefix: str, *, count_max: int, only_running: bool) -> Sequence[str]:
        found = [job_workflow_id("default", job_id) for job_id in self._gatehouse.there()]
        return [each for each in found if each.startswith(prefix)][:count_max]


@dataclass
class Kept:
    """A set at work on a server whose time skips."""

    environment: WorkflowEnvironment
    queue: str = field(default_factory=lambda: new_id("queue"))
    gatehouse: Gatehouse = field(default_factory=Gatehouse)

    def worker(self) -> Worker:
        fleets = Fleets(Listed(self.environment.client, self.gatehouse), self.gatehouse.gateways)
        return Worker(
            self.environment.client,
            task_queue=self.queue,
            workflows=[Serving, StandInJob],
            activities=[
                *ServingActivities(fleets).all(),
                self.gatehouse.gateway_starts,
                self.gatehouse.gateway_ends,
            ],
        )

    async def keep(self, **spec: Any) -> WorkflowHandle[Any, ServingProgress]:
        """Set a set as any client would: by the workflow's name, with plain JSON."""
        return await self.environment.client.start_workflow(
            SERVING,
            {"name": "edge", "spec": spec},
            id=serving_workflow_id("default", "edge"),
            task_queue=self.queue,
            result_type=ServingProgress,
        )

    async def until(self, condition: Callable[[], bool], *, step_seconds: float = 2) -> None:
        """Let time pass until something is so."""

        async def so() -> bool:
            if not condition():
                await self.environment.sleep(step_seconds)
            return condition()

        await until(so)

    async def sleep(self, seconds: float) -> None:
        """Let time pass, in pieces that the server gets through within the time of one call."""
        for _ in range(int(seconds // 60)):
            await self.environment.sleep(60)

    def job(self, job_id: str) -> WorkflowHandle[Any, Any]:
        return self.environment.client.get_workflow_handle(job_workflow_id("default", job_id))


async def progress_of(handle: WorkflowHandle[Any, ServingProgress]) -> ServingProgress:
    return await handle.query(PROGRESS_QUERY, result_type=ServingProgress)


@pytest.fixture
async def environment() -> AsyncIterator[WorkflowEnvironment]:
    async with skipping_temporal_server() as made:
        yield made


@pytest.fixture
async def kept(environment: WorkflowEnvironment) -> AsyncIterator[Kept]:
    made = Kept(environment)
    made.gatehouse.gateways.tell("platform")
    async with made.worker():
        yield made


async def stopped(kept: Kept, handle: WorkflowHandle[Any, ServingProgress]) -> ServingProgress:
    await handle.signal(STOP_SIGNAL, Asked(because="enough"))
    return await asyncio.wait_for(handle.result(), 30)


async def test_as_many_as_the_least_are_started_and_all_end_when_it_is_stopped(kept: Kept) -> None:
    handle = await kept.keep(replicas_min=2, replicas_max=3, settings={"ERGONAUT_GATEWAY_WORKERS": "2"})
    await kept.until(lambda: len(kept.gatehouse.there()) == 2)
    await kept.environment.sleep(10)
    told = await progress_of(handle)
    assert [each.state for each in told.replicas] == [ReplicaState.SERVING] * 2
    assert {each.address for each in told.replicas} == {f"{job_id}:7405" for job_id in kept.gatehouse.there()}
    first = kept.gatehouse.started[0]
    assert (first.replica_of, first.tenant, first.job.environment["ERGONAUT_GATEWAY_WORKERS"]) == (
        "edge", "default", "2",
    )  # fmt: skip
    end = await stopped(kept, handle)
    assert (end.replicas, end.stopping, end.because) == ((), True, "enough")
    assert kept.gatehouse.there() == []
    await record(handle, "serving-stopped")


async def test_more_are_started_at_once_and_fewer_are_kept_only_after_the_window(kept: Kept) -> None:
    handle = await kept.keep(replicas_min=1, replicas_max=4, scale_down_after_seconds=300)
    kept.gatehouse.want(4)
    await kept.until(lambda: len(kept.gatehouse.there()) == 3)
    kept.gatehouse.want(2)
    await kept.environment.sleep(240)
    assert len(kept.gatehouse.there()) == 3
    await kept.environment.sleep(120)
    assert len(kept.gatehouse.there()) == 1
    assert (await progress_of(handle)).wanted == 2
    await stopped(kept, handle)


async def test_a_replica_that_ended_is_replaced(kept: Kept) -> None:
    handle = await kept.keep(replicas_min=2, replicas_max=2)
    await kept.until(lambda: len(kept.gatehouse.there()) == 2)
    await kept.environment.sleep(120)
    [first, second] = kept.gatehouse.there()
    await kept.job(first).signal(FINISH_SIGNAL)
    await kept.until(lambda: len(kept.gatehouse.started) == 3)
    assert second in kept.gatehouse.there()
    await stopped(kept, handle)
    assert kept.gatehouse.there() == []


async def test_a_replica_whose_announcements_stop_is_asked_to_leave_and_replaced(kept: Kept) -> None:
    handle = await kept.keep(replicas_min=1, replicas_max=1)
    await kept.until(lambda: len(kept.gatehouse.there()) == 1)
    await kept.environment.sleep(10)
    [first] = kept.gatehouse.there()
    kept.gatehouse.gateways.silence(first)
    await kept.until(lambda: first in kept.gatehouse.ended and len(kept.gatehouse.there()) == 1)
    await stopped(kept, handle)
    await record(handle, "serving-silent-replaced")


async def test_while_nobody_can_say_who_is_heard_nobody_is_replaced(kept: Kept) -> None:
    handle = await kept.keep(replicas_min=1, replicas_max=1)
    await kept.until(lambda: len(kept.gatehouse.there()) == 1)
    kept.gatehouse.gateways.is_away = True
    await kept.sleep(600)
    assert (len(kept.gatehouse.started), kept.gatehouse.ended) == (1, [])
    await stopped(kept, handle)
    assert kept.gatehouse.there() == []


async def test_a_changed_spec_replaces_one_after_the_other_and_never_has_fewer_serve(kept: Kept) -> None:
    handle = await kept.keep(replicas_min=2, replicas_max=2)
    await kept.until(lambda: len(kept.gatehouse.there()) == 2)
    await kept.environment.sleep(10)
    old = kept.gatehouse.there()
    spec = ReplicasSpec(replicas_min=2, replicas_max=2, settings={"ERGONAUT_GATEWAY_WORKERS": "2"})
    await handle.signal(SET_REPLICAS_SIGNAL, spec)
    numbers: list[int] = []

    def are_new() -> bool:
        numbers.append(len(kept.gatehouse.there()))
        return not set(old) & set(kept.gatehouse.there())

    await kept.until(are_new, step_seconds=1)
    assert min(numbers) >= 2
    assert {each.job.environment.get("ERGONAUT_GATEWAY_WORKERS") for each in kept.gatehouse.started[2:]} == {"2"}
    await kept.environment.sleep(60)
    assert len(kept.gatehouse.started) == 4
    await stopped(kept, handle)
    await record(handle, "serving-changed-spec")


async def test_one_that_never_announces_itself_is_followed_by_others_ever_later(kept: Kept) -> None:
    kept.gatehouse.mute = True
    handle = await kept.keep(replicas_min=1, replicas_max=1, ready_within_seconds=30)
    await kept.sleep(900)
    assert 5 <= len(kept.gatehouse.started) <= 12
    assert len(kept.gatehouse.there()) <= 1
    assert "did not announce itself within 30 s" in (await progress_of(handle)).because
    await stopped(kept, handle)


async def test_cancelled_it_lets_all_end_as_if_it_were_stopped(kept: Kept) -> None:
    handle = await kept.keep(replicas_min=2, replicas_max=2)
    await kept.until(lambda: len(kept.gatehouse.there()) == 2)
    await handle.cancel()
    end = await asyncio.wait_for(handle.result(), 30)
    assert (end.replicas, kept.gatehouse.there()) == ((), [])


@pytest.mark.parametrize("seconds", [0, 0.02, 0.1, 0.2])
async def test_whenever_it_is_cancelled_nothing_is_left(kept: Kept, seconds: float) -> None:
    handle = await kept.keep(replicas_min=3, replicas_max=3)
    await asyncio.sleep(seconds)
    await handle.cancel()
    end = await asyncio.wait_for(handle.result(), 30)
    assert (end.replicas, end.stopping, kept.gatehouse.there()) == ((), True, [])


async def test_a_set_that_is_set_again_while_it_stops_goes_on(kept: Kept) -> None:
    handle = await kept.keep(replicas_min=1, replicas_max=1)
    await kept.until(lambda: len(kept.gatehouse.there()) == 1)
    await handle.signal(STOP_SIGNAL)
    await until(lambda: _is_stopping(handle))
    await handle.signal(SET_REPLICAS_SIGNAL, ReplicasSpec(replicas_min=2, replicas_max=2))
    await kept.until(lambda: len(kept.gatehouse.ended) == 1 and len(kept.gatehouse.there()) == 2)
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    await stopped(kept, handle)


async def test_after_long_it_goes_on_in_a_new_history_with_the_same_replicas(kept: Kept) -> None:
    handle = await kept.keep(replicas_min=2, replicas_max=2, replace_after_seconds=30 * 86_400)
    first = (await handle.describe()).run_id
    newest = kept.environment.client.get_workflow_handle(handle.id, result_type=ServingProgress)
    await kept.until(lambda: len(kept.gatehouse.there()) == 2)

    async def is_anew() -> bool:
        await kept.environment.sleep(1200)
        return (await newest.describe()).run_id != first

    await until(is_anew)
    await kept.environment.sleep(60)
    told = await progress_of(newest)
    assert [each.state for each in told.replicas] == [ReplicaState.SERVING] * 2
    assert (len(kept.gatehouse.started), kept.gatehouse.ended) == (2, [])
    await stopped(kept, newest)
    assert kept.gatehouse.there() == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "Edge!"}, "name"),
        ({"name": "edge", "spec": {"replicas_min": 2, "replicas_max": 1}}, "spec.replicas_max: must be 2 at least"),
        ({"name": "edge", "spec": {"settings": {"PATH": "/tmp"}}}, "spec.settings"),
    ],
)
async def test_a_wrong_input_fails_it_at_once_naming_the_field(kept: Kept, given: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkflowFailureError) as failed:
        await kept.environment.client.execute_workflow(SERVING, given, id=new_id("serving"), task_queue=kept.queue)
    assert words in str(failed.value.cause)
    assert kept.gatehouse.started == []


async def _is_stopping(handle: WorkflowHandle[Any, ServingProgress]) -> bool:
    return (await progress_of(handle)).stopping
