"""Finds journals without an end whose process is gone, and closes them. Only the end of a journal is read, however long it is."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from ergonaut.events.runs import RunState
from ergonaut.journal import READ_BYTES_MAX, EntryKind, JournalEntry, JournalWriter, is_end, parsed, read_entries
from ergonaut.metering import host_name
from ergonaut.tracking.identity import ProcessIdentity, boot_id

JOURNAL_FILE = "journal.jsonl"
DIED = "process died"
"""Why a run failed that this module closed."""

# A journal's last entries are a few kilobytes; they are looked for in this much, not in a file of many days.
_TAIL_BYTES = 64 * 1024
# Of a run in another container or on another machine only its journal can be seen; it has a line every minute at least, by the
# longest interval.
_STILL_SECONDS_MAX = 300.0

_under_way_here: set[str] = set()


def remember(run_id: str) -> None:
    """This process meters the run, so the run is not one of the program that the process was before an exec."""
    _under_way_here.add(run_id)


def forget(run_id: str) -> None:
    """The run has its end."""
    _under_way_here.discard(run_id)


def pid_namespace() -> str:
    """Among which processes this one's pid counts; empty where the system knows only one such list."""
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - a name, not a path
    except OSError:
        return ""


def journals_of(home: Path, newest: int | None = None) -> list[Path]:
    """The journals of a home, oldest first; only the newest so many where that is asked."""
    try:
        folders = sorted(each.name for each in os.scandir(home / "runs"))
    except OSError:
        return []
    wanted = folders if newest is None else folders[-newest:]
    journals = (home / "runs" / name / JOURNAL_FILE for name in wanted)
    return [journal for journal in journals if journal.exists()]


def close_dead_runs(home: Path, newest: int | None = None) -> list[Path]:
    """Close every run that has no end and cannot be living any more, as failed; gives their journals.

    A run cannot be living when its process is gone, which can be seen where it ran among the processes of this kernel and
    container; else, as in another container or on another machine that shares the home, when its journal has had no line for
    five minutes, though a living run writes one a minute at least. What the host calls itself plays no part. Two processes
    that close a run at once write its end twice, of which readers take the first. A journal that cannot be read or written
    is left for later.
    """
    return [journal for journal in journals_of(home, newest) if _closed(journal)]


def has_ended(journal: Path) -> bool:
    """Whether a journal tells of its run's end."""
    return any(is_end(line) for line in _tail(journal))


def has_died(journal: Path) -> bool:
    """Whether a run's end was written by this module, since the run itself could not."""
    died = f'"because":"{DIED}"'.encode()
    return any(is_end(line) and died in line for line in _tail(journal))


def _tail(journal: Path) -> list[bytes]:
    with journal.open("rb") as file:
        file.seek(max(0, journal.stat().st_size - _TAIL_BYTES))
        return file.read(_TAIL_BYTES).splitlines()


def _closed(journal: Path) -> bool:
    try:
        if has_ended(journal):
            return False
        first = _first_entry(journal)
        if first is None or first.started is None:
            return False
        if _goes_on(first, journal):
            return False
        last = next(_newest_entries(journal), first)
        with JournalWriter(journal) as writer:
            writer.write(JournalEntry(kind=EntryKind.FINISHED, at=last.at, state=RunState.FAILED, because=DIED))
    except OSError:
        return False
    return True


def _goes_on(first: JournalEntry, journal: Path) -> bool:
    pid = first.pid or 0
    if not _is_of_here(first):
        return not _is_still(journal)
    if pid == os.getpid():
        # A process that replaced its program keeps its pid and its age, but the new program does not go on with the run.
        return first.started is not None and first.started.run_id in _under_way_here
    process = ProcessIdentity(pid, first.process_started_at or 0.0, first.process_started_ticks, first.boot_id)
    return process.lives()


def _is_of_here(first: JournalEntry) -> bool:
    """Whether the run's process is, or was, one of those that can be seen from here, so that its pid says something."""
    assert first.started is not None
    if first.pid_namespace not in ("", pid_namespace()):
        return False
    here = boot_id()
    if first.boot_id and here:
        return first.boot_id == here
    # Systems other than Linux, and older journals, tell of no boot.
    return first.started.host == host_name()


def _is_still(journal: Path) -> bool:
    """Whether the journal has had no line for long, by the clock of whoever keeps the file, as it stamps both times."""
    written_at = journal.stat().st_mtime
    if time.time() - written_at < _STILL_SECONDS_MAX:
        # Where our own clock is behind, it is left for later; a file is only made where there is something to decide.
        return False
    import tempfile

    descriptor, probe = tempfile.mkstemp(prefix=".now-", dir=journal.parent)
    try:
        os.close(descriptor)
        return Path(probe).stat().st_mtime - written_at >= _STILL_SECONDS_MAX
    finally:
        Path(probe).unlink()


def _newest_entries(journal: Path) -> Iterator[JournalEntry]:
    entries, _ = read_entries(journal, max(0, journal.stat().st_size - _TAIL_BYTES))
    return reversed(entries)


def _first_entry(journal: Path) -> JournalEntry | None:
    with journal.open("rb") as file:
        return parsed(file.readline(READ_BYTES_MAX))
