"""Tells a signal to our whole process group, which a program that we started has had too, from a signal to us alone.

The kernel does not say which it was. So a process of its own waits in the group, and dies of what the group is sent.
"""

import contextlib
import os
import re
import signal
import time
from pathlib import Path

# Whatever POSIX system there is has this shell. It waits for its input to end, which it does when we end, however that is.
_SHELL = "/bin/sh"
_COMMAND = (_SHELL, "-c", "ulimit -c 0; read nothing")
# A group gets its signal at one moment; but Slurm signals all processes of a step one by one.
_HAS_IT_WITHIN_SECONDS = 0.1
# A process that has a deadly signal is only gone when it has had its turn, which on a crowded machine takes a while.
_IS_GONE_WITHIN_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.002


class GroupWitness:
    """A process in our group that does nothing but die of the group's signals; nobody where none can be started."""

    def __init__(self) -> None:
        self._pid = 0
        self._writer = -1
        self._seen: list[int] = []
        self._is_beginning = False

    @property
    def is_there(self) -> bool:
        """Whether there is somebody to ask."""
        return self._pid > 0

    def begin(self) -> None:
        """Start to wait for signals, if nobody does; a signal handler may ask for it at any moment."""
        if self.is_there or self._is_beginning:
            return
        self._is_beginning = True
        with contextlib.suppress(OSError):
            self._start()
        self._is_beginning = False

    def saw(self, number: int) -> bool:
        """Whether the group has had a signal that we have just had; waits a moment to be sure that it has not."""
        began = time.monotonic()
        while True:
            if died_of := self._died_of():
                self._seen.append(died_of)
            if number in self._seen:
                self._seen.remove(number)
                return True
            waited_seconds = time.monotonic() - began
            if waited_seconds > (_IS_GONE_WITHIN_SECONDS if self._is_dying() else _HAS_IT_WITHIN_SECONDS):
                return False
            time.sleep(_LOOK_AGAIN_SECONDS)

    def end(self) -> None:
        """Let it go."""
        if not self.is_there:
            return
        os.close(self._writer)
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._pid = 0

    def _start(self) -> None:
        if not hasattr(os, "posix_spawn"):
            return
        reader, writer = os.pipe()
        try:
            silent = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
            actions = [(os.POSIX_SPAWN_DUP2, reader, 0), *silent]
            self._pid, self._writer = os.posix_spawn(_SHELL, _COMMAND, {}, file_actions=actions), writer
        except OSError:
            os.close(writer)
            raise
        finally:
            os.close(reader)

    def _died_of(self) -> int:
        """The signal that it has died of since it was asked last; 0 where it lives, or ended otherwise."""
        if not self.is_there:
            return 0
        try:
            ended, status = os.waitpid(self._pid, os.WNOHANG)
        except OSError:
            return 0
        if not ended:
            return 0
        os.close(self._writer)
        self._pid = 0
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def _is_dying(self) -> bool:
        """Whether a signal waits for it; where the system does not tell, it is quick enough to die."""
        try:
            status = Path(f"/proc/{self._pid}/status").read_bytes()
        except OSError:
            return False
        return any(int(mask, 16) for mask in re.findall(rb"^(?:Sig|Shd)Pnd:\s*([0-9a-f]+)$", status, re.MULTILINE))
