"""Stops a program and all that it has started: asks by SIGTERM, and kills what is still there after a grace."""

import contextlib
import threading
from collections.abc import Iterable

import psutil


class TreeStopper:
    """Stops one program at most once, also when it is asked to before the program is known."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._lock = threading.Lock()
        self._root: psutil.Process | None = None
        self._wanted = False
        self._timer: threading.Timer | None = None
        self._asked: list[psutil.Process] = []

    def know(self, pid: int) -> None:
        """Say which program it is."""
        with contextlib.suppress(psutil.NoSuchProcess), self._lock:
            self._root = psutil.Process(pid)
            if self._wanted:
                self._ask()

    def stop(self) -> None:
        """Ask the program to end, and see to it that it does."""
        with self._lock:
            if not self._wanted:
                self._wanted = True
                self._ask()

    def finish(self) -> None:
        """The program has ended; what it left behind of what was asked to end gets no more grace."""
        with self._lock:
            if self._timer is None:
                return
            self._timer.cancel()
            self._kill()

    def _ask(self) -> None:
        if self._root is None:
            return
        self._asked = self._tree()
        _each(self._asked, "terminate")
        self._timer = threading.Timer(self._grace_seconds, self._kill_late)
        self._timer.daemon = True
        self._timer.start()

    def _kill_late(self) -> None:
        with self._lock:
            self._kill()

    def _kill(self) -> None:
        # Children may have been started during the grace, and those of a parent that has gone are found no more below it.
        _each({*self._asked, *self._tree()}, "kill")

    def _tree(self) -> list[psutil.Process]:
        assert self._root is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            return [*self._root.children(recursive=True), self._root]
        return []


def _each(processes: Iterable[psutil.Process], signal: str) -> None:
    for process in processes:
        # psutil looks at when the process began before it signals, so a pid that was used again is left alone.
        with contextlib.suppress(psutil.Error):
            getattr(process, signal)()
