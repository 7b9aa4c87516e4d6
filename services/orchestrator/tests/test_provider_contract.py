"""What every provider promises, asked of the fake and of real processes on this machine."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import contents_of, packed_checkpoint, until
from worlds import archive, lease, program

from ergonaut.errors import NotFound
from ergonaut_common.clock import SystemClock
from ergonaut_orchestrator.adapters.local import LocalLimits, LocalProvider
from ergonaut_orchestrator.domain import LeaseState, Observation, StopReason
from ergonaut_orchestrator.fakes import FakeProvider
from ergonaut_orchestrator.ports import Provider

TTL_SECONDS = 3.0


@pytest.fixture(params=["fake", "local"])
async def provider(request: pytest.FixtureRequest, leases_folder: Path) -> AsyncIterator[Provider]:
    made: Provider
    if request.param == "fake":
        made = FakeProvider(SystemClock(), lease_ttl_seconds=TTL_SECONDS)
    else:
        made = LocalProvider(leases_folder, "host", LocalLimits(stop_grace_seconds=1, lease_ttl_seconds=TTL_SECONDS))
    yield made
    for held in await made.held():
        await made.tear_down(held.lease_id)


async def ended(provider: Provider, lease_id: str, *, renew: bool = True) -> Observation:
    async def over() -> bool:
        if renew:
            await provider.renew(lease_id)
        return (await provider.observe(lease_id)).state is not LeaseState.RUNNING

    await until(over)
    return await provider.observe(lease_id)


async def test_a_lease_is_absent_then_ready_then_absent(provider: Provider) -> None:
    ours = lease()
    states = [(await provider.observe(ours.lease_id)).state]
    await provider.provision(ours, None)
    states.append((await provider.observe(ours.lease_id)).state)
    await provider.tear_down(ours.lease_id)
    states.append((await provider.observe(ours.lease_id)).state)
    assert states == [LeaseState.ABSENT, LeaseState.READY, LeaseState.ABSENT]


async def test_provisioning_twice_gives_the_same_lease(provider: Provider) -> None:
    ours = lease()
    first = await provider.provision(ours, archive(a__txt=b"one"))
    second = await provider.provision(ours, archive(a__txt=b"two"))
    with await provider.open_file(ours.lease_id, "a.txt") as content:
        assert content.read() == b"one"
    assert (second, await provider.held()) == (first, [ours])


async def test_a_program_that_ends_well_has_exit_code_0_and_times(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    started = await provider.start(ours.lease_id, program("true"))
    seen = await ended(provider, ours.lease_id)
    assert (seen.state, seen.exit_code, seen.stopped_for) == (LeaseState.ENDED, 0, None)
    assert seen.started_at == started.at
    assert seen.ended_at is not None
    assert seen.ended_at >= started.at


async def test_a_program_that_fails_tells_its_exit_code(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    await provider.start(ours.lease_id, program("false"))
    assert (await ended(provider, ours.lease_id)).exit_code == 1


async def test_a_program_that_is_not_there_is_named(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    await provider.start(ours.lease_id, program("no-such-program"))
    seen = await ended(provider, ours.lease_id)
    assert (seen.state, seen.exit_code) == (LeaseState.ENDED, None)
    assert seen.because == "command: 'no-such-program' could not be started: No such file or directory"


async def test_a_command_that_no_program_can_be_given_is_named(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    await provider.start(ours.lease_id, program("a\0b"))
    seen = await ended(provider, ours.lease_id)
    assert (seen.state, seen.exit_code) == (LeaseState.ENDED, None)
    assert "command: 'a\\x00b' could not be started" in seen.because


async def test_starting_again_after_the_end_starts_nothing(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    first = await provider.start(ours.lease_id, program("true"))
    before = await ended(provider, ours.lease_id)
    again = await provider.start(ours.lease_id, program("false"))
    await asyncio.sleep(0.3)
    assert (again, await provider.observe(ours.lease_id)) == (first, before)


async def test_starting_on_no_lease_is_not_found(provider: Provider) -> None:
    with pytest.raises(NotFound):
        await provider.start(lease().lease_id, program("true"))


async def test_a_program_that_is_asked_to_stop_ends_for_the_first_reason_given(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    await provider.start(ours.lease_id, program("sleep", "60"))
    await provider.ask_to_stop(ours.lease_id, StopReason.CANCELLED)
    await provider.ask_to_stop(ours.lease_id, StopReason.PREEMPTED)
    seen = await ended(provider, ours.lease_id)
    assert (seen.state, seen.exit_code, seen.stopped_for) == (LeaseState.ENDED, None, StopReason.CANCELLED)


async def test_a_pause_yields_to_any_other_reason_to_stop(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    # A program that takes its time: in the shell it ignores the request, the fake does what it is told to.
    await provider.start(ours.lease_id, program("sleep", "60") if isinstance(provider, FakeProvider) else STUBBORN)
    if isinstance(provider, FakeProvider):
        provider.obeys = False
    else:
        await until(lambda: _is_ready(provider, ours.lease_id))
    for reason in (StopReason.PAUSED, StopReason.PAUSED):
        await provider.ask_to_stop(ours.lease_id, reason)
        assert (await provider.observe(ours.lease_id)).asked_for is StopReason.PAUSED
    for reason in (StopReason.CANCELLED, StopReason.PREEMPTED, StopReason.PAUSED):
        await provider.ask_to_stop(ours.lease_id, reason)
        assert (await provider.observe(ours.lease_id)).asked_for is StopReason.CANCELLED
    if isinstance(provider, FakeProvider):
        provider.obey_all()
    assert (await ended(provider, ours.lease_id)).stopped_for is StopReason.CANCELLED


STUBBORN = program("sh", "-c", "trap '' TERM; echo > ready; sleep 60 & wait; sleep 60")


async def _is_ready(provider: Provider, lease_id: str) -> bool:
    return (await provider.files(lease_id, ("ready",))).unmatched == ()


async def test_a_checkpoint_that_was_laid_out_is_found_again_on_the_next_machine(provider: Provider) -> None:
    first, second = lease(), lease()
    await provider.provision(first, None, packed_checkpoint(step=b"7"))
    saved = await provider.checkpoint(first.lease_id)
    assert saved is not None
    await provider.provision(second, None, saved)
    again = await provider.checkpoint(second.lease_id)
    assert again is not None
    assert contents_of(again) == {"step": b"7"}


async def test_a_machine_on_which_nothing_was_saved_has_no_checkpoint(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    assert await provider.checkpoint(ours.lease_id) is None
    with pytest.raises(NotFound):
        await provider.checkpoint(lease().lease_id)


async def test_asking_after_the_end_changes_nothing(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    await provider.start(ours.lease_id, program("true"))
    before = await ended(provider, ours.lease_id)
    await provider.ask_to_stop(ours.lease_id, StopReason.CANCELLED)
    assert await provider.observe(ours.lease_id) == before


async def test_a_lease_that_is_not_renewed_stops_its_program(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    await provider.start(ours.lease_id, program("sleep", "60"))
    assert (await ended(provider, ours.lease_id, renew=False)).stopped_for is StopReason.LAPSED


async def test_a_lease_that_is_renewed_goes_on(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    await provider.start(ours.lease_id, program("sleep", "60"))
    for _ in range(15):
        await provider.renew(ours.lease_id)
        await asyncio.sleep(TTL_SECONDS / 10)
    assert (await provider.observe(ours.lease_id)).state is LeaseState.RUNNING


async def test_patterns_name_files_and_those_that_name_none_are_told(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, archive(model__onnx=b"12345", notes__txt=b"1"))
    found = await provider.files(ours.lease_id, ("*.onnx", "*.pt"))
    assert [(file.path, file.size_bytes) for file in found.files] == [("model.onnx", 5)]
    assert found.unmatched == ("*.pt",)


async def test_tearing_down_what_runs_ends_it_and_repeating_is_harmless(provider: Provider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    await provider.start(ours.lease_id, program("sleep", "60"))
    await provider.tear_down(ours.lease_id)
    await provider.tear_down(ours.lease_id)
    assert (await provider.observe(ours.lease_id)).state is LeaseState.ABSENT
    assert await provider.held() == []


async def test_no_lease_can_be_renewed_asked_or_heard_without_harm(provider: Provider) -> None:
    nobody = lease().lease_id
    await provider.renew(nobody)
    await provider.ask_to_stop(nobody, StopReason.CANCELLED)
    assert await provider.told(nobody, 0) == ([], 0)
    assert await provider.held() == []
