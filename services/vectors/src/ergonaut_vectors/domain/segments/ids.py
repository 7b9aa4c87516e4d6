"""The ids of rows: a table of those of a segment, one that grows with a head, and those of a batch. Used within this folder."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.gathering import copy_texts
from ergonaut_vectors.domain.compute.cpu.id_table import (
    Hashes,
    IdTable,
    RowNumbers,
    add_to_digest,
    find_rows,
    hash_ids,
    insert_rows,
)
from ergonaut_vectors.domain.space import Words

TABLE_MIN = 128
"""Fewer ids have no table: all are compared, which takes no longer than a look-up in Python, and most tenants are small."""

FILLED_MAX = 0.8
"""The part of a table's entries that may be in use; beyond, looking for what is not there takes many steps."""

NO_ENTRIES = np.empty(0, np.uint64)
NO_IDS = IdTable(np.empty(0, np.uint8), np.zeros(1, np.int64), NO_ENTRIES)
"""What every new head has in common, so that a tenant with a hundred tiny collections pays for none of it; never written to."""

_Number = TypeVar("_Number", bound=np.generic)


class Asked(NamedTuple):
    """Ids to look for, or to write, with their hashes."""

    table: IdTable
    hashes: Hashes

    def only(self, chosen: npt.NDArray[np.int64]) -> "Asked":
        """Those at these places."""
        blob, offsets = _texts_of(self.table, chosen)
        return Asked(IdTable(blob, offsets, self.table.entries), self.hashes[chosen])


def asked(ids: Sequence[str]) -> Asked:
    """These ids, ready to be looked for."""
    encoded = [name.encode() for name in ids]
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum([len(name) for name in encoded], out=offsets[1:])
    # One byte too many, for an array of none cannot be made of a buffer.
    blob = np.frombuffer(bytearray(b"".join(encoded) + b"\0"), np.uint8)[:-1]
    return Asked(IdTable(blob, offsets, NO_ENTRIES), hashed(blob, offsets, len(ids)))


def hashed(blob: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], count: int) -> Hashes:
    """The hashes of the first ids."""
    hashes = np.empty(count, np.uint64)
    hash_ids(blob, offsets, hashes)
    return hashes


def table_of(ids: Asked) -> IdTable:
    """A table that finds the rows that have these ids, in their order."""
    entries = np.zeros(entries_for(len(ids.hashes)), np.uint64)
    if len(entries):
        insert_rows(entries, ids.hashes, 0)
    return IdTable(ids.table.blob, ids.table.offsets, entries)


def entries_for(count: int) -> int:
    """How many entries a table of this many ids has: a power of two, of which at most `FILLED_MAX` are filled; or none."""
    if count < TABLE_MIN:
        return 0
    entries = TABLE_MIN
    while count > entries * FILLED_MAX:
        entries *= 2
    return entries


def rows_with(table: IdTable, live: Words, ids: Asked) -> RowNumbers:
    """For each id the living row that has it, or NONE."""
    found = np.empty(len(ids.hashes), np.int64)
    find_rows(table, live, ids.table, ids.hashes, found)
    return found


def reader(table: IdTable) -> Callable[[int], str]:
    """Gives the id of a row; made once for many rows, as a search needs the id of every hit."""
    offset, blob = table.offsets.item, table.blob.data

    def read(row: int) -> str:
        return str(blob[offset(row) : offset(row + 1)], "utf-8")

    return read


def id_at(table: IdTable, row: int) -> str:
    """The id of a row."""
    return reader(table)(row)


def gathered(parts: Sequence[tuple[IdTable, RowNumbers]]) -> Asked:
    """The ids of chosen rows of several tables, one table after the other."""
    pieces = [_texts_of(table, rows) for table, rows in parts]
    blob = np.concatenate([np.empty(0, np.uint8), *(texts for texts, _ in pieces)])
    offsets = np.zeros(1 + sum(len(rows) for _, rows in parts), np.int64)
    np.cumsum(np.concatenate([np.empty(0, np.int64), *(np.diff(each) for _, each in pieces)]), out=offsets[1:])
    return Asked(IdTable(blob, offsets, NO_ENTRIES), hashed(blob, offsets, len(offsets) - 1))


def _texts_of(table: IdTable, rows: RowNumbers) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(table.offsets[rows + 1] - table.offsets[rows], out=offsets[1:])
    blob = np.empty(offsets[-1], np.uint8)
    copy_texts(table.blob, table.offsets, rows, blob, offsets)
    return blob, offsets


class Digest(NamedTuple):
    """Says of two states at one position whether they hold the same ids, each as of the same message of the log."""

    first: int = 0
    second: int = 0

    def __str__(self) -> str:
        return f"{self.first:016x}{self.second:016x}"

    def changed(self, hashes: Hashes, sequences: npt.NDArray[np.int64], times: int) -> "Digest":
        """With these ids and sequences counted in, or with -1 times out."""
        sums = np.array(self, np.uint64)
        add_to_digest(sums, hashes, sequences, times)
        return Digest(int(sums[0]), int(sums[1]))


class GrowingIds:
    """The ids of a head: one writer appends, any thread uses the table that its view was given."""

    __slots__ = ("count", "table")

    def __init__(self) -> None:
        self.count = 0
        self.table = NO_IDS

    def append(self, ids: Asked) -> None:
        """Add these ids as the next rows."""
        used = int(self.table.offsets[self.count])
        after, bytes_after = self.count + len(ids.hashes), used + len(ids.table.blob)
        blob = _grown(self.table.blob, used, bytes_after)
        offsets = _grown(self.table.offsets, self.count + 1, after + 1)
        blob[used:bytes_after] = ids.table.blob
        offsets[self.count : after + 1] = used + ids.table.offsets
        entries = self.table.entries
        if entries_for(after) > len(entries):
            entries = np.zeros(entries_for(after), np.uint64)
            insert_rows(entries, hashed(blob, offsets, after), 0)
        elif len(entries):
            insert_rows(entries, ids.hashes, self.count)
        self.table = IdTable(blob, offsets, entries)
        self.count = after


def _grown(array: npt.NDArray[_Number], used: int, needed: int) -> npt.NDArray[_Number]:
    """The array, or one of twice its size with what is in it."""
    if needed <= len(array):
        return array
    grown = np.zeros(max(needed, 2 * len(array)), array.dtype)
    grown[:used] = array[:used]
    return grown
