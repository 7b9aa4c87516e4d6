"""Watches over one program on one lease, apart from the service that started it: `python -m ergonaut_orchestrator.runner FOLDER`.

It outlives the service's sudden death, never runs a lease's program twice, ends the program when asked to or when nobody renews
the lease, and ends itself only when every process that the program left behind is gone. It imports the standard library alone,
so that it starts fast and weighs little beside the program that is metered.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

LOCK_FILE = "lock"
PROGRAM_FILE = "program.json"
STATUS_FILE = "status.json"
STOP_FILE = "stop.json"
RENEWED_FILE = "renewed"
JOB_FOLDER = "job"
CHECKPOINT_FOLDER = "checkpoint"
STDOUT_FILE = "stdout.log"
STDERR_FILE = "stderr.log"

PAUSED = "paused"
"""The one reason to stop that yields to any other: a program that takes its time to save its state may be stopped sooner."""

WRITTEN_SLACK_SECONDS = 0.05
"""A file's time comes from a clock that ticks a few times in a hundredth of a second, behind the one that we read."""

EXIT_BUSY = 75
"""Another runner holds the lease, or its program has been started before."""

POLL_SECONDS = 0.2
"""How late an end, a stop or a lapse is noticed; five short wake-ups a second are not seen beside a program that computes."""

LOCK_PATIENCE_SECONDS = 1.0
"""Whoever looks whether a runner lives holds its lock for an instant; a runner that starts just then must not give up."""

REAP_PATIENCE_SECONDS = 10.0
"""A process killed while it waits for a disk ends late; one that does not end at all must not hold the runner for ever."""

TAIL_BYTES = 2_048
"""The end of the program's errors, told with its end."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main(folder: Path) -> int:
    """Run the lease's program to its end."""
    lock = take_lock(folder)
    if lock is None or (folder / STATUS_FILE).exists():
        return EXIT_BUSY
    program = json.loads((folder / PROGRAM_FILE).read_text())
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    Runner(folder, program).run()
    return 0


class Runner:
    """One program's whole life."""

    def __init__(self, folder: Path, program: dict[str, Any]) -> None:
        self._folder = folder
        self._program = program
        self._status: dict[str, Any] = {"state": "starting", "runner_pid": os.getpid(), "started_at": _now()}
        self._stdout = BoundedLog(folder / STDOUT_FILE, program["log_bytes_max"])
        self._stderr = BoundedLog(folder / STDERR_FILE, program["log_bytes_max"])
        self._pipes = selectors.DefaultSelector()
        self._exit_status: int | None = None
        self._stopped_for = ""
        self._asked_at = 0.0
        self._kill_at = float("inf")
        self._asked_by_signal = False

    def run(self) -> None:
        """Start, watch until the end, leave nothing behind, tell how it ended."""
        signal.signal(signal.SIGTERM, self._note_signal)
        self._tell()
        try:
            process = self._start()
        except (OSError, ValueError) as error:
            self._tell(state="ended", ended_at=_now(), exit_code=None, because=self._not_started(error))
            return
        self._tell(state="running", pid=process.pid, process_started_ticks=start_ticks(process.pid))
        self._watch(process)
        self._clear_away()
        self._tell(state="ended", ended_at=_now(), **self._end())

    def _start(self) -> "subprocess.Popen[bytes]":
        runner_pid = os.getpid()
        niceness = self._program["nice"]

        def become_the_program() -> None:
            # Should the runner be killed, the program must not go on unwatched.
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != runner_pid:
                os._exit(EXIT_BUSY)
            os.nice(niceness)

        process = subprocess.Popen(
            self._program["command"],
            cwd=self._folder / JOB_FOLDER,
            env=self._program["environment"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=become_the_program,  # noqa: PLW1509 - the runner has one thread
        )
        for pipe, log in ((process.stdout, self._stdout), (process.stderr, self._stderr)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._pipes.register(pipe, selectors.EVENT_READ, log)
        return process

    def _watch(self, process: "subprocess.Popen[bytes]") -> None:
        """Until the program ends by itself or is made to."""
        renewal = Renewal(self._folder / RENEWED_FILE, self._program["lease_ttl_seconds"])
        while True:
            self._copy_output(POLL_SECONDS)
            self._reap(process)
            if self._exit_status is not None:
                return
            if self._stopped_for in {"", PAUSED} and (stop := self._stop_asked(renewal)):
                self._stop(process, *stop)
            if time.monotonic() >= self._kill_at:
                _signal_group(process.pid, signal.SIGKILL)

    def _stop(self, process: "subprocess.Popen[bytes]", reason: str, grace_seconds: float) -> None:
        """Ask the program to end, once; what is asked while it saves its state only shortens the time that it has."""
        if reason == self._stopped_for:
            return
        if not self._stopped_for:
            self._asked_at = time.time()
            _signal_group(process.pid, signal.SIGTERM)
        self._stopped_for = reason
        self._kill_at = min(self._kill_at, time.monotonic() + grace_seconds)

    def _stop_asked(self, renewal: "Renewal") -> tuple[str, float] | None:
        """Why the program is to be stopped and how long it may take to, if it is."""
        with contextlib.suppress(FileNotFoundError):
            asked = json.loads((self._folder / STOP_FILE).read_text())
            return asked["reason"], asked["grace_seconds"]
        grace_seconds = self._program["stop_grace_seconds"]
        if self._asked_by_signal:
            return "preempted", grace_seconds
        if renewal.lapsed():
            return "lapsed", grace_seconds
        return None

    def _copy_output(self, seconds: float) -> None:
        """Move what the program writes into its logs, waiting this long for something to come."""
        for key, _ in self._pipes.select(seconds):
            pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
            chunk = os.read(pipe.fileno(), 65_536)
            if chunk:
                key.data.write(chunk)
            else:
                self._pipes.unregister(pipe)
        if not self._pipes.get_map():
            time.sleep(seconds)

    def _reap(self, process: "subprocess.Popen[bytes]") -> bool:
        """Take leave of children that have ended, the program's orphans among them; whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == process.pid:
                self._exit_status = process.returncode = os.waitstatus_to_exitcode(status)

    def _clear_away(self) -> None:
        """Kill and reap whatever the program left, then read its last words."""
        give_up_at = time.monotonic() + REAP_PATIENCE_SECONDS
        while (left := descendants(os.getpid())) and time.monotonic() < give_up_at:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._copy_output(0.01)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        while self._pipes.get_map() and time.monotonic() < give_up_at:
            self._copy_output(0.01)
        self._stdout.close()
        self._stderr.close()

    def _end(self) -> dict[str, Any]:
        """How the program ended."""
        status = self._exit_status
        assert status is not None
        told: dict[str, Any] = {"exit_code": status if status >= 0 else None, "error_tail": self._stderr.tail()}
        if status < 0:
            told["because"] = f"the program was killed by {signal.Signals(-status).name}"
        if self._stopped_for:
            told["stopped_for"] = self._stopped_for
            told["has_saved"] = written_since(self._folder / CHECKPOINT_FOLDER, self._asked_at - WRITTEN_SLACK_SECONDS)
        return told

    def _not_started(self, error: OSError | ValueError) -> str:
        """ValueError: a text that no program can be given, such as one with a zero byte."""
        command = self._program["command"][0]
        because = error.strerror if isinstance(error, OSError) else error
        return f"command: {command!r} could not be started: {because}"

    def _note_signal(self, *_: object) -> None:
        self._asked_by_signal = True

    def _tell(self, **news: Any) -> None:
        """Write the status so that a reader sees all of it or the one before."""
        self._status.update(news)
        write_whole(self._folder / STATUS_FILE, json.dumps(self._status))


class BoundedLog:
    """Keeps the beginning of an output up to a bound, says where it was cut, and remembers the very end."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._file = path.open("wb", buffering=0)
        self._room_bytes = bytes_max
        self._bytes_max = bytes_max
        self._end = b""

    def write(self, chunk: bytes) -> None:
        """Take in a piece of output."""
        self._end = (self._end + chunk)[-TAIL_BYTES:]
        if self._room_bytes < 0:
            return
        self._file.write(chunk[: self._room_bytes])
        self._room_bytes -= len(chunk)
        if self._room_bytes < 0:
            self._file.write(f"\n[truncated: the first {self._bytes_max} bytes are kept]\n".encode())

    def tail(self) -> str:
        """The end of the output."""
        return self._end.decode(errors="replace")

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()


class Renewal:
    """Notices when a lease is renewed no more, by the machine's own time: a changed clock or a sleep stops nothing."""

    def __init__(self, path: Path, ttl_seconds: float) -> None:
        self._path = path
        self._ttl_seconds = ttl_seconds
        self._renewed = self._stamp()
        self._seen_at = time.monotonic()

    def lapsed(self) -> bool:
        """Whether the last renewal is too long ago."""
        if (renewed := self._stamp()) != self._renewed:
            self._renewed, self._seen_at = renewed, time.monotonic()
        return time.monotonic() - self._seen_at > self._ttl_seconds

    def _stamp(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0


def take_lock(folder: Path) -> IO[bytes] | None:
    """The lease's lock, held until this process ends; None where somebody else holds it."""
    lock = (folder / LOCK_FILE).open("ab")
    give_up_at = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                lock.close()
                return None
            time.sleep(0.02)
        else:
            return lock


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step, on the disk when this returns."""
    part = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def written_since(folder: Path, moment: float) -> bool:
    """Whether a file below a folder was written at or after a moment, in seconds since 1970."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                if (Path(parent) / name).lstat().st_mtime >= moment:
                    return True
    return False


def descendants(ancestor: int) -> list[int]:
    """All processes below one, that still run."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is needed, hundreds of them
        if entry.isdigit() and (fields := _stat_fields(int(entry))):
            parents[int(entry)] = int(fields[1])
    found: list[int] = []
    layer = [ancestor]
    while layer:
        layer = [pid for pid, parent in parents.items() if parent in layer]
        found += layer
    return found


def start_ticks(pid: int) -> int:
    """When a process began, in clock ticks since the machine did: with its pid it names a process for good. 0 when gone."""
    fields = _stat_fields(pid)
    return int(fields[19]) if fields else 0


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may itself hold blanks and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _now() -> str:
    return datetime.now(UTC).isoformat()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
