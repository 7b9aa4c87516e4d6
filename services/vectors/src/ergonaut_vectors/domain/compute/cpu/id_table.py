"""Kernels that find rows by the ids of vectors: hashes, a table of open addressing, sets of rows, digests. Used by `segments`.

A table needs 8 to 16 bytes a row, lies in a file as it lies in memory, and is only ever added to, so that any thread may look
while the one writer adds. An id that was written twice stands in it twice; the caller says which rows live, of which at most
one has the id.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.machine import kernel
from ergonaut_vectors.domain.space import Words

NONE = -1
"""No row has the id, or none that lives."""

Hashes = npt.NDArray[np.uint64]
RowNumbers = npt.NDArray[np.int64]

_OFFSET = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)
_MIX_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_MIX_SECOND = np.uint64(0x94D049BB133111EB)
_SECOND_SUM = np.uint64(0x9E3779B97F4A7C15)
_LOW = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
_NOTHING = np.uint64(0)
_WORD_LAST = np.uint64(63)


class IdTable(NamedTuple):
    """The ids of rows, and the table that finds rows by them."""

    blob: npt.NDArray[np.uint8]
    """The ids as UTF-8, one behind the other."""
    offsets: npt.NDArray[np.int64]  # [rows + 1] or longer
    entries: npt.NDArray[np.uint64]  # [a power of two]; 0 or the upper half of an id's hash beside its row plus one
    """Of length 0 where the rows are so few that all are compared."""


@kernel
def mixed(value: np.uint64) -> np.uint64:
    """The number with its bits spread over all of it."""
    value = (value ^ (value >> np.uint64(30))) * _MIX_FIRST
    value = (value ^ (value >> np.uint64(27))) * _MIX_SECOND
    return value ^ (value >> np.uint64(31))


@kernel
def hash_ids(blob: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], hashes: Hashes) -> None:
    """The hash of each id; the same on every machine, for it stands in files."""
    for i in range(hashes.shape[0]):
        value = _OFFSET
        for at in range(offsets[i], offsets[i + 1]):
            value = (value ^ np.uint64(blob[at])) * _PRIME
        hashes[i] = mixed(value)


@kernel
def insert_rows(entries: npt.NDArray[np.uint64], hashes: Hashes, first_row: int) -> None:
    """Let the table find rows from this one on by their hashes; it has more entries than rows."""
    last = np.uint64(entries.shape[0] - 1)
    for i in range(hashes.shape[0]):
        at = hashes[i] & last
        while entries[at] != _NOTHING:
            at = (at + _ONE) & last
        entries[at] = (hashes[i] & ~_LOW) | np.uint64(first_row + i + 1)


@kernel
def _same(table: IdTable, row: Any, asked: IdTable, at: int) -> bool:
    first, length = table.offsets[row], table.offsets[row + 1] - table.offsets[row]
    asked_first = asked.offsets[at]
    if asked.offsets[at + 1] - asked_first != length:
        return False
    i = 0
    while i < length and table.blob[first + i] == asked.blob[asked_first + i]:
        i += 1
    return bool(i == length)


@kernel
def _lives(live: Words, row: Any) -> bool:
    return bool(row >> 6 < live.shape[0] and (live[row >> 6] >> (np.uint64(row) & _WORD_LAST)) & _ONE != _NOTHING)


@kernel
def find_rows(table: IdTable, live: Words, asked: IdTable, hashes: Hashes, found: RowNumbers) -> None:
    """For each id asked for the living row that has it, or NONE. `asked` needs no entries, nor does a table of a few rows."""
    last = np.uint64(table.entries.shape[0] - 1)
    for i in range(hashes.shape[0]):
        found[i] = NONE
        if table.entries.shape[0] == 0:
            for each in range(min(table.offsets.shape[0] - 1, live.shape[0] << 6)):
                if _lives(live, each) and _same(table, each, asked, i):
                    found[i] = each
                    break
            continue
        at = hashes[i] & last
        while table.entries[at] != _NOTHING:
            entry = table.entries[at]
            if entry >> np.uint64(32) == hashes[i] >> np.uint64(32):
                row = np.int64(entry & _LOW) - 1
                if _lives(live, row) and _same(table, row, asked, i):
                    found[i] = row
                    break
            at = (at + _ONE) & last


@kernel
def take_out(words: Words, rows: RowNumbers) -> None:
    """Take rows out of a set; those that are NONE are passed over."""
    for i in range(rows.shape[0]):
        if rows[i] >= 0:
            words[rows[i] >> 6] &= ~(_ONE << (np.uint64(rows[i]) & _WORD_LAST))


@kernel
def add_to_digest(digest: Hashes, hashes: Hashes, sequences: npt.NDArray[np.int64], times: int) -> None:
    """Count pairs of id and sequence into a digest of two sums, or with -1 times out of it; their order does not matter."""
    for i in range(hashes.shape[0]):
        pair = mixed(hashes[i] + mixed(np.uint64(sequences[i])))
        second = mixed(pair ^ _SECOND_SUM) ^ hashes[i]
        if times > 0:
            digest[0] += pair
            digest[1] += second
        else:
            digest[0] -= pair
            digest[1] -= second
