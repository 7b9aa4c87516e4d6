"""Closes the journals of runs whose process was killed, and sends what a bus that was away has not had yet."""

import os
import time
from pathlib import Path

from ergonaut.events.runs import RunState
from ergonaut.journal import READ_BYTES_MAX, EntryKind, JournalEntry, JournalWriter, all_entries, read_entries
from ergonaut.metering import host_name
from ergonaut.tracking.begun import JOURNAL_FILE
from ergonaut.tracking.options import BusAddress, Options, home_from
from ergonaut.tracking.outer import is_alive
from ergonaut.tracking.stream import BusStream, SentMark
from ergonaut.tracking.summary import RunSummary, summary_of

# A journal's last entry is a few kilobytes; the end is looked for in this much, not in a file of many days.
_TAIL_BYTES = 256 * 1024
# All that is left of all runs is sent within this time, or by the next call.
_SEND_SECONDS_MAX = 30.0


def recover_runs(home: Path | None = None) -> list[RunSummary]:
    """Close every run of this host that has no end and whose process is gone, as failed; gives their summaries.

    Where a bus is configured, what was not acknowledged of ended runs is sent as well. Runs that are under way, and those
    of other hosts that share the home, are left alone. Calling it twice changes nothing more.
    """
    folder = (home or home_from(os.environ)) / "runs"
    journals = sorted(folder.glob(f"*/{JOURNAL_FILE}"))
    closed = [journal for journal in journals if _closed(journal)]
    bus = Options.from_environment(os.environ).bus
    if bus is not None:
        _send_left(journals, bus)
    summaries = (summary_of(all_entries(journal), journal) for journal in closed)
    return [summary for summary in summaries if summary is not None]


def _closed(journal: Path) -> bool:
    """Close a journal if it needs that; says whether it did."""
    if _last_entry_ends(journal):
        return False
    first = _first_entry(journal)
    if first is None or first.started is None or first.started.host != host_name():
        return False
    if is_alive(first.pid or 0, first.process_started_at or 0.0):
        return False
    *_, last = all_entries(journal)
    with JournalWriter(journal) as writer:
        writer.write(JournalEntry(kind=EntryKind.FINISHED, at=last.at, state=RunState.FAILED, because="process died"))
    return True


def _send_left(journals: list[Path], bus: BusAddress) -> None:
    give_up_at = time.monotonic() + _SEND_SECONDS_MAX
    for journal in journals:
        left_seconds = give_up_at - time.monotonic()
        if left_seconds <= 0:
            return
        if SentMark(journal).exists and _last_entry_ends(journal):
            stream = BusStream(journal, bus)
            stream.start()
            stream.stop(left_seconds)


def _last_entry_ends(journal: Path) -> bool:
    entries, _ = read_entries(journal, max(0, journal.stat().st_size - _TAIL_BYTES))
    return any(entry.kind is EntryKind.FINISHED for entry in entries)


def _first_entry(journal: Path) -> JournalEntry | None:
    with journal.open("rb") as file:
        line = file.readline(READ_BYTES_MAX)
    try:
        return JournalEntry.model_validate_json(line)
    except ValueError:
        return None
