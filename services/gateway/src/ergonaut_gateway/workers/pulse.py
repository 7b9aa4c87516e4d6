"""Whether a worker is stuck: its loop goes round no more, or a run of its goes on that was told to end. Its parent looks.

Looks are counted and not seconds: a parent that was itself stopped for a while, with all its workers, must not take that for
their silence.
"""

import os
import re
import tempfile
from enum import StrEnum
from typing import IO

LOOKS = 8
"""How often it is looked within the time after which a worker counts as stuck; a worker beats twice as often."""

BEAT_SECONDS_MAX = 1.0
"""The longest pause between two beats; each costs some microseconds."""

STACK_SECONDS = 0.3
"""How long a stuck worker has to write down where it stands; one that the system has stopped writes nothing."""

FRAMES_MAX = 6
"""Of the innermost frames that are told."""

_FRAME = re.compile(r'^  File "(?:.*/)?([^/"]+/[^/"]+)", line (\d+) in (\S+)$', re.MULTILINE)


class Because(StrEnum):
    """Why a worker was replaced."""

    ENDED = "ended"
    """It died, or was killed from without."""

    SILENT = "silent"
    """Its loop went round no more."""

    OVERDUE = "overdue"
    """A run went on that was told to end."""


def look_seconds(stuck_seconds: float) -> float:
    """The pause between two looks."""
    return stuck_seconds / LOOKS


def beat_seconds(stuck_seconds: float) -> float:
    """The pause between two beats."""
    return min(look_seconds(stuck_seconds) / 2, BEAT_SECONDS_MAX)


class Pulse:
    """What a parent has seen of one worker's beats."""

    def __init__(self, stuck_seconds: float) -> None:
        self._stuck_seconds = stuck_seconds
        self._beats = 0
        self._silent_looks = 0
        self._looks_until_told_again = 0

    def look(self, beats: int, overdue_seconds: float) -> Because | None:
        """Why the worker is to be replaced, by its beats until now; nothing where it is well."""
        self._silent_looks = self._silent_looks + 1 if beats == self._beats else 0
        self._beats = beats
        if self._silent_looks > LOOKS:
            return Because.SILENT
        if self._looks_until_told_again:
            # Another is on its way, or could not take its place, which is tried again after a while.
            self._looks_until_told_again -= 1
        elif overdue_seconds > self._stuck_seconds:
            self._looks_until_told_again = LOOKS
            return Because.OVERDUE
        return None


def stack_file() -> IO[bytes]:
    """Where a worker writes down where it stands when it is asked to; both it and its parent have it open."""
    if hasattr(os, "memfd_create"):
        # Where no folder may be written to there is none for it either.
        return os.fdopen(os.memfd_create("ergonaut-gateway-stack"), "wb+")
    return tempfile.TemporaryFile(prefix="ergonaut-gateway-")


def innermost(written: IO[bytes]) -> list[str]:
    """Where the thread that runs the loop stands, innermost first, as `file:line function`; nothing where nothing is written."""
    text = os.pread(written.fileno(), 1 << 20, 0).decode(errors="replace")
    # Threads follow one another; the first that there was, which runs the loop, is the last.
    return [f"{file}:{line} {function}" for file, line, function in _FRAME.findall(text.rpartition("\n\n")[2])][
        :FRAMES_MAX
    ]
