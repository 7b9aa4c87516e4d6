"""A run's journal as one of its processes writes it: it outwaits a disk that fails for a while, and stops at the run's end."""

import contextlib
import os
import threading
import time
from collections import deque
from pathlib import Path

from ergonaut.journal import EntryKind, JournalEntry, JournalWriter, is_end, read_lines
from ergonaut.tracking.closing import has_ended

# A sample is taken each second by default, and so often a disk that failed is tried again.
_RETRY_SECONDS = 1.0
# Ten minutes of samples, a few megabytes; what a program tells may fill half of it, so that samples find room.
_WAITING_MAX = 600
_TOLD_WAITING_MAX = _WAITING_MAX // 2


class RunJournal:
    """Writes entries in their order and never raises. Safe in threads and forked children."""

    def __init__(self, writer: JournalWriter, path: Path, *, ends_it: bool) -> None:
        """`ends_it` where this process writes the end; elsewhere another process does, and nothing is written after it."""
        self.path = path
        self._writer = writer
        self._ends_it = ends_it
        self._missing = 0
        self._begin_in_process()

    def _begin_in_process(self) -> None:
        # A child forked while another thread held the lock would wait for ever, and what waits is its parent's to write.
        self._lock = threading.RLock()
        self._waiting: deque[JournalEntry] = deque()
        self._retry_at = 0.0
        self._is_open = True
        self._watch: _EndWatch | None = None
        self._pid = os.getpid()

    @property
    def missing(self) -> int:
        """How many entries are not in the journal, since the disk did not take them."""
        return self._missing + len(self._waiting)

    def write(self, entry: JournalEntry) -> str:
        """Append an entry, or keep it until the disk takes it; gives a sentence on what is wrong, empty where nothing is."""
        with self._own_lock():
            if not self._is_open:
                return ""
            try:
                if self._is_ended_by_another():
                    self._close()
                    return f"has its end already; what process {self._pid} tells of the run now is not kept"
                return self._written(entry)
            except ValueError as error:
                # The file was closed under us.
                self._is_open = False
                return f"cannot be written any more: {error}"

    def close(self) -> None:
        """Force the last lines to the disk and close the file."""
        with self._own_lock():
            self._close()

    def _written(self, entry: JournalEntry) -> str:
        is_last = entry.kind is EntryKind.FINISHED
        if self._waiting and time.monotonic() < self._retry_at and not is_last:
            self._keep(entry)
            return ""
        try:
            self._append_waiting()
            if is_last and self._missing:
                entry = entry.model_copy(update={"entries_missing": self._missing})
            self._append(entry)
        except OSError as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            self._keep(entry)
            return f"cannot be written at the moment: {error}; it is tried again with every sample"
        return ""

    def _append_waiting(self) -> None:
        while self._waiting:
            # Taken out first, since a signal's handler may tell something while this is being written.
            entry = self._waiting.popleft()
            try:
                self._append(entry)
            except OSError:
                self._waiting.appendleft(entry)
                raise

    def _append(self, entry: JournalEntry) -> None:
        if self._watch is None:
            self._writer.write(entry)
        else:
            self._watch.written(self._writer.write(entry))

    def _keep(self, entry: JournalEntry) -> None:
        is_told = entry.kind in (EntryKind.METRIC, EntryKind.PHASE)
        if len(self._waiting) < (_TOLD_WAITING_MAX if is_told else _WAITING_MAX):
            self._waiting.append(entry)
        else:
            self._missing += 1

    def _is_ended_by_another(self) -> bool:
        if self._ends_it:
            return False
        try:
            if self._watch is None:
                self._watch = _EndWatch(self.path, self._writer)
            return self._watch.sees_end()
        except OSError:
            # It cannot be seen now; the next entry looks again.
            return False

    def _close(self) -> None:
        self._is_open = False
        with contextlib.suppress(OSError):
            self._writer.close()

    def _own_lock(self) -> threading.RLock:
        if self._pid != os.getpid():
            self._begin_in_process()
            self._ends_it, self._missing = False, 0
        return self._lock


class _EndWatch:
    """Sees when another process ends the journal; each look reads only what others have written since the last one."""

    def __init__(self, path: Path, writer: JournalWriter) -> None:
        self._path = path
        self._writer = writer
        self._seen_to = self._expected = writer.size_bytes
        self._has_ended = has_ended(path)

    def sees_end(self) -> bool:
        """Whether the journal has its end by now. Raises OSError."""
        size = self._writer.size_bytes
        if size != self._expected and not self._has_ended:
            lines, _ = read_lines(self._path, self._seen_to)
            self._has_ended = any(is_end(line) for line in lines)
        # What is written next may come after a line of another process, which is then looked for from here.
        self._seen_to = self._expected = size
        return self._has_ended

    def written(self, line_bytes: int) -> None:
        """We have just appended so much ourselves."""
        self._expected = self._seen_to + line_bytes
