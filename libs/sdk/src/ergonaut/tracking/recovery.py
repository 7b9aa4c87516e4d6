"""Closes the journals of runs whose process was killed, and sends what a bus that was away has not had yet."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ergonaut.journal import all_entries
from ergonaut.tracking.closing import close_dead_runs, has_died, has_ended, journals_of
from ergonaut.tracking.options import BusAddress, Options, home_from
from ergonaut.tracking.run import tell
from ergonaut.tracking.sentmark import SentMark
from ergonaut.tracking.summary import RunSummary, summary_of

# All that is left of all runs is sent within this time, or by the next call.
_SEND_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Sending:
    """How many runs, of those that the bus has not had, it has now had whole."""

    sent: int = 0
    left: int = 0
    because: str = ""
    """Why some are left; empty where none is."""

    @property
    def left_in_words(self) -> str:
        """What to say of those that are left."""
        return (
            f"{self.left} runs could not be sent to ERGONAUT_NATS_URL ({self.because}); they are kept, and "
            "`ergonaut recover` sends them once the bus takes them"
        )


def recover_runs(home: Path | None = None) -> list[RunSummary]:
    """Close every run of this host that has no end and whose process is gone, as failed; gives their summaries.

    Where a bus is configured, what was not acknowledged of ended runs is sent as well, and one line tells of those that it
    did not take. Runs that are under way, and those of other hosts that share the home, are left alone. Calling it twice
    changes nothing more.
    """
    closed = close_runs(home)
    sending = send_runs(home)
    if sending.left:
        tell(sending.left_in_words)
    return closed


def close_runs(home: Path | None = None) -> list[RunSummary]:
    """The first half of `recover_runs`."""
    return _summaries(close_dead_runs(home or home_from(os.environ)))


def send_runs(home: Path | None = None) -> Sending:
    """The other half of `recover_runs`; nothing is sent, and nothing is left, where no bus is configured."""
    bus = Options.from_environment(os.environ).bus
    return _sent(journals_of(home or home_from(os.environ)), bus) if bus is not None else Sending()


def recovered_runs(home: Path | None = None) -> list[RunSummary]:
    """Every run that was ever closed because its process had died, oldest first."""
    return _summaries(journal for journal in journals_of(home or home_from(os.environ)) if has_died(journal))


def _summaries(journals: Iterable[Path]) -> list[RunSummary]:
    summaries = (summary_of(all_entries(journal), journal) for journal in journals)
    return [summary for summary in summaries if summary is not None]


def _sent(journals: list[Path], bus: BusAddress) -> Sending:
    from ergonaut.tracking.stream import BusStream

    give_up_at = time.monotonic() + _SEND_SECONDS_MAX
    sent, left, because = 0, 0, ""
    for journal in journals:
        if not SentMark(journal).exists or not has_ended(journal):
            continue
        left_seconds = give_up_at - time.monotonic()
        if left_seconds > 0:
            stream = BusStream(journal, bus)
            stream.start()
            if stream.stop(left_seconds):
                sent += 1
                continue
            because = stream.last_error
        left += 1
    return Sending(sent, left, (because or "no answer in time") if left else "")
