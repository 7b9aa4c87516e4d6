"""Removes the journals of ended runs that have been kept long enough, of each of which one line stays.

A run writes 1.7 kB a second. The command `ergonaut recover --prune` removes all that is due; a tracker that begins removes a few
that are too old, now and then.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ergonaut.journal import all_entries
from ergonaut.tracking.closing import JOURNAL_FILE, has_ended, journals_of
from ergonaut.tracking.sentmark import SentMark
from ergonaut.tracking.summary import RunSummary, summary_of
from ergonaut.units import SECONDS_PER_HOUR

PRUNED_FILE = "pruned.jsonl"
"""In the home: the summaries of the runs whose journals were removed, a line each. A run may have two of the same."""

_SUMMARY_FILE = "summary.json"
_SECONDS_PER_DAY = 24 * SECONDS_PER_HOUR
_BYTES_PER_GIBIBYTE = 1024**3
# Exporters may still read the journal of a run that has just ended, for half a minute.
_SETTLED_SECONDS = 300.0
# So often at most, and so many folders, when a run begins: 30 ms where all of them are due, and four thousand a day.
_NOW_AND_THEN_SECONDS = SECONDS_PER_HOUR
_LOOKED_AT_MAX = 200


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept; whatever is beyond either bound may be removed, the oldest first."""

    days: float = 30.0
    gibibytes: float = 1.0


@dataclass(frozen=True, slots=True)
class KeptJournal:
    """One journal of a home, and whether it may be removed at all."""

    journal: Path
    size_bytes: int
    written_at: float
    may_be_removed: bool

    def to_json(self) -> dict[str, object]:
        """As JSON takes it; the time is in Unix seconds."""
        return {
            "run_id": self.journal.parent.name,
            "journal": str(self.journal),
            "size_bytes": self.size_bytes,
            "written_at": self.written_at,
        }


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or would be, and what stays."""

    removed: tuple[KeptJournal, ...]
    kept: tuple[KeptJournal, ...]

    def to_json(self) -> dict[str, object]:
        """As JSON takes it."""
        return {
            "removed": [each.to_json() for each in self.removed],
            "kept": [each.to_json() for each in self.kept],
        }


def write_summary(journal: Path, summary: RunSummary) -> None:
    """Keep a run's summary beside its journal, so that the journal can be removed without reading it again."""
    with suppress(OSError):
        journal.with_name(_SUMMARY_FILE).write_text(json.dumps(summary.to_json()) + "\n")


def prune_runs(home: Path, retention: Retention, *, dry_run: bool = False) -> Pruned:
    """Remove the journals that are due, the oldest first; a journal that cannot be removed stays, and is told as kept.

    Only runs that have ended, and of which nothing is left to send, are ever due.
    """
    journals = sorted(_looked_at(journals_of(home)), key=lambda each: each.written_at)
    removed: list[KeptJournal] = []
    kept: list[KeptJournal] = []
    bytes_left = sum(each.size_bytes for each in journals)
    oldest_kept = time.time() - retention.days * _SECONDS_PER_DAY
    for each in journals:
        is_due = each.written_at < oldest_kept or bytes_left > retention.gibibytes * _BYTES_PER_GIBIBYTE
        if is_due and each.may_be_removed and (dry_run or _removed(home, each.journal)):
            removed.append(each)
            bytes_left -= each.size_bytes
        else:
            kept.append(each)
    return Pruned(tuple(removed), tuple(kept))


def prune_now_and_then(home: Path, retention: Retention) -> None:
    """Remove a few journals that are too old, of runs whose summary is at hand; bounded, and never a reason to fail."""
    with suppress(OSError):
        if not _is_time(home):
            return
        oldest_kept = time.time() - retention.days * _SECONDS_PER_DAY
        for each in _looked_at(_a_few(home)):
            at_hand = each.journal.with_name(_SUMMARY_FILE).exists()
            if each.written_at < oldest_kept and each.may_be_removed and at_hand:
                _removed(home, each.journal)


def _looked_at(journals: list[Path]) -> Iterator[KeptJournal]:
    settled_at = time.time() - _SETTLED_SECONDS
    for journal in journals:
        with suppress(OSError):
            stat = journal.stat()
            may_be_removed = stat.st_mtime < settled_at and not SentMark(journal).exists and has_ended(journal)
            yield KeptJournal(journal, stat.st_size, stat.st_mtime, may_be_removed)


def _removed(home: Path, journal: Path) -> bool:
    try:
        line = _summary_line(journal)
        with (home / PRUNED_FILE).open("ab", buffering=0) as file:
            if file.write(line) != len(line):
                # A disk that fills takes what still fits; without its line the journal stays.
                return False
        journal.unlink()
        journal.with_name(_SUMMARY_FILE).unlink(missing_ok=True)
    except OSError:
        return False
    # What else somebody has put there is theirs.
    with suppress(OSError):
        journal.parent.rmdir()
    return True


def _summary_line(journal: Path) -> bytes:
    with suppress(OSError):
        line = journal.with_name(_SUMMARY_FILE).read_bytes()
        if line.endswith(b"}\n"):
            return line
    summary = summary_of(all_entries(journal), journal)
    told = summary.to_json() if summary is not None else {"run_id": journal.parent.name}
    return json.dumps(told).encode() + b"\n"


def _is_time(home: Path) -> bool:
    last = home / ".pruned-at"
    with suppress(FileNotFoundError):
        if 0 <= time.time() - last.stat().st_mtime < _NOW_AND_THEN_SECONDS:
            return False
    last.touch()
    return True


def _a_few(home: Path) -> list[Path]:
    """The oldest by name, and as many from a place that moves on, lest some that must stay keep all others from their turn."""
    names = sorted(each.name for each in os.scandir(home / "runs"))
    few = _LOOKED_AT_MAX // 2
    turn = int(time.time() / _NOW_AND_THEN_SECONDS) * few % max(1, len(names))
    wanted = dict.fromkeys([*names[:few], *names[turn : turn + few]])
    return [journal for name in wanted if (journal := home / "runs" / name / JOURNAL_FILE).exists()]
