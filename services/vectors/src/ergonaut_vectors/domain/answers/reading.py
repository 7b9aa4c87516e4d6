"""Vectors by id, page by page, counted, and by the values of a field. Called by the service in a thread."""

import heapq
import json
from collections.abc import Sequence

from ergonaut.errors import Refused
from ergonaut_vectors.domain.answers.rows import At, Row, Views, Wanted, payload_at, vector_at
from ergonaut_vectors.domain.payload.facets import Facet, facets_of, most_frequent
from ergonaut_vectors.domain.payload.filters import Filter
from ergonaut_vectors.domain.payload.ordering import Order, Page, merged, ordered
from ergonaut_vectors.domain.payload.ordering import Place as OrderPlace
from ergonaut_vectors.domain.segments import ids
from ergonaut_vectors.domain.segments.view import Cursor, Place, Stored, View


def by_id(views: Views, names: Sequence[str], wanted: Wanted) -> list[Row]:
    """The vectors of these ids, in their order; those that are not there are left out."""
    found: list[Row | None] = [None] * len(names)
    for view in views:
        for at, stored in enumerate(view.get(names)):
            if stored is not None:
                found[at] = _row(view, stored, wanted)
    return [row for row in found if row is not None]


def page(
    views: Views, limit: int, after: str, wanted: Wanted, *, only: Filter | None = None, order: Order | None = None
) -> tuple[list[Row], str]:
    """A page in the order in which vectors were last written, or by a field; and where the next one begins, empty at the end."""
    if order is not None:
        placed = page_by_field(views, (limit, after), wanted, only, order)
        return [row for _, row in placed], placed[-1][0] if len(placed) == limit else ""
    cursor = _cursor(after)
    found = [[(each.sequence, each.id, view, each) for each in view.scroll(cursor, limit, only)] for view in views]
    merged_rows = list(heapq.merge(*found, key=lambda each: each[:2]))[:limit]
    rows = [_row(view, stored, wanted) for _, _, view, stored in merged_rows]
    following = json.dumps([rows[-1].sequence, rows[-1].id]) if len(rows) == limit else ""
    return rows, following


def values(views: Views, field: str, limit: int, only: Filter | None = None) -> list[tuple[Facet, int]]:
    """The values of a field that most vectors have, with how many."""
    parts = []
    for view in views:
        for part in view.parts:
            allowed, _ = part.allowed(only)
            parts.append(facets_of(part.store.columns, field, part.store.count, allowed))
    return most_frequent(parts, limit)


def page_by_field(
    views: Views, asked: tuple[int, str], wanted: Wanted, only: Filter | None, order: Order
) -> list[tuple[str, Row]]:
    """A page by a field, each row with its place in the order, which the next page may begin behind."""
    limit, after = asked
    place = placed_of(after) if after else None
    found: list[list[tuple[OrderPlace, At]]] = []
    for view in views:
        for number, part in enumerate(view.parts):
            allowed, _ = part.allowed(only)
            store = part.store
            ties = ids.hashed(store.table.blob, store.table.offsets, store.count)
            rows = ordered(store.columns, order, store.count, ties, Page(limit, allowed, place))
            found.append([(at, At(view, Place(number, row))) for at, row in rows])
    return [
        (json.dumps(list(where)), _row(at.view, Stored(at.view.id_at(at.place), _sequence(at), at.place), wanted))
        for where, at in merged(found, order, limit)
    ]


def placed_of(told: str) -> OrderPlace:
    """A place in an order as `page_by_field` tells it. Raises Refused."""
    listed = _list_of(told)
    if len(listed) != 3:
        raise _no_place()
    rank, value, tie = listed
    if not isinstance(rank, int) or not isinstance(tie, int) or not 0 <= tie < 2**64:
        raise _no_place()
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        raise _no_place()
    return OrderPlace(rank, value, tie)


def _row(view: View, stored: Stored, wanted: Wanted) -> Row:
    at = At(view, stored.place)
    payload, vector = payload_at(at, wanted), vector_at(at, wanted)
    return Row(stored.id, payload=payload, vector=vector, sequence=stored.sequence)


def _sequence(at: At) -> int:
    return int(at.view.parts[at.place.part].store.sequences[at.place.row])


def _cursor(after: str) -> Cursor:
    if not after:
        return Cursor()
    told = _list_of(after)
    if len(told) != 2 or not isinstance(told[0], int) or not isinstance(told[1], str):
        raise _no_place()
    return Cursor(told[0], told[1])


def _list_of(after: str) -> list[object]:
    try:
        told = json.loads(after)
    except (ValueError, RecursionError) as error:
        raise _no_place() from error
    if not isinstance(told, list):
        raise _no_place()
    return told


def _no_place() -> Refused:
    return Refused("is not what the page before told as `next`, or the order is another", field="after")
