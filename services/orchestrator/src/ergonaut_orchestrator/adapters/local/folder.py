"""One lease of the local provider as a folder, and what can be done with it. Synchronous: the provider calls it in threads.

lease.json      the lease            program.json  what to start      status.json  how the runner says it goes
job/            the job's files      journal.jsonl the run's words    stdout.log, stderr.log
checkpoint/     what the program saves for its next attempt
lock, renewed, stop.json             between runner and provider
"""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from ergonaut.errors import Broken, NotFound, Unavailable
from ergonaut_orchestrator import runner
from ergonaut_orchestrator.adapters.local import checkpoints
from ergonaut_orchestrator.adapters.local.processes import kill_left_over
from ergonaut_orchestrator.adapters.local.unpacking import unpack, unpack_checkpoint
from ergonaut_orchestrator.domain import FoundFile, FoundFiles, Lease, LeaseState, Observation, Program, StopReason

LEASE_FILE = "lease.json"
JOURNAL_FILE = "journal.jsonl"

START_PATIENCE_SECONDS = 20.0
"""A runner tells of itself within a tenth of a second; a machine that is swapping takes longer."""

STOP_SLACK_SECONDS = 15.0
"""Beyond the grace, for the runner to notice, kill, reap and tell; after that it is killed itself."""

FILES_LISTED_MAX = 10_000
"""Matches that are looked at for one pattern: far more than are ever kept, and few enough for the memory."""


@dataclass(frozen=True, slots=True)
class LocalLimits:
    """How a local run is bounded."""

    stop_grace_seconds: float = 5.0
    pause_grace_seconds: float = 30.0
    checkpoint_bytes_max: int = 1024 * 1024 * 1024
    lease_ttl_seconds: float = 120.0
    log_bytes_max: int = 64 * 1024 * 1024
    source_bytes_max: int = 4 * 1024 * 1024 * 1024
    source_files_max: int = 100_000
    nice: int = 5


Spawn = Callable[[list[str], Path, dict[str, str]], "subprocess.Popen[bytes]"]
"""Starts a command in a folder with an environment."""


class LeaseFolder:
    """A lease's folder, whether it exists or not."""

    def __init__(self, path: Path, limits: LocalLimits) -> None:
        self.path = path
        self._limits = limits

    def make(self, lease: Lease, source: bytes | None, checkpoint: BinaryIO | None = None) -> datetime:
        """Lay out the folder in one step; one that is there stays as it is. The answer is when it was made."""
        if not (self.path / LEASE_FILE).exists():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = Path(tempfile.mkdtemp(prefix=f".{lease.lease_id}-", dir=self.path.parent))
            try:
                self._lay_out(part, lease, source, checkpoint)
                self._settle(part)
            finally:
                remove_folder(part)
        return datetime.fromtimestamp((self.path / LEASE_FILE).stat().st_mtime, UTC)

    def _settle(self, part: Path) -> None:
        """Give the folder its name, unless somebody was faster: then theirs is the lease."""
        try:
            part.rename(self.path)
        except OSError:
            if not (self.path / LEASE_FILE).exists():
                raise

    def _lay_out(self, part: Path, lease: Lease, source: bytes | None, checkpoint: BinaryIO | None) -> None:
        (part / runner.JOB_FOLDER).mkdir(mode=0o700)
        (part / runner.CHECKPOINT_FOLDER).mkdir(mode=0o700)
        (part / runner.RENEWED_FILE).touch()
        if source is not None:
            limits = self._limits
            unpack(
                source, part / runner.JOB_FOLDER, files_max=limits.source_files_max, bytes_max=limits.source_bytes_max
            )
        if checkpoint is not None:
            folder, bytes_max = part / runner.CHECKPOINT_FOLDER, self._limits.checkpoint_bytes_max
            unpack_checkpoint(checkpoint, folder, files_max=checkpoints.FILES_MAX, bytes_max=bytes_max)
        runner.write_whole(part / LEASE_FILE, json.dumps(asdict(lease)))

    def lease(self) -> Lease:
        """Whose folder it is. Raises NotFound, Broken."""
        try:
            return Lease(**json.loads((self.path / LEASE_FILE).read_text()))
        except FileNotFoundError as error:
            raise NotFound(f"there is no lease {self.path.name}") from error
        except (ValueError, TypeError) as error:
            raise Broken(f"{self.path / LEASE_FILE} cannot be read: {error}") from error

    def start(self, program: Program, spawn: "Spawn") -> datetime:
        """Start a runner unless one has been; when this returns it has told when the program began."""
        self.lease()
        if self._status() is None:
            self.renew()
            runner.write_whole(self.path / runner.PROGRAM_FILE, json.dumps(self._program_file(program)))
            command = [sys.executable, "-I", "-m", "ergonaut_orchestrator.runner", str(self.path)]
            # As a process of the run, the runner holds the CPU time of the program until the meters have seen it.
            spawn(command, self.path, program.context.to_environment())
        give_up_at = time.monotonic() + START_PATIENCE_SECONDS
        while (status := self._status()) is None or status["state"] == "starting":
            if time.monotonic() >= give_up_at:
                raise Unavailable(f"the runner of {self.path.name} does not start; see {self.path / 'runner.log'}")
            if status is not None and not self._is_locked():
                break  # It died before the program began; whoever looks next sees the lease as lost.
            time.sleep(0.02)
        return datetime.fromisoformat(status["started_at"])

    def _program_file(self, program: Program) -> dict[str, Any]:
        limits = self._limits
        return {
            "command": program.command,
            "environment": self._environment(program),
            "log_bytes_max": limits.log_bytes_max,
            "lease_ttl_seconds": limits.lease_ttl_seconds,
            "stop_grace_seconds": program.stop_grace_seconds or limits.stop_grace_seconds,
            "nice": limits.nice,
        }

    def _environment(self, program: Program) -> dict[str, str]:
        """Everything that the program sees of its surroundings: none of the platform's addresses, keys or settings."""
        prefix = Path(sys.prefix)
        folders = {
            "journal": str(self.path / JOURNAL_FILE),
            "checkpoint_folder": str(self.path / runner.CHECKPOINT_FOLDER),
        }
        context = program.context.model_copy(update=folders)
        return {
            "PATH": f"{prefix / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": os.environ.get("HOME", str(self.path)),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "VIRTUAL_ENV": str(prefix),
            "PYTHONUNBUFFERED": "1",
            **program.environment,
            **context.to_environment(),
        }

    def observe(self) -> Observation:
        """What the folder tells."""
        if not (self.path / LEASE_FILE).exists():
            return Observation(LeaseState.ABSENT)
        status = self._status()
        if status is None:
            return Observation(LeaseState.READY)
        if status["state"] != "ended" and self._is_locked():
            started_at = datetime.fromisoformat(status["started_at"])
            return Observation(LeaseState.RUNNING, started_at=started_at, asked_for=self._asked_for())
        # Read again: the runner may have told the end between the two looks.
        return _observation(self._status() or status)

    def renew(self) -> None:
        """Somebody watches."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path / runner.RENEWED_FILE)

    def ask_to_stop(self, reason: StopReason) -> None:
        """Leave word for the runner; the first word stands, but for one that yields to any other."""
        grace_seconds = self._grace_seconds(reason)
        word = json.dumps({"reason": reason, "grace_seconds": grace_seconds})
        part = self.path / f".stop-{os.getpid()}-{time.monotonic_ns()}"
        with contextlib.suppress(FileNotFoundError):
            part.write_text(word)
            try:
                os.link(part, self.path / runner.STOP_FILE)
            except FileExistsError:
                said = self._asked_for()
                if said is not None and said.yields and not reason.yields:
                    part.replace(self.path / runner.STOP_FILE)
            part.unlink(missing_ok=True)

    def _grace_seconds(self, reason: StopReason) -> float:
        """How long the program may take to end; where the platform is taken down, no longer than any."""
        if reason is StopReason.PAUSED:
            return self._limits.pause_grace_seconds
        if reason in {StopReason.CANCELLED, StopReason.TORN_DOWN}:
            with contextlib.suppress(FileNotFoundError):
                return float(json.loads((self.path / runner.PROGRAM_FILE).read_text())["stop_grace_seconds"])
        return self._limits.stop_grace_seconds

    def _asked_for(self) -> StopReason | None:
        """The word that was left for the runner, if any."""
        try:
            return StopReason(json.loads((self.path / runner.STOP_FILE).read_text())["reason"])
        except FileNotFoundError:
            return None

    def checkpoint(self) -> BinaryIO | None:
        """What the program saved, as a tar. Raises NotFound where there is no such lease, Refused where it is too large."""
        self.lease()
        return checkpoints.pack(self.path / runner.CHECKPOINT_FOLDER, bytes_max=self._limits.checkpoint_bytes_max)

    def files(self, patterns: Sequence[str]) -> FoundFiles:
        """Regular files inside the job's folder, each once, links and what lies behind them left out."""
        job_folder = (self.path / runner.JOB_FOLDER).resolve()
        found: dict[str, int] = {}
        unmatched, unnameable = [], set()
        for pattern in patterns:
            matches = _matches(job_folder, pattern)
            for path, size in matches.items():
                if _is_utf8(path):
                    found[path] = size
                else:
                    unnameable.add(os.fsencode(path).decode(errors="backslashreplace"))
            if not matches:
                unmatched.append(pattern)
        files = tuple(FoundFile(path, size) for path, size in found.items())
        return FoundFiles(files, tuple(unmatched), tuple(sorted(unnameable)))

    def tear_down(self) -> None:
        """Stop what runs, kill what is left, remove the folder. Raises Unavailable where a process does not die."""
        if self.path.exists():
            self._end_processes()
            with contextlib.suppress(FileNotFoundError):
                self.path.rename(self.path.with_name(f".{self.path.name}-gone"))
        # What a death in the middle of laying out or removing left of this lease goes too.
        for part in self.path.parent.glob(f".{self.path.name}-*"):
            remove_folder(part)

    def _end_processes(self) -> None:
        status = self._stopped_status()
        with contextlib.suppress(NotFound, Broken):
            run_id = self.lease().run_id
            ticks = status.get("process_started_ticks", 0)
            if not kill_left_over(run_id, leader=status.get("pid", 0), leader_started_ticks=ticks):
                raise Unavailable(f"processes of {run_id} do not die; the lease {self.path.name} is kept")

    def _stopped_status(self) -> dict[str, Any]:
        """The runner's last word, having asked it to stop and, where it would not, killed it."""
        if self._is_locked():
            self.ask_to_stop(StopReason.TORN_DOWN)
        # Also where it was asked by somebody before, as of a job that was cancelled while nobody watched.
        give_up_at = time.monotonic() + self._grace_seconds(StopReason.TORN_DOWN) + STOP_SLACK_SECONDS
        while self._is_locked() and time.monotonic() < give_up_at:
            time.sleep(0.05)
        status = self._status() or {}
        if self._is_locked() and "runner_pid" in status:
            # It holds the lock, so it lives, so the pid is still its own.
            with contextlib.suppress(ProcessLookupError):
                os.kill(status["runner_pid"], signal.SIGKILL)
        return status

    def _status(self) -> dict[str, Any] | None:
        try:
            status: dict[str, Any] = json.loads((self.path / runner.STATUS_FILE).read_text())
        except FileNotFoundError:
            return None
        return status

    def _is_locked(self) -> bool:
        """Whether a runner lives: it holds the lock to its very end, and nothing else does for longer than an instant."""
        try:
            with (self.path / runner.LOCK_FILE).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


def _observation(status: dict[str, Any]) -> Observation:
    ended = status["state"] == "ended"
    return Observation(
        state=LeaseState.ENDED if ended else LeaseState.LOST,
        started_at=datetime.fromisoformat(status["started_at"]),
        ended_at=datetime.fromisoformat(status["ended_at"]) if ended else None,
        exit_code=status.get("exit_code"),
        stopped_for=StopReason(status["stopped_for"]) if status.get("stopped_for") else None,
        because=status.get("because", ""),
        error_tail=status.get("error_tail", ""),
        has_saved=status.get("has_saved", False),
    )


def _matches(job_folder: Path, pattern: str) -> dict[str, int]:
    """Path and size of the regular files that a pattern names and that really lie inside the folder."""
    matches = {}
    # A pattern that cannot be one, such as `**x`, names nothing.
    with contextlib.suppress(ValueError, NotImplementedError):
        for path in itertools.islice(job_folder.glob(pattern), FILES_LISTED_MAX):
            # A file in a folder that its program closed to us cannot be looked at, and not be kept either.
            with contextlib.suppress(OSError):
                if path.is_file() and path.resolve() == path:
                    matches[path.relative_to(job_folder).as_posix()] = path.stat().st_size
    return matches


def _is_utf8(path: str) -> bool:
    """Whether a path can travel in messages; a file's name may be any bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def remove_folder(folder: Path) -> None:
    """Remove a folder even where a program took its own right to."""
    if not folder.exists():
        return
    for root, folders, _ in os.walk(folder):
        for name in folders:
            inner = Path(root) / name
            if not inner.is_symlink():
                inner.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
