"""Sets of rows as bits in words, as indexes take them. Filters are evaluated into these; segments join them with what lives."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.space import Words

Mask = npt.NDArray[np.bool_]
RowNumbers = npt.NDArray[Any]
"""Rows by number, of any integer type."""

_WORD_BITS = 64


def words_for(count: int) -> int:
    """Words that hold `count` bits."""
    return -(-count // _WORD_BITS)


def none_of(count: int) -> Words:
    """No row."""
    return np.zeros(words_for(count), np.uint64)


def all_of(count: int) -> Words:
    """Every row; the bits behind the last are 0, as they are in every set."""
    words = np.full(words_for(count), ~np.uint64(0))
    if count % _WORD_BITS:
        words[-1] = np.uint64((1 << (count % _WORD_BITS)) - 1)
    return words


def of_mask(mask: Mask) -> Words:
    """The rows where the mask is true."""
    words = none_of(len(mask))
    packed = np.packbits(mask, bitorder="little")
    words.view(np.uint8)[: len(packed)] = packed
    return words


def of_rows(rows: RowNumbers, count: int) -> Words:
    """These rows, in any order and however often."""
    mask = np.zeros(count, np.bool_)
    mask[rows] = True
    return of_mask(mask)


def mask_of(words: Words, count: int) -> Mask:
    """True where a row is in the set."""
    return np.unpackbits(words.view(np.uint8), count=count, bitorder="little").view(np.bool_)


def rows_of(words: Words, count: int) -> npt.NDArray[np.int64]:
    """The rows in the set, ascending."""
    return np.flatnonzero(mask_of(words, count))


def among(words: Words, rows: RowNumbers) -> Mask:
    """Which of these rows are in the set."""
    places = rows.astype(np.int64, copy=False)
    inside: Mask = (words[places >> 6] >> (places & 63).astype(np.uint64) & np.uint64(1)).astype(np.bool_)
    return inside


def counted(words: Words) -> int:
    """How many rows are in the set."""
    return int(np.bitwise_count(words).sum())


def inverted(words: Words, count: int) -> Words:
    """The rows that are not in the set."""
    return words ^ all_of(count)
