"""The adapters against the real engines; where a port has a fake, the same questions are asked of both."""

import hashlib
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import until
from stand_in import Scheduler, scheduling
from worlds import candidate, job, lease

from ergonaut.errors import Broken, Conflict, NotFound, Refused, Unavailable
from ergonaut.jobs import Plan
from ergonaut.rollouts import RolloutProgress
from ergonaut.workflows import Asked, RunJobInput
from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.rpc import channel
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.temporal import connect_temporal
from ergonaut_common.testing import key_ring_file, nats_server, temporal_server
from ergonaut_orchestrator.adapters.announcer import BusAnnouncer
from ergonaut_orchestrator.adapters.object_stores import ObjectArtifacts, ObjectSources
from ergonaut_orchestrator.adapters.placing import SchedulerPlacing
from ergonaut_orchestrator.adapters.temporal_workflows import TemporalWorkflows
from ergonaut_orchestrator.domain import facts
from ergonaut_orchestrator.fakes import FakeAnnouncer, FakeArtifacts, FakePlacing, FakeSources, FakeWorkflows
from ergonaut_orchestrator.ports import Announcer, Artifacts, Placing, Sources, Workflows

ARCHIVE = b"a packed folder"
DIGEST = f"sha256-{hashlib.sha256(ARCHIVE).hexdigest()}"


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    with nats_server(tmp_path) as url:
        async with open_bus(PlatformSettings(nats_url=url), "orchestrator") as opened:
            await opened.ensure_streams("runs", "leases")
            yield opened


@pytest.fixture
async def stored(bus: Bus) -> Bus:
    await (await bus.object_store("sources-default")).put(DIGEST, ARCHIVE)
    return bus


@pytest.fixture(params=["fake", "real"])
def sources(request: pytest.FixtureRequest) -> Sources:
    if request.param == "fake":
        return FakeSources({("default", DIGEST): ARCHIVE})
    return ObjectSources(request.getfixturevalue("stored"))


async def test_a_source_is_found_by_its_digest(sources: Sources) -> None:
    assert await sources.fetch("default", DIGEST) == ARCHIVE


@pytest.mark.parametrize(("tenant", "digest"), [("default", f"sha256-{'0' * 64}"), ("other", DIGEST)])
async def test_a_source_of_nobody_or_somebody_else_is_not_found(sources: Sources, tenant: str, digest: str) -> None:
    with pytest.raises(NotFound, match=r"job\.source: .*upload it first"):
        await sources.fetch(tenant, digest)


async def test_a_damaged_source_is_broken(bus: Bus) -> None:
    await (await bus.object_store("sources-default")).put(DIGEST, b"something else")
    with pytest.raises(Broken, match="damaged"):
        await ObjectSources(bus).fetch("default", DIGEST)


@pytest.fixture(params=["fake", "real"])
def artifacts(request: pytest.FixtureRequest) -> Artifacts:
    return FakeArtifacts() if request.param == "fake" else ObjectArtifacts(request.getfixturevalue("bus"))


async def content_of(artifacts: Artifacts, request: pytest.FixtureRequest, name: str) -> bytes:
    if isinstance(artifacts, FakeArtifacts):
        return artifacts.kept["default", name]
    store = await request.getfixturevalue("bus").object_store("artifacts-default")
    return bytes((await store.get(name)).data)


async def test_a_file_is_kept_whole_and_the_newest_of_a_name_stands(
    artifacts: Artifacts, request: pytest.FixtureRequest
) -> None:
    large = bytes(range(256)) * 2000
    for content in (b"old", large):
        await artifacts.keep("default", "run-1/out/model.onnx", io.BytesIO(content))
    assert await content_of(artifacts, request, "run-1/out/model.onnx") == large


async def test_a_file_that_was_kept_is_fetched_whole_until_it_is_dropped(artifacts: Artifacts) -> None:
    large = bytes(range(256)) * 2000
    await artifacts.keep("default", "checkpoints/job-1/run-1.tar", io.BytesIO(large))
    with await artifacts.fetch("default", "checkpoints/job-1/run-1.tar") as content:
        assert content.read() == large
    for _ in range(2):
        await artifacts.drop("default", "checkpoints/job-1/run-1.tar")
    with pytest.raises(NotFound, match="run-1"):
        await artifacts.fetch("default", "checkpoints/job-1/run-1.tar")


async def test_a_file_from_the_disk_and_an_empty_one_are_kept(bus: Bus, tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(b"12345")
    (tmp_path / "empty").touch()
    for name in ("full", "empty"):
        with (tmp_path / name).open("rb") as content:
            await ObjectArtifacts(bus).keep("default", name, content)
    store = await bus.object_store("artifacts-default")
    assert [(await store.get(name)).data or b"" for name in ("full", "empty")] == [b"12345", b""]


@pytest.fixture(params=["fake", "real"])
def announcer(request: pytest.FixtureRequest) -> Announcer:
    return FakeAnnouncer() if request.param == "fake" else BusAnnouncer(request.getfixturevalue("bus"))


async def test_a_fact_told_twice_is_stored_once(announcer: Announcer, request: pytest.FixtureRequest) -> None:
    at = candidate().starts_at
    for _ in range(2):
        await announcer.tell(facts.lease_acquired(lease(run_id="run-1"), host="host", at=at))
    if isinstance(announcer, FakeAnnouncer):
        assert len(announcer.told) == 1
    else:
        info = await request.getfixturevalue("bus").jetstream.stream_info("ERGONAUT_LEASES")
        assert info.state.messages == 1


@pytest.fixture(params=["fake", "real"])
async def placing(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Placing, Scheduler]]:
    scheduler = Scheduler(lambda: Plan(chosen=candidate(region="north"), weighed=3))
    if request.param == "fake":
        yield FakePlacing(lambda _: scheduler.answer()), scheduler
        return
    keys_file, texts = key_ring_file(tmp_path)
    (tmp_path / "service.key").write_text(texts["service"])
    platform = PlatformSettings(service_key_file=tmp_path / "service.key")
    async with (
        scheduling(scheduler, KeyRing.load(keys_file)) as address,
        channel(address, platform, service="orchestrator") as opened,
    ):
        yield SchedulerPlacing(opened), scheduler


REQUEST = RunJobInput(job=job("true"), tenant="acme", job_id="job-1")


async def test_a_placement_comes_back_whole(placing: tuple[Placing, Scheduler]) -> None:
    wanted = candidate(region="north")
    placing[1].answer = lambda: Plan(chosen=wanted, weighed=3)
    assert (await placing[0].place(REQUEST, "w")).chosen == wanted


async def test_a_refusal_comes_back_in_words(placing: tuple[Placing, Scheduler]) -> None:
    placing[1].answer = lambda: Plan(refused_because="providers: none may be used")
    plan = await placing[0].place(REQUEST, "w")
    assert (plan.chosen, plan.refused_because) == (None, "providers: none may be used")


@pytest.mark.parametrize("error", [Refused("no", field="job.name"), Unavailable("no answer"), NotFound("nothing")])
async def test_errors_keep_their_kind(placing: tuple[Placing, Scheduler], error: Exception) -> None:
    def fail() -> Plan:
        raise error

    placing[1].answer = fail
    with pytest.raises(type(error), match=str(error)):
        await placing[0].place(REQUEST, "w")


async def test_the_scheduler_is_asked_for_the_tenant_with_job_and_workflow(tmp_path: Path) -> None:
    scheduler = Scheduler(lambda: Plan(chosen=candidate()))
    keys_file, texts = key_ring_file(tmp_path)
    (tmp_path / "service.key").write_text(texts["service"])
    platform = PlatformSettings(service_key_file=tmp_path / "service.key")
    async with (
        scheduling(scheduler, KeyRing.load(keys_file)) as address,
        channel(address, platform, service="orchestrator") as opened,
    ):
        await SchedulerPlacing(opened).place(REQUEST, "job/acme/job-1")
    [(tenant, asked)] = scheduler.asked
    assert (tenant, asked.job_id, asked.workflow_id, asked.job.name) == ("acme", "job-1", "job/acme/job-1", "digits")


async def test_a_scheduler_that_is_not_there_is_unavailable() -> None:
    async with channel("127.0.0.1:1", PlatformSettings(), service="orchestrator") as opened:
        with pytest.raises(Unavailable, match="placing the job job-1"):
            await SchedulerPlacing(opened).place(REQUEST, "w")


async def test_a_wish_reaches_a_workflow_that_runs_and_no_other(workflows: tuple[Workflows, str]) -> None:
    asked = Asked(because="lunch")
    assert await workflows[0].signal("job/default/job-1", "pause", asked)
    assert not await workflows[0].signal("job/default/job-2", "pause", asked)


async def live_workflow(tmp_path: Path) -> AsyncIterator[tuple[Any, str, str]]:
    with temporal_server(tmp_path) as address:
        client = await connect_temporal(PlatformSettings(temporal_address=address))
        handle = await client.start_workflow("Anything", id="job/default/job-1", task_queue="nobody")
        yield client, handle.id, str(handle.result_run_id)


@pytest.fixture(params=["fake", "real"])
async def workflows(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Workflows, str]]:
    if request.param == "fake":
        yield FakeWorkflows({"job/default/job-1"}), "any"
        return
    async for client, _, run_id in live_workflow(tmp_path):
        yield TemporalWorkflows(client), run_id


async def test_a_workflow_that_runs_is_live_and_one_that_never_was_is_not(workflows: tuple[Workflows, str]) -> None:
    ours = replace(lease(), workflow_run_id=workflows[1])
    assert await workflows[0].is_live(ours)
    assert not await workflows[0].is_live(replace(ours, workflow_id="job/default/job-2"))


async def test_a_workflow_that_has_ended_or_was_another_execution_is_not_live(tmp_path: Path) -> None:
    async for client, workflow_id, run_id in live_workflow(tmp_path):
        ours = replace(lease(), workflow_run_id=run_id)
        assert not await TemporalWorkflows(client).is_live(lease())
        await client.get_workflow_handle(workflow_id).terminate()
        assert not await TemporalWorkflows(client).is_live(ours)
        await client.start_workflow("Anything", id=workflow_id, task_queue="nobody")
        assert not await TemporalWorkflows(client).is_live(ours)


async def test_one_workflow_of_an_id_runs_at_a_time_and_is_listed_until_it_is_cancelled(
    workflows: tuple[Workflows, str],
) -> None:
    ours, given = workflows[0], Asked(because="to see")
    for endpoint in ("a", "b"):
        await ours.start("Rollout", f"rollout/default/{endpoint}", given)
    await ours.start("Rollout", "rollout/other/a", given)
    with pytest.raises(Conflict):
        await ours.start("Rollout", "rollout/default/a", given)
    await ours.start_or_signal("Rollout", "rollout/default/a", given, signal="abort", asked=given)
    await until(lambda: _are(ours, {"rollout/default/a", "rollout/default/b"}))
    assert len(await ours.ids("Rollout", "rollout/default/", count_max=1, only_running=False)) == 1
    assert await ours.ids("Retraining", "rollout/default/", count_max=9, only_running=False) == []
    assert await ours.cancel("rollout/default/a")
    assert not await ours.cancel("rollout/default/c")
    with pytest.raises(NotFound):
        await ours.progress("rollout/default/c", RolloutProgress)


async def _are(workflows: Workflows, ids: set[str]) -> bool:
    """Temporal lists what was started some moments later."""
    return set(await workflows.ids("Rollout", "rollout/default/", count_max=9, only_running=True)) == ids
