"""The gRPC door for replicas, over real gRPC and fakes: operators keep sets, others may look, nobody sees another tenant's."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from worlds import FakeWorld

from ergonaut.client.connection import Connection
from ergonaut.client.replicas import ReplicaSets
from ergonaut.errors import NotAllowed, NotFound, Refused, Unavailable
from ergonaut.keys import KeyRecord, Scope, new_key
from ergonaut.replicas import ReplicasSpec, ReplicaState, ReplicaTold, ServingInput, ServingProgress
from ergonaut.workflows import RUN_JOB, Asked, JobProgress, JobStep, RunJobInput
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_orchestrator.domain.serving import Heard
from ergonaut_orchestrator.fakes import FakeGateways, FakeServedModels, FakeTraffic, FakeWorkflows
from ergonaut_orchestrator.rpc import SERVICE_NAMES, Reception
from ergonaut_orchestrator.service import Desk, Fleets, RollingOut, ServingDesk

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SPEC = ReplicasSpec(replicas_min=1, replicas_max=4, settings={"ERGONAUT_GATEWAY_WORKERS": "2"})
SERVED = ReplicaTold(job_id="edge-replica-1", state=ReplicaState.SERVING, address="127.0.0.1:9", began_at=NOW)


@dataclass
class Door:
    """The door on a free port, and what is behind it."""

    address: str
    keys: dict[str, str]
    workflows: FakeWorkflows
    reception: Reception

    def sets(self, key: str = "operator") -> ReplicaSets:
        return ReplicaSets(Connection({"orchestrator": self.address}, self.keys[key]))


@pytest.fixture
async def door(tmp_path: Path, fakes: FakeWorld) -> AsyncIterator[Door]:
    keys_file, keys = key_ring_file(tmp_path, ("default", "other"))
    records = [KeyRecord.model_validate(each) for each in json.loads(keys_file.read_text())["keys"]]
    for name, tenant in (("operator", "default"), ("other-operator", "other")):
        keys[name], record = new_key(tenant, name, (Scope.READ, Scope.WRITE, Scope.OPERATE))
        records.append(record)
    reception, workflows = Reception(), fakes.workflows
    desk = Desk(workflows, RollingOut(FakeTraffic(FakeServedModels()), FakeServedModels(), fakes.announcer))
    async with serving(
        "127.0.0.1:0", service="orchestrator", add=reception.add, keys=KeyRing(records), names=SERVICE_NAMES
    ) as server:
        reception.open(desk, ServingDesk(workflows, Fleets(workflows, FakeGateways())))
        yield Door(f"127.0.0.1:{server.port}", keys, workflows, reception)


async def test_a_set_is_kept_told_changed_and_stopped(door: Door) -> None:
    sets = door.sets()
    await sets.set("edge", SPEC)
    assert door.workflows.started["serving/default/edge"] == ("Serving", ServingInput(name="edge", spec=SPEC))
    door.workflows.answers["serving/default/edge"] = ServingProgress(
        name="edge", target=1, wanted=2, replicas=(SERVED,), spec=SPEC
    )
    told = await sets.get("edge")
    assert (told.replicas[0].state, told.target, told.wanted, told.spec.replicas_max) == ("serving", 1, 2, 4)
    assert [each.name for each in await sets.all()] == ["edge"]
    more = SPEC.model_copy(update={"replicas_max": 5})
    await sets.set("edge", more)
    assert door.workflows.asked[-1] == ("serving/default/edge", "set_replicas", more)
    await sets.stop("edge", because="summer")
    assert door.workflows.asked[-1] == ("serving/default/edge", "stop", Asked(because="summer"))


async def test_only_operators_may_have_replicas_started_or_ended_and_others_may_look(door: Door) -> None:
    await door.sets().set("edge", SPEC)
    door.workflows.answers["serving/default/edge"] = ServingProgress(name="edge", spec=SPEC)
    plain = door.sets("default")
    with pytest.raises(NotAllowed, match="no operate scope"):
        await plain.set("edge", SPEC)
    with pytest.raises(NotAllowed, match="no operate scope"):
        await plain.stop("edge")
    assert (await plain.get("edge")).name == "edge"
    assert [name for _, name, _ in door.workflows.asked] == ["set_replicas"]


async def test_nobody_sees_or_stops_what_another_tenant_has(door: Door) -> None:
    await door.sets().set("edge", SPEC)
    door.workflows.answers["serving/default/edge"] = ServingProgress(name="edge", spec=SPEC)
    others = door.sets("other-operator")
    assert await others.all() == []
    for ask in (others.get, others.stop):
        with pytest.raises(NotFound, match="no replicas are kept as edge"):
            await ask("edge")


async def test_a_set_that_has_ended_is_not_kept_any_more(door: Door) -> None:
    door.workflows.answers["serving/default/edge"] = ServingProgress(name="edge", spec=SPEC)
    with pytest.raises(NotFound, match="set some"):
        await door.sets().get("edge")


async def test_replicas_of_a_workflow_that_was_terminated_can_be_stopped(door: Door) -> None:
    given = RunJobInput.model_validate({"job": {"name": "g", "command": ["x"], "duration_seconds_expected": 1}})
    for workflow_id in ("job/default/edge-replica-1", "job/default/edge-replica-2", "job/default/edge-2-replica-1"):
        await door.workflows.start(RUN_JOB, workflow_id, given)
    await door.sets().stop("edge")
    assert door.workflows.live == {"job/default/edge-2-replica-1"}
    with pytest.raises(NotFound):
        await door.sets().stop("edge")


async def test_a_wrong_wish_is_refused_with_its_field_before_anything_is_started(door: Door) -> None:
    with pytest.raises(Refused, match="1 to 24 lower-case letters"):
        await door.sets().set("Edge", SPEC)
    wrong = SPEC.model_copy(update={"settings": {"ERGONAUT_GATEWAY_HTTP_ADDRESS": "0.0.0.0:80"}})
    with pytest.raises(Refused, match=r"settings: .*takes free ports"):
        await door.sets().set("edge", wrong)
    assert door.workflows.started == {}


async def test_before_temporal_has_answered_callers_are_told_to_come_back(door: Door) -> None:
    door.reception._serving = None
    with pytest.raises(Unavailable, match="is starting"):
        await door.sets().all()


async def test_a_look_tells_which_jobs_ended_who_is_heard_and_what_is_wanted(fakes: FakeWorld) -> None:
    workflows, gateways = fakes.workflows, FakeGateways()
    steps = {"a": JobStep.RUNNING, "b": JobStep.PLACING, "c": JobStep.ENDED}
    for job_id, step in steps.items():
        workflows.answers[f"job/default/{job_id}"] = JobProgress(job_id=job_id, step=step, because="out of memory")
    workflows.live = {"job/default/a", "job/default/b"}
    gateways.tell("a", process="a-1", wanted=2)
    gateways.tell("a", process="a-2", draining=True, wanted=3)
    fleets = Fleets(workflows, gateways)
    seen = await fleets.look("default", ["a", "b", "c", "d"])
    assert seen.ended == {"c": "its job c has ended: out of memory", "d": "its job is not there"}
    assert (set(seen.not_running), seen.heard, seen.forecast) == ({"b", "c", "d"}, (Heard("a", "a:7405"),), 3)
    gateways.is_away, workflows.away_for = True, 4
    seen = await fleets.look("default", ["a", "b", "c", "d"])
    assert (seen.ended, seen.not_running, seen.heard, seen.forecast) == ({}, (), None, None)
