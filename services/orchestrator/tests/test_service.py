"""The use cases over fakes: what is told, in which order, and what a repeat, an absence or a stop changes."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from worlds import FakeWorld, archive, attempt, job, lease

from ergonaut.errors import NotFound, Refused, Unavailable
from ergonaut.journal import EntryKind, JournalEntry
from ergonaut_common.clock import FakeClock
from ergonaut_orchestrator.domain import Attempt, EndKind, LeaseState, RunEnd, StopReason
from ergonaut_orchestrator.service import Bounds, Keeping, Leasing, Running, StopRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def fakes(clock: FakeClock) -> FakeWorld:
    return FakeWorld.on(clock)


def nothing() -> None:
    return None


async def watched(fakes: FakeWorld, clock: FakeClock, ours: Attempt, stop: StopRequest | None = None) -> RunEnd:
    """Watch while time passes."""
    watching = asyncio.create_task(Running(fakes.world, Bounds()).watch(ours, nothing, stop or StopRequest()))
    for _ in range(2000):
        if watching.done():
            break
        await clock.advance(1)
    return await watching


async def begun(fakes: FakeWorld, ours: Attempt) -> None:
    await Leasing(fakes.world).provision(ours)
    await Running(fakes.world, Bounds()).start(ours)


async def test_an_attempt_is_told_once_however_often_its_steps_are_repeated(fakes: FakeWorld, clock: FakeClock) -> None:
    ours = attempt(job("sleep", "5"), NOW)
    for _ in range(3):
        await begun(fakes, ours)
    assert (await watched(fakes, clock, ours)).kind is EndKind.SUCCEEDED
    await Leasing(fakes.world).tear_down(ours.lease, "done")
    assert fakes.announcer.types() == ["leases.lease.acquired", "runs.run.started", "leases.lease.released"]
    assert fakes.provider.starts == 1


async def test_a_provider_without_adapter_is_refused_by_name(fakes: FakeWorld) -> None:
    with pytest.raises(Refused, match="provider: 'aws' has no adapter here; known are local"):
        await Leasing(fakes.world).provision(attempt(job("true"), NOW, provider="aws"))


async def test_a_source_that_is_not_stored_is_named(fakes: FakeWorld) -> None:
    with pytest.raises(NotFound, match=r"job\.source: sha256-0000"):
        await Leasing(fakes.world).provision(attempt(job("true", source=f"sha256-{'0' * 64}"), NOW))
    assert await fakes.provider.held() == []


async def test_another_tenants_source_is_not_found(fakes: FakeWorld) -> None:
    source = f"sha256-{'0' * 64}"
    fakes.sources.stored["other", source] = archive(a__txt=b"1")
    with pytest.raises(NotFound):
        await Leasing(fakes.world).provision(attempt(job("true", source=source), NOW))


async def test_a_watch_tells_progress_at_most_once_a_second_and_only_the_newest(
    fakes: FakeWorld, clock: FakeClock
) -> None:
    ours = attempt(job("sleep", "10"), NOW)
    await begun(fakes, ours)
    watching = asyncio.create_task(Running(fakes.world, Bounds()).watch(ours, nothing, StopRequest()))
    for step in range(8):
        for loss in (2.0, 1.0):
            fakes.provider.tell(JournalEntry(kind=EntryKind.METRIC, at=clock.now(), name="loss", value=loss + step))
        await clock.advance(0.5)
    progress = [event for event in fakes.announcer.told if event.TYPE == "runs.run.progressed"]
    await clock.advance(20)
    end = await watching
    assert 3 <= len(progress) <= 5
    assert all(event.metrics["loss"] % 1 == 0 for event in progress)
    assert end.metrics == {"loss": 8.0}


async def test_a_bus_that_is_away_does_not_stop_the_watch(fakes: FakeWorld, clock: FakeClock) -> None:
    ours = attempt(job("sleep", "5"), NOW)
    await begun(fakes, ours)
    fakes.announcer.away_for = 1000
    fakes.provider.tell(JournalEntry(kind=EntryKind.PHASE, at=NOW, phase="train"))
    assert (await watched(fakes, clock, ours)).kind is EndKind.SUCCEEDED
    assert fakes.announcer.away_for < 1000


async def test_a_watch_renews_the_lease_for_as_long_as_it_lasts(clock: FakeClock) -> None:
    fakes = FakeWorld.on(clock, lease_ttl_seconds=5)
    ours = attempt(job("sleep", "60"), NOW)
    await begun(fakes, ours)
    assert (await watched(fakes, clock, ours)).kind is EndKind.SUCCEEDED


async def test_a_run_that_is_overdue_is_stopped_and_has_failed(fakes: FakeWorld, clock: FakeClock) -> None:
    ours = attempt(job("sleep", "999999"), NOW)
    await begun(fakes, ours)
    await clock.advance(3590)
    fakes.provider._leases[ours.lease.lease_id].renewed_at = clock.monotonic()
    end = await watched(fakes, clock, ours)
    assert (end.kind, "duration_seconds_expected" in end.because) == (EndKind.FAILED, True)


async def test_a_machine_that_vanishes_is_a_preemption(fakes: FakeWorld, clock: FakeClock) -> None:
    ours = attempt(job("sleep", "60"), NOW)
    await begun(fakes, ours)
    fakes.provider.lose_all()
    assert (await watched(fakes, clock, ours)).kind is EndKind.PREEMPTED


@pytest.mark.parametrize(
    ("reason", "kind"),
    [(StopReason.CANCELLED, EndKind.CANCELLED), (StopReason.PREEMPTED, EndKind.PREEMPTED)],
)
async def test_a_watched_run_is_stopped_on_request(
    fakes: FakeWorld, clock: FakeClock, reason: StopReason, kind: EndKind
) -> None:
    ours = attempt(job("sleep", "60"), NOW)
    await begun(fakes, ours)
    assert (await watched(fakes, clock, ours, StopRequest(reason))).kind is kind


async def test_files_and_outputs_are_kept_under_the_runs_name(fakes: FakeWorld, clock: FakeClock) -> None:
    source = f"sha256-{'0' * 64}"
    fakes.sources.stored["default", source] = archive(model__onnx=b"model", notes__txt=b"no")
    ours = attempt(job("true", source=source, artifacts=["*.onnx", "*.pt"]), NOW)
    await begun(fakes, ours)
    await watched(fakes, clock, ours)
    collected = await Keeping(fakes.world, Bounds()).collect(ours)
    run_id = ours.lease.run_id
    assert collected.artifacts == (f"{run_id}/model.onnx",)
    assert collected.because == "artifacts: no file matches '*.pt'"
    assert fakes.artifacts.kept.pop(("default", f"{run_id}/model.onnx")) == b"model"
    assert sorted(fakes.artifacts.kept) == [
        ("default", f"logs/{run_id}/stderr.log"),
        ("default", f"logs/{run_id}/stdout.log"),
    ]


async def test_what_an_interrupted_attempt_saved_is_laid_out_for_the_next_one(
    fakes: FakeWorld, clock: FakeClock
) -> None:
    first = attempt(job("sleep", "60"), NOW)
    await begun(fakes, first)
    fakes.provider.save(step=b"7")
    saved = await Keeping(fakes.world, Bounds()).save(first)
    second = replace(attempt(job("sleep", "60"), NOW), checkpoint=saved.checkpoint)
    await Leasing(fakes.world).provision(second)
    assert saved.checkpoint == f"checkpoints/job-1/{first.lease.run_id}.tar"
    assert fakes.provider.saved(second.lease.lease_id) == {"step": b"7"}
    assert ("default", f"logs/{first.lease.run_id}/stdout.log") in fakes.artifacts.kept


async def test_a_machine_that_is_gone_saves_nothing_and_says_so(fakes: FakeWorld) -> None:
    saved = await Keeping(fakes.world, Bounds()).save(attempt(job("true"), NOW))
    assert (saved.checkpoint, "the machine is gone" in saved.because) == ("", True)


async def test_a_checkpoint_that_may_not_be_kept_is_told_and_not_kept(
    fakes: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_large(_: str) -> None:
        raise Refused("the checkpoint has more than 10 bytes", field="checkpoint_folder")

    ours = attempt(job("sleep", "60"), NOW)
    await begun(fakes, ours)
    monkeypatch.setattr(fakes.provider, "checkpoint", too_large)
    saved = await Keeping(fakes.world, Bounds()).save(ours)
    assert (saved.checkpoint, saved.because) == ("", "checkpoint_folder: the checkpoint has more than 10 bytes")


async def test_a_job_whose_checkpoint_is_lost_begins_again(fakes: FakeWorld) -> None:
    ours = replace(attempt(job("sleep", "60"), NOW), checkpoint="checkpoints/job-1/run-0.tar")
    await begun(fakes, ours)
    assert (fakes.provider.starts, fakes.provider.saved(ours.lease.lease_id)) == (1, {})


async def test_a_release_that_could_not_be_told_is_told_by_the_repeat(fakes: FakeWorld) -> None:
    ours = attempt(job("true"), NOW)
    leasing = Leasing(fakes.world)
    await leasing.provision(ours)
    fakes.announcer.away_for = 1
    with pytest.raises(Unavailable):
        await leasing.tear_down(ours.lease, "done")
    await leasing.tear_down(ours.lease, "done", again=True)
    assert fakes.announcer.types() == ["leases.lease.acquired", "leases.lease.released"]


async def test_a_lease_that_was_never_got_is_not_told_to_be_released(fakes: FakeWorld) -> None:
    await Leasing(fakes.world).tear_down(lease(), "nothing was got")
    assert fakes.announcer.told == []


async def test_a_lease_whose_workflow_is_gone_is_given_back_and_others_are_kept(fakes: FakeWorld) -> None:
    leasing = Leasing(fakes.world)
    orphan = attempt(job("sleep", "60"), NOW, workflow_id="gone")
    ours = attempt(job("sleep", "60"), NOW, workflow_id="live")
    fakes.workflows.live = {"live"}
    for one in (orphan, ours):
        await begun(fakes, one)
    await leasing.reconcile()
    assert await fakes.provider.held() == [ours.lease]
    assert fakes.announcer.types()[-1] == "leases.lease.released"


async def test_leases_are_kept_while_nobody_can_say_whether_their_workflow_lives(
    fakes: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_: object) -> bool:
        raise Unavailable("Temporal does not answer")

    ours = attempt(job("sleep", "60"), NOW)
    await begun(fakes, ours)
    monkeypatch.setattr(fakes.workflows, "is_live", silent)
    await Leasing(fakes.world).reconcile()
    assert await fakes.provider.held() == [ours.lease]


async def test_taking_the_platform_down_preempts_what_runs_here(fakes: FakeWorld) -> None:
    ours = attempt(job("sleep", "60"), NOW)
    await begun(fakes, ours)
    await Leasing(fakes.world).interrupt_all()
    seen = await fakes.provider.observe(ours.lease.lease_id)
    assert (seen.state, seen.stopped_for) == (LeaseState.ENDED, StopReason.PREEMPTED)
