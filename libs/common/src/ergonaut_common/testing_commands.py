"""`ergonaut` on the command line, hundreds of times in tests, without an interpreter's start each. Imported by test code only.

A process that has loaded what the command line stands on, and nothing that looks at its environment, forks for each command. What
a person sees is the same: a process with its own environment, folder and output, which ends as an interpreter does. That the
command starts by itself is seen where it is started as `python -m ergonaut`, as `ergonaut up` is.
"""

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

LOADED = (
    *("grpc.aio", "httpx", "pydantic.type_adapter", "typer", "yaml"),
    *("ergonaut.client", "ergonaut.endpointfile", "ergonaut.events.runs", "ergonaut.jobfile", "ergonaut.journal"),
    *("ergonaut.local", "ergonaut.pipelinefile", "ergonaut.recipefile", "ergonaut.reports"),
)
"""What most commands load; none of it reads the environment as it is loaded (`ergonaut.cli` does, for the terminal's width)."""

HARMLESS = frozenset({"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED"})
"""What of the interpreter's own settings changes nothing that a command says."""

_LENGTH = struct.Struct("!I")
_STATUS = struct.Struct("!i")


def ergonaut_command(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 90
) -> "subprocess.CompletedProcess[str]":
    """Run `ergonaut ARGUMENTS` and give what it said, as `subprocess.run` does with captured text."""
    environment = dict(os.environ if env is None else env)
    if _is_another_python(environment):
        return started_command(*arguments, env=environment, cwd=cwd, timeout=timeout)
    asked = {"arguments": arguments, "environment": environment, "folder": str(cwd or Path.cwd())}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = _forks().run(asked, (out.fileno(), err.fileno()), timeout)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess(["ergonaut", *arguments], code, *said)


def started_command(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 90
) -> "subprocess.CompletedProcess[str]":
    """The same by an interpreter that is started for it."""
    command = [sys.executable, "-m", "ergonaut", *arguments]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def _is_another_python(environment: Mapping[str, str]) -> bool:
    """Whether an interpreter that starts with this environment would be another than ours is."""
    told = [
        {name: value for name, value in each.items() if name.startswith("PYTHON") and name not in HARMLESS}
        for each in (environment, os.environ)
    ]
    return told[0] != told[1]


class Forks:
    """The process that forks, as its owner sees it; it ends when the owner does."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self._lock = threading.Lock()

    def run(self, asked: Mapping[str, Any], outputs: tuple[int, int], timeout: float) -> int:
        """The exit code of a command; raises TimeoutExpired where it takes longer, and ends it."""
        told = json.dumps(asked).encode()
        ends, theirs = os.pipe()
        try:
            try:
                with self._lock:
                    socket.send_fds(self._socket, [_LENGTH.pack(len(told))], [*outputs, theirs])
                    self._socket.sendall(told)
            finally:
                os.close(theirs)
            give_up_at = time.monotonic() + timeout
            pid = _told(ends, give_up_at)
            code = None if pid is None else _told(ends, give_up_at)
        finally:
            os.close(ends)
        if code is None:
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(asked["arguments"]), timeout)
        return code


@cache
def _forks() -> Forks:
    return Forks()


def _told(status: int, give_up_at: float) -> int | None:
    """A number from whoever waits for the command; None where it does not come in time."""
    ready, _, _ = select.select([status], [], [], max(0.0, give_up_at - time.monotonic()))
    if not ready:
        return None
    told = os.read(status, _STATUS.size)
    assert len(told) == _STATUS.size, "the process that forks commands has ended"
    return int(_STATUS.unpack(told)[0])


def _serve(door: socket.socket) -> dict[str, Any] | None:
    """Fork for each command that is asked for. Gives None at the end; and in a process that is to be a command, what is asked."""
    # Those who wait for commands are children too, and nobody asks how they ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        head, descriptors, _, _ = socket.recv_fds(door, _LENGTH.size, 3)
        if not head:
            return None
        asked: dict[str, Any] = json.loads(_all_of(door, _LENGTH.unpack(head)[0]))
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            door.close()
            return _command(asked, descriptors)
        for each in descriptors:
            os.close(each)


def _command(asked: dict[str, Any], descriptors: Sequence[int]) -> dict[str, Any]:
    """Fork once more: one process waits and tells how the other ended, which returns to be the command."""
    out, err, status = descriptors
    pid = os.fork()
    if pid:
        os.write(status, _STATUS.pack(pid))
        _, ended = os.waitpid(pid, 0)
        with contextlib.suppress(BrokenPipeError):
            os.write(status, _STATUS.pack(os.waitstatus_to_exitcode(ended)))
        os._exit(0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    for each in descriptors:
        os.close(each)
    return asked


def _all_of(door: socket.socket, length: int) -> bytes:
    told = b""
    while len(told) < length:
        more = door.recv(length - len(told))
        assert more, "whoever asked has gone within a question"
        told += more
    return told


def main() -> None:
    """Be the process that forks; in each fork, be `python -m ergonaut`."""
    for name in LOADED:
        import_module(name)
    # What is there stays there: forks need not look at it, and so not copy it, when they search for garbage.
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as door:
        asked = _serve(door)
    if asked is None:
        return
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    os.chdir(asked["folder"])
    # As `python -m` has it: the folder first, and the module's own file as the program's name.
    sys.path[0] = asked["folder"]
    sys.argv = ["ergonaut", *asked["arguments"]]
    runpy.run_module("ergonaut", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
