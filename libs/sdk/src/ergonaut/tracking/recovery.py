"""Closes the journals of runs whose process was killed, and sends what a bus that was away has not had yet."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from ergonaut.journal import all_entries
from ergonaut.tracking.closing import close_dead_runs, has_died, has_ended, journals_of
from ergonaut.tracking.options import BusAddress, Options, home_from
from ergonaut.tracking.sentmark import SentMark
from ergonaut.tracking.summary import RunSummary, summary_of

# All that is left of all runs is sent within this time, or by the next call.
_SEND_SECONDS_MAX = 30.0


def recover_runs(home: Path | None = None) -> list[RunSummary]:
    """Close every run of this host that has no end and whose process is gone, as failed; gives their summaries.

    Where a bus is configured, what was not acknowledged of ended runs is sent as well. Runs that are under way, and those
    of other hosts that share the home, are left alone. Calling it twice changes nothing more.
    """
    folder = home or home_from(os.environ)
    closed = close_dead_runs(folder)
    bus = Options.from_environment(os.environ).bus
    if bus is not None:
        _send_left(journals_of(folder), bus)
    return _summaries(closed)


def recovered_runs(home: Path | None = None) -> list[RunSummary]:
    """Every run that was ever closed because its process had died, oldest first."""
    return _summaries(journal for journal in journals_of(home or home_from(os.environ)) if has_died(journal))


def _summaries(journals: Iterable[Path]) -> list[RunSummary]:
    summaries = (summary_of(all_entries(journal), journal) for journal in journals)
    return [summary for summary in summaries if summary is not None]


def _send_left(journals: list[Path], bus: BusAddress) -> None:
    from ergonaut.tracking.stream import BusStream

    give_up_at = time.monotonic() + _SEND_SECONDS_MAX
    for journal in journals:
        left_seconds = give_up_at - time.monotonic()
        if left_seconds <= 0:
            return
        if SentMark(journal).exists and has_ended(journal):
            stream = BusStream(journal, bus)
            stream.start()
            stream.stop(left_seconds)
