"""Which fields payloads have, of which types, and in how many vectors. Called by the service in a thread."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from ergonaut_vectors.domain.answers.rows import Views
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.fields import FieldType
from ergonaut_vectors.domain.segments.view import Part


@dataclass(frozen=True, slots=True)
class SeenFields:
    """What payloads have."""

    counts: Counter[tuple[str, FieldType]] = field(default_factory=Counter)
    """Vectors that have a value, by the field's name and the value's type."""
    whole: bool = True
    """Whether these are all fields; further ones have no columns."""


def seen_in(views: Views) -> SeenFields:
    """The fields of all vectors that live."""
    parts = [part for view in views for part in view.parts if part.count]
    counts: Counter[tuple[str, FieldType]] = Counter()
    for part in parts:
        for name in part.store.columns.names():
            for kind in part.store.columns.types(name):
                counts[name, kind] += _count(part, name, kind)
    return SeenFields(+counts, all(part.store.columns.whole for part in parts))


def _count(part: Part, name: str, kind: FieldType) -> int:
    """How many of a part's living rows have a value of a type."""
    columns, count = part.store.columns, part.store.count
    column = columns.texts(name, count) if kind is FieldType.TEXT else columns.values(name, kind, count)
    if column is None:
        return 0
    if column.rows is None:
        return part.count
    return bits.counted(bits.of_rows(np.asarray(column.rows), count) & part.live)
