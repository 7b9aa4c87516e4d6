"""The file in which a run tells, line by line, what it does and uses; it survives the run's sudden death.

`ergonaut.track()` writes it; the orchestrator tails it, the tracker's stream sends from it, `recover_runs` closes it.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ergonaut.events.runs import RunStarted, RunState
from ergonaut.events.telemetry import PowerSampled

# Also the longest line that is believed: a line is a few kilobytes, so one longer than this is damage.
READ_BYTES_MAX = 8 * 1024 * 1024
# A killed process loses nothing that was written; the disk is only forced for the sake of a machine that loses power. Each
# second it would be a tenth of what the tracker itself costs.
FSYNC_SECONDS_MIN = 5.0
# As entries are written, the kind comes first; a text within an entry cannot hold the line's break before it.
_END = b'{"kind":"finished"'


class EntryKind(StrEnum):
    """What a line of the journal tells."""

    STARTED = "started"
    PHASE = "phase"
    METRIC = "metric"
    SAMPLE = "sample"
    FINISHED = "finished"


class JournalEntry(BaseModel):
    """One line. Which fields are set follows from the kind; the others keep their defaults and are not written."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")

    kind: EntryKind
    at: AwareDatetime = Field(description="When it was so, UTC.")
    started: RunStarted | None = Field(default=None, description="started: the run, as its event tells it.")
    pid: int | None = Field(
        default=None,
        description="started: the process that writes. metric: the process that told it, where that is another one.",
    )
    process_started_at: float | None = Field(
        default=None,
        description="started: when that process began, Unix seconds; tells it from a later one of its pid.",
    )
    process_started_ticks: int | None = Field(
        default=None,
        description="started: the same in the kernel's ticks since boot, which no setting of the clock changes.",
    )
    boot_id: str = Field(
        default="",
        description="started: which boot of which machine it was, as Linux names it; the same in containers.",
    )
    pid_namespace: str = Field(
        default="",
        description="started: among which processes that pid counts, as Linux names it; containers have their own.",
    )
    phase: str = Field(
        default="",
        description="phase: where the run is from now on, nested ones joined by `/`, empty for none. metric: its phase.",
    )
    step: int | None = Field(default=None, description="phase: the innermost phase's number, such as the epoch.")
    left: str = Field(default="", description="phase: the phase that was left, as `phase` names it; empty on entering.")
    left_step: int | None = Field(default=None, description="phase: the number of the phase that was left.")
    left_since: AwareDatetime | None = Field(
        default=None, description="phase: when the phase that was left was entered; null on entering."
    )
    name: str = Field(default="", description="metric: its name.")
    value: float | None = Field(default=None, description="metric: its value; null where it was no finite number.")
    counted: float | None = Field(
        default=None, description="metric: work done since the last entry of that name, for work that is counted."
    )
    sampled: PowerSampled | None = Field(
        default=None, description="sample: one interval's energy, as its event tells it."
    )
    idle_joules: float | None = Field(
        default=None, description="sample: what the host used for being on; charged to no run."
    )
    others_joules: float | None = Field(default=None, description="sample: what the host's other processes used.")
    state: RunState | None = Field(default=None, description="finished: how the run ended.")
    exit_code: int | None = Field(default=None, description="finished: the program's, where it is known.")
    because: str = Field(default="", description="finished: why it failed.")
    entries_missing: int | None = Field(
        default=None,
        description="finished: how many entries are not in the journal, since the disk did not take them.",
    )


class JournalWriter:
    """Appends entries to a journal; each is in the hands of the operating system when `write` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._synced_at = time.monotonic()
        self._is_torn = _ends_torn(path)

    def write(self, entry: JournalEntry) -> int:
        """Append one line, in one write, so that a reader or a crash never finds it mixed with another; gives its bytes.

        Raises OSError where it could not be written; the same entry may be written again then.
        """
        line = entry.model_dump_json(exclude_defaults=True).encode() + b"\n"
        if self._is_torn:
            # Whoever tore the last line, what it was is passed over by readers once it is ended.
            line = b"\n" + line
        written = self._file.write(line) or 0
        if written != len(line):
            # A disk that fills takes what still fits, and says so only by the length.
            self._is_torn = self._is_torn or written > 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._is_torn = False
        # Samples come from the meter's own thread; a program that tells a phase must not wait for the disk.
        if entry.kind is EntryKind.SAMPLE and time.monotonic() - self._synced_at >= FSYNC_SECONDS_MIN:
            # The line is written, and would be twice if this failure had it written again.
            with contextlib.suppress(OSError):
                self._sync()
        return len(line)

    @property
    def size_bytes(self) -> int:
        """How long the file is now, whoever wrote to it. Raises OSError."""
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Force the last lines to the disk and close the file; closing twice is harmless."""
        if not self._file.closed:
            self._sync()
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sync(self) -> None:
        self._synced_at = time.monotonic()
        os.fsync(self._file.fileno())


def read_entries(path: Path, offset: int = 0) -> tuple[list[JournalEntry], int]:
    """The whole lines after an offset, and the offset to go on from; call again until the offset stands still.

    A last line that is not ended yet is left for the next call. A line that was torn by a crash and ended later is
    passed over. A file that is not there is an empty journal.
    """
    lines, offset = read_lines(path, offset)
    return [entry for line in lines if (entry := parsed(line)) is not None], offset


def read_lines(path: Path, offset: int = 0) -> tuple[list[bytes], int]:
    """The same before anything of it is understood, for who wants few of the lines."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            block = file.read(READ_BYTES_MAX)
    except FileNotFoundError:
        return [], offset
    end = block.rfind(b"\n") + 1
    if end == 0:
        return [], offset + (len(block) if len(block) == READ_BYTES_MAX else 0)
    return block[:end].splitlines(), offset + end


def all_entries(path: Path) -> Iterator[JournalEntry]:
    """Every entry of a journal, read in blocks, so that a journal of many days fits in little memory."""
    offset = 0
    while True:
        entries, new_offset = read_entries(path, offset)
        yield from entries
        if new_offset == offset:
            return
        offset = new_offset


def is_end(line: bytes) -> bool:
    """Whether a line tells of a run's end, without understanding the rest of it."""
    return line.startswith(_END)


def parsed(line: bytes) -> JournalEntry | None:
    """The entry that a line tells; None for a torn line."""
    try:
        return JournalEntry.model_validate_json(line)
    except ValueError:
        return None


def _ends_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
