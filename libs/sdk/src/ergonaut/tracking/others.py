"""Figures that a run's other processes told, read from its journal while that grows; the run's summary has them too."""

import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from ergonaut.journal import EntryKind, parsed, read_lines
from ergonaut.journal_phases import add_metric

# As entries are written, the kind comes first; a text within an entry cannot hold a quotation mark that is not escaped.
_METRIC = b'{"kind":"metric"'
_OF_ANOTHER = b'"pid":'
# Of 8 MiB each. What comes between two samples is a few kilobytes; the rest of a flood is read at the end, up to this.
_BLOCKS_MAX = 8


class OthersFigures:
    """Follows a journal and keeps what others than the run's own process told in it. Safe in threads."""

    def __init__(self, journal: Path, offset: int) -> None:
        """Everything before the offset, in bytes, was there before the run."""
        self._journal = journal
        self._offset = offset
        self._lock = threading.Lock()
        self._counted: dict[str, float] = {}
        self._figures: dict[str, float] = {}
        self._told_at: dict[str, datetime] = {}

    def read(self, blocks_max: int = _BLOCKS_MAX) -> None:
        """Take in what has come since the last time. What cannot be read now is read the next time."""
        with self._lock:
            for _ in range(blocks_max):
                try:
                    lines, offset = read_lines(self._journal, self._offset)
                except OSError:
                    return
                if offset == self._offset:
                    return
                self._offset = offset
                for line in lines:
                    if line.startswith(_METRIC) and _OF_ANOTHER in line:
                        self._take(line)

    def joined(
        self, figures: Mapping[str, float], told_at: Mapping[str, datetime], counted: Mapping[str, float]
    ) -> dict[str, float]:
        """A run's own figures together with those of the others: the newest of each name counts, and counted work adds up."""
        with self._lock:
            newer = {
                name: figure
                for name, figure in self._figures.items()
                if name not in told_at or self._told_at[name] >= told_at[name]
            }
            totals = {name: self._counted.get(name, 0.0) + amount for name, amount in counted.items()}
            return {**figures, **newer, **self._counted, **totals}

    def _take(self, line: bytes) -> None:
        entry = parsed(line)
        if entry is None or entry.kind is not EntryKind.METRIC or entry.pid is None:
            return
        if entry.counted is not None:
            add_metric(self._counted, entry)
        elif entry.name not in self._told_at or entry.at >= self._told_at[entry.name]:
            add_metric(self._figures, entry)
            if entry.name in self._figures:
                self._told_at[entry.name] = entry.at
