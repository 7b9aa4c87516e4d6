"""What only real programs can show of pauses: what they save, how they end, and what is kept of it."""

import io
import os
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import contents_of, packed_checkpoint, until
from worlds import archive_of, lease, program

from ergonaut.errors import Refused
from ergonaut_orchestrator.adapters.local import LocalLimits, LocalProvider
from ergonaut_orchestrator.adapters.local.checkpoints import pack
from ergonaut_orchestrator.adapters.local.unpacking import unpack_checkpoint
from ergonaut_orchestrator.domain import EndKind, LeaseState, Observation, StopReason, Telling, end_of

LIMITS = LocalLimits(stop_grace_seconds=0.5, pause_grace_seconds=2, checkpoint_bytes_max=100_000)

OBEDIENT = """
    import os, signal, sys, time
    from pathlib import Path
    folder = Path(os.environ["ERGONAUT_CHECKPOINT_FOLDER"])
    def leave(*_):
        {on_term}
    signal.signal(signal.SIGTERM, leave)
    Path("ready").touch()
    # In naps, since Python looks at a signal that comes just before it sleeps only when it has slept.
    while True:
        time.sleep(0.01)
"""


@pytest.fixture
async def provider(leases_folder: Path) -> AsyncIterator[LocalProvider]:
    made = LocalProvider(leases_folder, "host", LIMITS)
    yield made
    for held in await made.held():
        await made.tear_down(held.lease_id)


async def begun(provider: LocalProvider, leases_folder: Path, on_term: str) -> str:
    ours = lease()
    code = textwrap.dedent(OBEDIENT.format(on_term=on_term)).encode()
    await provider.provision(ours, archive_of({"program.py": code}))
    await provider.start(ours.lease_id, program("python", "program.py"))
    await until((leases_folder / ours.lease_id / "job" / "ready").exists)
    return ours.lease_id


async def ended(provider: LocalProvider, lease_id: str) -> Observation:
    async def over() -> bool:
        return (await provider.observe(lease_id)).state is not LeaseState.RUNNING

    await until(over)
    return await provider.observe(lease_id)


def kind_of(seen: Observation) -> EndKind:
    assert seen.ended_at is not None
    end = end_of(seen, Telling(), seen.ended_at)
    assert end is not None
    return end.kind


@pytest.mark.parametrize(
    ("on_term", "kind"),
    [
        ("(folder / 'step').write_text('7'); sys.exit(0)", EndKind.PAUSED),
        ("(folder / 'step').write_text('7'); sys.exit(143)", EndKind.PAUSED),
        ("sys.exit(143)", EndKind.PAUSED),
        ("raise RuntimeError('the disk is full')", EndKind.PAUSED),
        ("sys.exit(0)", EndKind.SUCCEEDED),
        ("pass", EndKind.PAUSED),
    ],
    ids=["saves-and-ends-well", "saves-and-ends", "ends", "fails", "was-done", "does-not-listen"],
)
async def test_how_a_program_that_is_paused_ends_says_whether_it_was_done(
    provider: LocalProvider, leases_folder: Path, on_term: str, kind: EndKind
) -> None:
    lease_id = await begun(provider, leases_folder, on_term)
    await provider.ask_to_stop(lease_id, StopReason.PAUSED)
    assert kind_of(await ended(provider, lease_id)) is kind


async def test_a_program_that_does_not_know_of_pauses_is_paused_all_the_same(provider: LocalProvider) -> None:
    ours = lease()
    await provider.provision(ours, None)
    await provider.start(ours.lease_id, program("sleep", "600"))
    await provider.ask_to_stop(ours.lease_id, StopReason.PAUSED)
    seen = await ended(provider, ours.lease_id)
    assert (kind_of(seen), seen.because) == (EndKind.PAUSED, "the program was killed by SIGTERM")


async def test_what_was_saved_before_the_request_does_not_count_as_saved_for_it(
    provider: LocalProvider, leases_folder: Path
) -> None:
    lease_id = await begun(provider, leases_folder, "sys.exit(0)")
    old = leases_folder / lease_id / "checkpoint" / "step"
    old.write_text("3")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    await provider.ask_to_stop(lease_id, StopReason.PAUSED)
    assert kind_of(await ended(provider, lease_id)) is EndKind.SUCCEEDED


async def test_a_program_that_saves_for_long_is_stopped_sooner_when_it_is_cancelled(
    provider: LocalProvider, leases_folder: Path
) -> None:
    patient = LocalProvider(leases_folder, "host", LocalLimits(stop_grace_seconds=0.1, pause_grace_seconds=600))
    lease_id = await begun(patient, leases_folder, "(folder / 'begun').touch(); time.sleep(600)")
    await patient.ask_to_stop(lease_id, StopReason.PAUSED)
    await until((leases_folder / lease_id / "checkpoint" / "begun").exists)
    await patient.ask_to_stop(lease_id, StopReason.CANCELLED)
    seen = await ended(patient, lease_id)
    assert (seen.stopped_for, seen.because) == (StopReason.CANCELLED, "the program was killed by SIGKILL")


async def test_a_program_that_is_cancelled_while_it_saves_is_not_asked_twice(
    provider: LocalProvider, leases_folder: Path
) -> None:
    on_term = "open('asked', 'a').write('x'); (folder / 'begun').touch(); time.sleep(600)"
    lease_id = await begun(provider, leases_folder, on_term)
    await provider.ask_to_stop(lease_id, StopReason.PAUSED)
    await until((leases_folder / lease_id / "checkpoint" / "begun").exists)
    await provider.ask_to_stop(lease_id, StopReason.PREEMPTED)
    assert (await ended(provider, lease_id)).stopped_for is StopReason.PREEMPTED
    assert (leases_folder / lease_id / "job" / "asked").read_text() == "x"


def test_a_checkpoint_keeps_folders_links_inside_and_the_right_to_execute(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    (folder / "epoch-3").mkdir(parents=True)
    (folder / "epoch-3" / "weights").write_bytes(b"w" * 5000)
    (folder / "latest").symlink_to(folder / "epoch-3")
    (folder / "tool").write_text("#!/bin/sh")
    (folder / "tool").chmod(0o755)
    packed = pack(folder, bytes_max=100_000)
    assert packed is not None
    again = tmp_path / "again"
    again.mkdir()
    unpack_checkpoint(packed, again, files_max=100, bytes_max=100_000)
    assert (again / "latest" / "weights").read_bytes() == b"w" * 5000
    assert (again / "latest").readlink() == Path("epoch-3")
    assert os.access(again / "tool", os.X_OK)


def test_what_leads_out_of_a_checkpoint_is_left_behind(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe")
    (folder / "step").write_bytes(b"7")
    packed = pack(folder, bytes_max=100_000)
    assert packed is not None
    assert contents_of(packed) == {"step": b"7"}


def test_a_checkpoint_that_nobody_may_read_is_refused_rather_than_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "step").write_bytes(b"7")

    def closed(path: Path, *_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    # The right to read cannot be taken from root, as whom tests may run.
    monkeypatch.setattr(os, "open", closed)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: io.BytesIO())
    with pytest.raises(Refused, match=r"cannot be read: .*step: Permission denied"):
        pack(folder, bytes_max=100_000)


async def test_a_checkpoint_that_is_too_large_is_refused_with_its_bound(
    provider: LocalProvider, leases_folder: Path
) -> None:
    ours = lease()
    await provider.provision(ours, None)
    (leases_folder / ours.lease_id / "checkpoint" / "weights").write_bytes(b"0" * 100_001)
    with pytest.raises(Refused, match="more than 100000 bytes"):
        await provider.checkpoint(ours.lease_id)


async def test_a_checkpoint_that_is_damaged_is_refused_and_leaves_no_machine(provider: LocalProvider) -> None:
    damaged = packed_checkpoint(step=b"7" * 2000)
    damaged.truncate(900)
    with pytest.raises(Refused, match="the checkpoint cannot be laid out"):
        await provider.provision(lease(), None, damaged)
    assert await provider.held() == []
