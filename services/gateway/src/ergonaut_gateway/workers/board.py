"""Numbers that all workers see, in memory that they share: each writes its own row and reads the others'."""

import mmap
from enum import IntEnum


class Kept(IntEnum):
    """Records whose changes all workers follow; each kind counts its revisions by itself."""

    MODELS = 2
    PIPELINES = 3
    ENDPOINTS = 4


_PRESENT, _CONNECTIONS = range(2)
_BEATS, _OVERDUE_MS = range(2 + len(Kept), 4 + len(Kept))
_COLUMNS = 4 + len(Kept)
_NUMBER_BYTES = 8


class Board:
    """One row of 64-bit numbers a worker. Made before workers are forked; nothing here needs a lock, since no row has two
    writers but at its worker's end, and a number that is a moment old does no harm."""

    def __init__(self, rows: int) -> None:
        self._memory = mmap.mmap(-1, rows * _COLUMNS * _NUMBER_BYTES)
        self._numbers = memoryview(self._memory).cast("q")
        self.rows = rows

    def begin(self, row: int) -> None:
        """A new worker has the row, and has applied no changes of records yet."""
        for column in range(_COLUMNS):
            self._set(row, column, 0)

    def enter(self, row: int) -> None:
        """It takes callers from now on."""
        self._set(row, _PRESENT, 1)

    def leave(self, row: int) -> None:
        """It takes none any more, or has died."""
        self._set(row, _PRESENT, 0)

    def count(self, row: int, connections: int) -> None:
        """So many connections are a worker's."""
        self._set(row, _CONNECTIONS, connections)

    def beat(self, row: int, overdue_seconds: float) -> None:
        """A worker's loop goes round; a run of its is at work so long after it was told to end, 0 where none is."""
        self._set(row, _OVERDUE_MS, int(1000 * overdue_seconds))
        self._set(row, _BEATS, self._get(row, _BEATS) + 1)

    def beats(self, row: int) -> int:
        """How often a worker's loop went round."""
        return self._get(row, _BEATS)

    def overdue_seconds(self, row: int) -> float:
        """How long a run of a worker is at work after it was told to end, as of its last beat."""
        return self._get(row, _OVERDUE_MS) / 1000

    def gives_way(self, row: int) -> bool:
        """Whether another worker that takes callers has fewer connections."""
        mine = self._get(row, _CONNECTIONS)
        return any(self._get(other, _CONNECTIONS) < mine for other in self._others(row))

    def applied(self, row: int, revision: int, kept: Kept = Kept.MODELS) -> None:
        """A worker has applied the changes of these records as far as this."""
        self._set(row, kept, max(revision, self._get(row, kept)))

    def all_applied(self, row: int, revision: int, kept: Kept = Kept.MODELS) -> bool:
        """Whether all other workers have applied this change."""
        return all(self._get(other, kept) >= revision for other in self._others(row))

    def _others(self, row: int) -> list[int]:
        return [other for other in range(self.rows) if other != row and self._get(other, _PRESENT)]

    def _get(self, row: int, column: int) -> int:
        return self._numbers[row * _COLUMNS + column]

    def _set(self, row: int, column: int, value: int) -> None:
        self._numbers[row * _COLUMNS + column] = value
