"""Columns that never change, from payloads and from other columns: sealing a head, merging segments and ordering their rows."""

from collections.abc import Sequence

import numpy as np

from ergonaut_vectors.domain.payload.columns import Columns, Readable
from ergonaut_vectors.domain.payload.fields import Fields, Payload
from ergonaut_vectors.domain.payload.growing import GrowingColumns
from ergonaut_vectors.domain.payload.joining import RowNumbers, joined_alike


def columns_of(payloads: Sequence[Payload], fields: Fields | None = None) -> Columns:
    """The payloads, a row each."""
    growing = GrowingColumns(fields)
    growing.append(payloads)
    return growing.frozen()


def joined(parts: Sequence[tuple[Readable, RowNumbers]], fields: Fields | None = None) -> Columns:
    """The chosen rows of each part, one part after the other, each in the order of its row numbers; a row at most once.

    Where the declared fields have changed since the parts were made, every payload is read anew.
    """
    fields = fields or {}
    if all(columns.fields == fields for columns, _ in parts):
        return joined_alike(parts, fields)
    return columns_of([columns.payload(row) for columns, rows in parts for row in rows.tolist()], fields)


def reordered(columns: Columns, order: RowNumbers) -> Columns:
    """Row `i` of the answer is row `order[i]` of the columns; rows that `order` leaves out are left out."""
    return joined_alike([(columns, np.asarray(order, np.int64))], columns.fields)
