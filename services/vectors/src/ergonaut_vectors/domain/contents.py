"""All that a view holds, as writes that would make it again: for copies into a new collection and for exports."""

from collections.abc import Iterator

from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.segments import ids
from ergonaut_vectors.domain.segments.view import View
from ergonaut_vectors.domain.segments.writes import Upserts


def contents(view: View, rows_max: int) -> Iterator[Upserts]:
    """Every vector once, with its payload, in writes of at most so many; in no order that means anything."""
    for part in view.parts:
        store = part.store
        rows = bits.rows_of(part.live, store.count)
        for first in range(0, len(rows), rows_max):
            chosen = rows[first : first + rows_max]
            payloads = [store.columns.payload(row) for row in chosen.tolist()]
            names = [ids.id_at(store.table, row) for row in chosen.tolist()]
            yield Upserts(names, store.rows[chosen], payloads if any(payloads) else ())
