"""How the ranks of a host find each other: each of the others leaves a note, and the first one meters who has left one.

A note is an empty file whose name says all, in a folder of the home that is the job's on this machine. So it is there at once
or not at all, on a full disk as well, and needs no lock: who renames or removes it first has it. Notes of dead processes count
for nothing, and the first rank removes them.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Self

from ergonaut.ids import derived_id
from ergonaut.metering import host_name
from ergonaut.metering.processes import ToldProcess
from ergonaut.metering.processtable import ProcessStat, ProcessTable, open_process_table
from ergonaut.tracking.closing import pid_namespace
from ergonaut.tracking.identity import boot_id
from ergonaut.tracking.ranks import Rank
from ergonaut.tracking.run import tell

# What ranks that were killed left behind in another boot or container, where nobody can tell whether they live.
_OLD_SECONDS = 30 * 86400.0
_OLD_LOOKED_AT_MAX = 100


class _State(StrEnum):
    FIRST = "first"
    """The first rank, which meters."""
    WAITING = "waiting"
    """A rank that nobody meters yet."""
    METERED = "metered"
    LEFT = "left"
    """It was metered and has left its part in the run; says what it had used."""
    MISSED = "missed"
    """It has left before the first rank looked."""


_STILL_IN = (_State.WAITING, _State.METERED)


@dataclass(frozen=True, slots=True)
class _Note:
    state: _State
    process: ProcessStat
    ended: ProcessStat | None = None

    @property
    def file_name(self) -> str:
        process = self.process
        fields = [process.pid, process.started, process.parent_pid, *_used(process)]
        return "_".join(map(str, [self.state.value, *fields, *(_used(self.ended) if self.ended else ())]))

    @classmethod
    def read(cls, file_name: str) -> Self | None:
        """The note of such a name; None where it is none."""
        state, *fields = file_name.split("_")
        try:
            pid, started, parent, *used = int(fields[0]), float(fields[1]), int(fields[2]), *map(float, fields[3:])
            process = ProcessStat(pid, parent, started, used[0], used[1], 0, ended=False)
            ended = replace(process, cpu_seconds=used[2], reaped_cpu_seconds=used[3]) if len(used) > 2 else None
            return cls(_State(state), process, ended)
        except (ValueError, IndexError):
            return None

    def lives(self, table: ProcessTable) -> bool:
        """Whether its process does."""
        stat = table.read(self.process.pid)
        return stat is not None and stat.started == self.process.started and not stat.ended

    def is_of(self, process: ProcessStat) -> bool:
        """Whether it is this process's."""
        return (self.process.pid, self.process.started) == (process.pid, process.started)


class _Folder:
    """Where the notes of a job on this machine lie."""

    def __init__(self, home: Path, job: str) -> None:
        self.path = home / "ranks" / derived_id("job", boot_id() or host_name(), pid_namespace(), job)

    def notes(self) -> list[_Note]:
        try:
            names = os.listdir(self.path)  # noqa: PTH208 - twice as fast as Path.iterdir
        except OSError:
            return []
        return [note for name in names if (note := _Note.read(name)) is not None]

    def put(self, note: _Note) -> None:
        """Write a note. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / note.file_name).touch()

    def turn(self, note: _Note, into: _Note) -> bool:
        """Make another note of one; says whether it was still there."""
        try:
            (self.path / note.file_name).rename(self.path / into.file_name)
        except OSError:
            return False
        return True

    def take(self, note: _Note) -> bool:
        """Remove a note; says whether it was still there."""
        try:
            (self.path / note.file_name).unlink()
        except OSError:
            return False
        return True

    def leave(self) -> None:
        """Remove the folder if nothing is in it."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


class Announcement:
    """A rank's word to the first one that its process is part of the run, until it leaves."""

    def __init__(self, home: Path, rank: Rank, table: ProcessTable) -> None:
        self._rank = rank
        self._table = table
        self._folder = _Folder(home, rank.job)
        # Of what a shell has started it may inherit the time, so only who was itself started as a rank can say its last.
        self._is_root = rank.root.pid == os.getpid()
        self._note = _Note(_State.WAITING, self._as_it_is())

    def begin(self) -> bool:
        """Leave word; says whether this process did, rather than one around it. Raises OSError."""
        if any(note.is_of(self._rank.root) and note.state in _STILL_IN for note in self._folder.notes()):
            return False
        self._folder.put(self._note)
        return True

    def leave(self) -> bool:
        """Say that the rank's part in the run has ended; says whether any first rank has had its word."""
        has_first = self._has_first()
        ended = self._as_it_is()
        missed, metered, left = (
            replace(self._note, state=_State.MISSED, ended=ended),
            replace(self._note, state=_State.METERED),
            replace(self._note, state=_State.LEFT, ended=ended),
        )
        # The first rank may take its word at this very moment, so the second look comes last.
        if has_first and self._folder.turn(self._note, missed):
            return not self._is_in_vain(missed)
        was_missed = not has_first and self._folder.take(self._note)
        if not (has_first and self._is_root):
            self._folder.take(metered)
        elif self._folder.turn(metered, left):
            self._is_in_vain(left)
        self._folder.leave()
        return not was_missed

    def _has_first(self) -> bool:
        return any(note.state is _State.FIRST and note.lives(self._table) for note in self._folder.notes())

    def _is_in_vain(self, note: _Note) -> bool:
        """Take a word back that nobody is there to hear any more, since the first rank left while it was written; says whether
        that is so."""
        if self._has_first():
            return False
        is_unheard = self._folder.take(note)
        self._folder.leave()
        return is_unheard

    def _as_it_is(self) -> ProcessStat:
        root = self._table.read(self._rank.root.pid) or self._rank.root
        own = None if self._is_root else self._table.read(os.getpid())
        return replace(root, cpu_seconds=root.cpu_seconds + own.total_cpu_seconds) if own is not None else root


class Fellows:
    """The other ranks of this host, as the first one finds them: by its launcher, or by their word."""

    def __init__(self, home: Path, rank: Rank, table: ProcessTable) -> None:
        self._rank = rank
        self._table = table
        self._folder = _Folder(home, rank.job)
        self._started: dict[int, float] = {}
        own = table.read(os.getpid()) or rank.root
        self._note = _Note(_State.FIRST, own)

    def begin(self) -> None:
        """Let the others know that they are metered. Raises OSError."""
        for note in self._folder.notes():
            if not note.lives(self._table):
                self._folder.take(note)
        self._folder.put(self._note)
        _remove_old(self._folder.path.parent)

    def include(self, pid: int) -> bool:
        """Whether a process is one of them."""
        if pid not in self._started:
            return self._rank.is_beside(self._table, pid)
        stat = self._table.read(pid)
        return stat is None or stat.started == self._started[pid]

    def told(self) -> Sequence[ToldProcess]:
        """Those that have told of themselves, or of their end, since they were asked last."""
        notes = self._folder.notes()
        return [told for note in notes if (told := self._heard(note, notes)) is not None]

    def close(self) -> None:
        """The run has ended; who still lives is nobody's, until another run begins."""
        self._folder.take(self._note)
        for note in self._folder.notes():
            if note.state not in _STILL_IN or not note.lives(self._table):
                self._folder.take(note)
        self._folder.leave()

    def _heard(self, note: _Note, notes: Sequence[_Note]) -> ToldProcess | None:
        process, is_known = note.process, self._started.get(note.process.pid) == note.process.started
        told: ToldProcess | None = None
        if note.state is _State.WAITING and note.lives(self._table):
            if self._folder.turn(note, replace(note, state=_State.METERED)):
                told = ToldProcess(process)
        elif note.state is _State.METERED and not is_known:
            # Left by a run of the same ranks that has ended, which has charged what was used up to then.
            if note.lives(self._table) and not self._has_another_first(notes):
                told = ToldProcess(process, counts_since_begun=False)
        elif (note.state is _State.MISSED or (note.state is _State.LEFT and is_known)) and self._folder.take(note):
            told = ToldProcess(process, note.ended)
        if told is not None:
            self._started[process.pid] = process.started
        return told

    def _has_another_first(self, notes: Sequence[_Note]) -> bool:
        others = (note for note in notes if note.state is _State.FIRST and note.process.pid != self._note.process.pid)
        return any(note.lives(self._table) for note in others)


def find_fellows(home: Path) -> Fellows | None:
    """The other ranks of this host, told that this process meters them; None for a program without ranks."""
    table = open_process_table()
    rank = Rank.of_this_process(table)
    if rank is None:
        return None
    fellows = Fellows(home, rank, table)
    # Without a home the launcher's other ranks are found all the same.
    with contextlib.suppress(OSError):
        fellows.begin()
    return fellows


def announce_rank(home: Path, name: str) -> Callable[[], None] | None:
    """Leave word that this rank is part of the first one's run; gives what says that it is no more, and whether it ever was."""
    table = open_process_table()
    rank = Rank.of_this_process(table)
    if rank is None:
        return None
    announcement = Announcement(home, rank, table)

    def leave() -> None:
        if not announcement.leave() and not _said_unmetered:
            _said_unmetered.append(name)
            tell(
                f"{name} is rank {rank.number} on this host, and no first rank there meters it: what it used is in no run, "
                "unless a program around it is tracked"
            )

    try:
        return leave if announcement.begin() else None
    except OSError as error:
        tell(f"{name} could not tell the first rank of this host that it is rank {rank.number}: {error}")
        return None


_said_unmetered: list[str] = []


def _used(process: ProcessStat) -> tuple[float, float]:
    return round(process.cpu_seconds, 3), round(process.reaped_cpu_seconds, 3)


def _remove_old(ranks: Path) -> None:
    for folder in _some(ranks):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _OLD_SECONDS:
                for note in folder.iterdir():
                    note.unlink()
                folder.rmdir()


def _some(ranks: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError), os.scandir(ranks) as entries:
        for entry, _ in zip(entries, range(_OLD_LOOKED_AT_MAX), strict=False):
            yield Path(entry.path)
