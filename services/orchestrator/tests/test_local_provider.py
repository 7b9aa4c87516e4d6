"""What only real processes can show: deaths at every moment, trees of processes, clean environments, bounded logs."""

import asyncio
import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from conftest import until
from worlds import archive_of, lease, program

from ergonaut.errors import NotFound, Refused
from ergonaut.ids import new_id
from ergonaut_orchestrator.adapters.local import LocalLimits, LocalProvider
from ergonaut_orchestrator.domain import LeaseState, Observation, StopReason
from ergonaut_orchestrator.runner import EXIT_BUSY, BoundedLog

LIMITS = LocalLimits(stop_grace_seconds=1, lease_ttl_seconds=60, log_bytes_max=4096, source_bytes_max=10_000)

TREE = """
import os, subprocess, sys, time
# A grandchild in a session of its own.
orphan = "import os, time; os.setsid(); open('orphan', 'w').write(str(os.getpid())); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", orphan])
while not os.path.exists("orphan") or not os.path.getsize("orphan"):
    time.sleep(0.01)
"""

FORGETFUL = """
# One more that has forgotten the run's environment too.
subprocess.Popen(["sleep", "600"], env={}, start_new_session=True)
"""


@pytest.fixture
async def provider(leases_folder: Path) -> AsyncIterator[LocalProvider]:
    made = LocalProvider(leases_folder, "host", LIMITS)
    yield made
    for held in await made.held():
        await made.tear_down(held.lease_id)


def processes_of(run_id: str) -> list[psutil.Process]:
    """The processes that carry a run's id, but for its runner, which tells of the end a moment before its own."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_runner = "ergonaut_orchestrator.runner" in process.cmdline()
            if not is_runner and process.environ().get("ERGONAUT_RUN_ID") == run_id and process.status() != "zombie":
                found.append(process)
    return found


async def begin(provider: LocalProvider, code: str, **environment: str) -> tuple[str, str]:
    """Start a Python program; gives lease and run."""
    run_id = new_id("run")
    ours = lease(run_id=run_id)
    await provider.provision(ours, archive_of({"program.py": textwrap.dedent(code).encode()}))
    await provider.start(ours.lease_id, program("python", "program.py", run_id=run_id, **environment))
    return ours.lease_id, run_id


async def ended(provider: LocalProvider, lease_id: str) -> Observation:
    async def over() -> bool:
        return (await provider.observe(lease_id)).state is not LeaseState.RUNNING

    await until(over)
    return await provider.observe(lease_id)


async def test_two_starts_at_once_start_one_program(provider: LocalProvider, leases_folder: Path) -> None:
    ours = lease()
    await provider.provision(ours, None)
    # Longer than a second runner waits for the lock.
    counting = program("sh", "-c", "echo x >> count; sleep 1.5")
    other = LocalProvider(leases_folder, "host", LIMITS)
    await asyncio.gather(*(one.start(ours.lease_id, counting) for one in (provider, other, provider, other)))
    await ended(provider, ours.lease_id)
    assert (leases_folder / ours.lease_id / "job" / "count").read_text() == "x\n"


async def test_a_runner_leaves_a_lease_alone_whose_program_has_been_started(
    provider: LocalProvider, leases_folder: Path
) -> None:
    ours = lease()
    await provider.provision(ours, None)
    await provider.start(ours.lease_id, program("sh", "-c", "echo x >> count"))
    before = await ended(provider, ours.lease_id)
    command = [sys.executable, "-m", "ergonaut_orchestrator.runner", str(leases_folder / ours.lease_id)]
    second = await asyncio.to_thread(subprocess.run, command, timeout=30, check=False)
    assert second.returncode == EXIT_BUSY
    assert await provider.observe(ours.lease_id) == before
    assert (leases_folder / ours.lease_id / "job" / "count").read_text() == "x\n"


async def test_processes_that_a_program_leaves_behind_are_gone_when_it_has_ended(provider: LocalProvider) -> None:
    lease_id, run_id = await begin(provider, TREE + FORGETFUL)
    seen = await ended(provider, lease_id)
    assert (seen.state, seen.exit_code) == (LeaseState.ENDED, 0)
    assert processes_of(run_id) == []


async def test_a_stopped_program_takes_its_whole_tree_along(provider: LocalProvider, leases_folder: Path) -> None:
    lease_id, run_id = await begin(provider, TREE + FORGETFUL + "time.sleep(600)")
    orphan = leases_folder / lease_id / "job" / "orphan"
    await until(lambda: len(_sleepers_below(lease_id)) == 1)
    sleepers = _sleepers_below(lease_id)
    await provider.ask_to_stop(lease_id, StopReason.CANCELLED)
    assert (await ended(provider, lease_id)).stopped_for is StopReason.CANCELLED
    assert processes_of(run_id) == []
    assert not psutil.pid_exists(int(orphan.read_text()))
    assert [process for process in sleepers if process.is_running()] == []


def _sleepers_below(lease_id: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "sleep" and any(lease_id in " ".join(one.cmdline()) for one in process.parents()):
                found.append(process)
    return found


async def test_a_program_may_end_in_peace_within_the_grace(provider: LocalProvider, leases_folder: Path) -> None:
    code = """
        import signal, sys, time
        def leave(*_):
            open("checkpoint", "w").write("saved")
            sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        open("ready", "w").close()
        # In naps, since Python looks at a signal that comes just before it sleeps only when it has slept.
        while True:
            time.sleep(0.01)
    """
    lease_id, _ = await begin(provider, code)
    await until((leases_folder / lease_id / "job" / "ready").exists)
    await provider.ask_to_stop(lease_id, StopReason.PREEMPTED)
    seen = await ended(provider, lease_id)
    assert (seen.exit_code, seen.stopped_for) == (0, StopReason.PREEMPTED)
    assert (leases_folder / lease_id / "job" / "checkpoint").read_text() == "saved"


async def test_a_program_that_ignores_the_request_is_killed_after_the_grace(
    provider: LocalProvider, leases_folder: Path
) -> None:
    code = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open("ready", "w").close()
        time.sleep(600)
    """
    lease_id, _ = await begin(provider, code)
    await until((leases_folder / lease_id / "job" / "ready").exists)
    await provider.ask_to_stop(lease_id, StopReason.CANCELLED)
    seen = await ended(provider, lease_id)
    assert (seen.exit_code, seen.because) == (None, "the program was killed by SIGKILL")


async def test_a_killed_runner_takes_the_program_along_and_the_lease_is_lost(
    provider: LocalProvider, leases_folder: Path
) -> None:
    lease_id, run_id = await begin(provider, TREE + "time.sleep(600)")
    orphan = leases_folder / lease_id / "job" / "orphan"
    await until(lambda: orphan.exists() and orphan.read_text() != "")
    status = json.loads((leases_folder / lease_id / "status.json").read_text())
    os.kill(status["runner_pid"], signal.SIGKILL)
    assert processes_of(run_id) != []
    assert (await ended(provider, lease_id)).state is LeaseState.LOST
    await provider.tear_down(lease_id)
    assert processes_of(run_id) == []


async def test_a_run_outlives_the_sudden_death_of_who_started_it_and_is_found_again(
    provider: LocalProvider, leases_folder: Path
) -> None:
    starter = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from ergonaut_orchestrator.adapters.local import LocalLimits, LocalProvider
from ergonaut_orchestrator.runner import EXIT_BUSY
from worlds import archive_of, lease, program
async def main():
    provider = LocalProvider(Path({str(leases_folder)!r}), "host", LocalLimits())
    ours = lease(run_id="run-x")
    await provider.provision(ours, None)
    await provider.start(ours.lease_id, program("sh", "-c", "sleep 1; echo done > out", run_id="run-x"))
    print(ours.lease_id, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        lease_id = parent.stdout.readline().strip()
        parent.kill()
    assert (await provider.observe(lease_id)).state is LeaseState.RUNNING
    seen = await ended(provider, lease_id)
    assert (seen.state, seen.exit_code) == (LeaseState.ENDED, 0)
    with await provider.open_file(lease_id, "out") as content:
        assert content.read() == b"done\n"


async def test_a_program_sees_its_run_and_nothing_of_the_platform(
    provider: LocalProvider, leases_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERGONAUT_NATS_URL", "nats://secret:4222")
    monkeypatch.setenv("ERGONAUT_SERVICE_KEY_FILE", "/secret")
    lease_id, run_id = await begin(
        provider, "import json, os; json.dump(dict(os.environ), open('env.json', 'w'))", EPOCHS="3", ERGONAUT_RUN_ID="x"
    )
    await ended(provider, lease_id)
    seen = json.loads((leases_folder / lease_id / "job" / "env.json").read_text())
    assert seen["ERGONAUT_RUN_ID"] == run_id
    assert seen["ERGONAUT_JOURNAL"] == str(leases_folder / lease_id / "journal.jsonl")
    assert (seen["ERGONAUT_METERED"], seen["EPOCHS"], seen["VIRTUAL_ENV"]) == ("True", "3", sys.prefix)
    assert [name for name in seen if name in {"ERGONAUT_NATS_URL", "ERGONAUT_SERVICE_KEY_FILE", "PYTEST_VERSION"}] == []


async def test_python_is_the_platforms_own(provider: LocalProvider, leases_folder: Path) -> None:
    lease_id, _ = await begin(provider, "import ergonaut, sys; open('prefix', 'w').write(sys.prefix)")
    assert (await ended(provider, lease_id)).exit_code == 0
    assert (leases_folder / lease_id / "job" / "prefix").read_text() == sys.prefix


async def test_an_endless_output_is_cut_and_its_end_is_still_told(provider: LocalProvider, leases_folder: Path) -> None:
    code = """
        import sys
        for number in range(100_000):
            print("line", number)
            print("error", number, file=sys.stderr)
        sys.exit(3)
    """
    lease_id, _ = await begin(provider, code)
    seen = await ended(provider, lease_id)
    assert seen.exit_code == 3
    assert seen.error_tail.endswith("error 99999\n")
    for name in ("stdout.log", "stderr.log"):
        kept = (leases_folder / lease_id / name).read_bytes()
        assert len(kept) < 4096 + 100
        assert kept.endswith(b"[truncated: the first 4096 bytes are kept]\n")


async def test_links_folders_and_pipes_are_no_artifacts(provider: LocalProvider, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.txt").write_text("secret")
    code = f"""
        import os
        os.makedirs("out/sub.txt")
        open("out/good.txt", "w").write("1")
        os.symlink({str(tmp_path / "secret" / "key.txt")!r}, "out/link.txt")
        os.symlink({str(tmp_path / "secret")!r}, "out/linked")
        os.symlink("good.txt", "out/inner.txt")
        os.mkfifo("out/pipe.txt")
    """
    lease_id, _ = await begin(provider, code)
    await ended(provider, lease_id)
    found = await provider.files(lease_id, ("out/*.txt", "out/linked/*", "**/key.txt", "**x", ""))
    assert [file.path for file in found.files] == ["out/good.txt"]
    assert found.unmatched == ("out/linked/*", "**/key.txt", "**x", "")
    with pytest.raises(NotFound):
        await provider.open_file(lease_id, "out/link.txt")


def _link(name: str, to: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, to
    return member


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (archive_of({"../outside.txt": b"x"}), "outside"),
        (archive_of({}, _link("out", "/etc")), "absolute"),
        (archive_of({}, _link("out", "../../..")), "outside"),
        (archive_of({"large": b"x" * 20_000}), "more than 10000 bytes"),
        (b"this is no archive", "gzip"),
        (archive_of({"half": b"x" * 5000})[:-30], "cannot be unpacked"),
    ],
    ids=["climbs", "links-away", "links-up", "bomb", "not-a-tar", "torn"],
)
async def test_an_archive_that_does_harm_is_refused_and_leaves_nothing(
    provider: LocalProvider, leases_folder: Path, source: bytes, words: str
) -> None:
    with pytest.raises(Refused, match=f"job.source: .*{words}"):
        await provider.provision(lease(), source)
    assert list(leases_folder.iterdir()) == []
    assert not (leases_folder.parent / "outside.txt").exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (archive_of({"../outside.txt": b"x"}), "outside"),
        (archive_of({"/outside.txt": b"x"}), "outside"),
        (archive_of({}, _link("out", "inner.txt")), "link or device"),
    ],
    ids=["climbs", "absolute", "links"],
)
async def test_a_python_without_filters_takes_only_what_can_do_no_harm(
    provider: LocalProvider, leases_folder: Path, monkeypatch: pytest.MonkeyPatch, source: bytes, words: str
) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(Refused, match=f"job.source: .*{words}"):
        await provider.provision(lease(), source)
    assert list(leases_folder.iterdir()) == []
    ours = lease()
    await provider.provision(ours, archive_of({"deep/run.py": b"x"}))
    assert (leases_folder / ours.lease_id / "job" / "deep" / "run.py").read_bytes() == b"x"


async def test_a_folder_without_rights_is_torn_down_all_the_same(provider: LocalProvider, leases_folder: Path) -> None:
    lease_id, _ = await begin(
        provider, "import os; os.makedirs('a/b'); open('a/b/c', 'w'); os.chmod('a/b', 0); os.chmod('a', 0)"
    )
    await ended(provider, lease_id)
    await provider.tear_down(lease_id)
    assert list(leases_folder.iterdir()) == []


async def test_what_a_death_in_the_middle_of_laying_out_left_goes_with_the_lease(
    provider: LocalProvider, leases_folder: Path
) -> None:
    ours, other = lease(), lease()
    for half_made in (ours, other):
        (leases_folder / f".{half_made.lease_id}-abc" / "job").mkdir(parents=True)
    await provider.provision(ours, None)
    await provider.tear_down(ours.lease_id)
    assert [path.name for path in leases_folder.iterdir()] == [f".{other.lease_id}-abc"]


async def test_a_lease_is_readable_by_its_owner_alone(provider: LocalProvider, leases_folder: Path) -> None:
    ours = lease()
    await provider.provision(ours, None)
    assert (leases_folder / ours.lease_id).stat().st_mode & 0o777 == 0o700


async def test_a_header_that_claims_to_be_huge_is_refused_before_it_fills_the_memory(provider: LocalProvider) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 8 * 1024**3
    packed = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(4 * 1024 * 1024))
    with pytest.raises(Refused, match="header of more than 1 MiB"):
        await provider.provision(lease(), packed)
    assert await provider.held() == []


async def test_a_file_whose_name_is_not_utf_8_is_told_and_the_others_are_found(provider: LocalProvider) -> None:
    lease_id, _ = await begin(provider, "open(b'caf\\xe9.txt', 'w').close(); open('tea.txt', 'w').close()")
    await ended(provider, lease_id)
    found = await provider.files(lease_id, ("*.txt",))
    assert [file.path for file in found.files] == ["tea.txt"]
    assert found.unnameable == ("caf\\xe9.txt",)


async def test_a_file_that_cannot_be_looked_at_hides_no_other(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_id, _ = await begin(provider, "open('shut.txt', 'w').close(); open('tea.txt', 'w').close()")
    await ended(provider, lease_id)
    is_file = Path.is_file

    def closed(path: Path) -> bool:
        # As the system says of a file below a folder without the right to enter it; root, who may run this, enters all.
        if path.name == "shut.txt":
            raise PermissionError(13, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", closed)
    found = await provider.files(lease_id, ("*.txt",))
    assert [file.path for file in found.files] == ["tea.txt"]


def test_an_output_that_fills_its_bound_to_the_byte_is_whole_and_the_next_byte_cuts_it(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "stdout.log", 4)
    log.write(b"full")
    assert (tmp_path / "stdout.log").read_bytes() == b"full"
    log.write(b"!")
    log.write(b"!")
    log.close()
    assert (tmp_path / "stdout.log").read_bytes() == b"full\n[truncated: the first 4 bytes are kept]\n"
    assert log.tail() == "full!!"
