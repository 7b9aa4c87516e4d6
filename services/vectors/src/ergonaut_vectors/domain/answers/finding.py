"""The nearest vectors, alone, in groups, like examples, by several query vectors. Called by the service in a thread."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ergonaut.errors import NotFound, Refused
from ergonaut_vectors.domain.answers.rows import At, Near, Row, Views, Wanted, count_of, matrix_of, nearest, told
from ergonaut_vectors.domain.payload import bits, facets, recommending, several
from ergonaut_vectors.domain.payload.documents import decoded
from ergonaut_vectors.domain.payload.fields import FieldType
from ergonaut_vectors.domain.payload.filters import And, Filter, Ids, Not, OneOf
from ergonaut_vectors.domain.payload.groups import (
    GROUP_SIZE_MAX,
    GROUPS_MAX,
    WIDTH_MAX,
    GroupKey,
    complete,
    grouped,
    keys_of,
    widths,
)
from ergonaut_vectors.domain.payload.recommending import Strategy
from ergonaut_vectors.domain.segments.exact import distances
from ergonaut_vectors.domain.segments.view import Place, Question
from ergonaut_vectors.domain.segments.writes import prepared
from ergonaut_vectors.domain.space import Element, Floats, Rows, Space

QUERY_VECTORS_MAX = 64
"""Vectors of one query: the words of a question. Each is a search of its own."""

THING_ROWS_MAX = 200_000
"""Vectors of all things that are compared in full; a hundred things of 1,024 vectors are half of that."""

_BY_VALUE = (FieldType.KEYWORD, FieldType.INTEGER, FieldType.BOOLEAN, FieldType.FLOAT, FieldType.TIME)


@dataclass(frozen=True, slots=True)
class Gathered:
    """Vectors that share a value."""

    value: bool | int | float | str
    """As JSON has it."""
    rows: Sequence[Row]
    score: float = 0.0


def found(views: Views, queries: Rows, question: Question, wanted: Wanted) -> list[list[Row]]:
    """The nearest to each query, nearest first."""
    return [told(hits, wanted) for hits in nearest(views, queries, question)]


def in_groups(views: Views, query: Rows, question: Question, group: tuple[str, int], wanted: Wanted) -> list[Gathered]:
    """The nearest groups of vectors that share a value of a field, `question.limit` of them, each of at most so many."""
    field, size = group
    limit = question.limit
    _check_within(limit, GROUPS_MAX, "options.limit")
    _check_within(size, GROUP_SIZE_MAX, "group_size")
    groups: list[Any] = []
    for width in widths(limit, size, count_of(views, question.filter)):
        if not width:
            return []
        (hits,) = nearest(views, query, replace(question, limit=width))
        groups = grouped(hits, [_keys(near.at, field) for near in hits], limit, size)
        if complete(groups, limit, size):
            break
    return [Gathered(facets.written(each.key), told(each.hits, wanted)) for each in groups]


def like(
    views: Views,
    examples: tuple[Sequence[str], Sequence[str]],
    strategy: Strategy,
    question: Question,
    wanted: Wanted,
) -> list[Row]:
    """Vectors like some of the collection and unlike others; none of these itself."""
    positive, negative = examples
    recommending.check_examples(len(positive), len(negative))
    liked, disliked = _examples(views, positive, "positive"), _examples(views, negative, "negative")
    others = Not(Ids((*positive, *negative)))
    question = replace(question, filter=others if question.filter is None else And((question.filter, others)))
    space = views[0].space
    if strategy is Strategy.AVERAGE:
        if space.element is Element.BINARY:
            raise Refused("cannot be the mean for bits, of which there is none; use the best", field="strategy")
        middle = recommending.averaged(liked.astype(np.float32), disliked.astype(np.float32))
        return told(nearest(views, _kept(space, middle[None, :]), question)[0], wanted)
    candidates: dict[str, Near] = {}
    for hits in nearest(views, liked, replace(question, limit=min(4 * question.limit, WIDTH_MAX))):
        candidates |= {near.id: near for near in hits}
    if not candidates:
        return []
    among = [*candidates.values()]
    rows = matrix_of([near.at for near in among])
    to_liked = _distances(space, rows, liked)
    order = recommending.ordered(to_liked, _distances(space, rows, disliked), question.limit)
    nearest_liked = to_liked.min(axis=0)
    return told([among[at]._replace(distance=float(nearest_liked[at])) for at in order.tolist()], wanted)


def by_several(views: Views, queries: Rows, question: Question, field: str, wanted: Wanted) -> list[Gathered]:
    """Things that have several vectors each, by several of a query: MaxSim over all vectors of those that come near."""
    _check_within(question.limit, GROUPS_MAX, "options.limit")
    _check_within(len(queries), QUERY_VECTORS_MAX, "vectors")
    width = min(8 * question.limit, WIDTH_MAX)
    near = [hit for hits in nearest(views, queries, replace(question, limit=width)) for hit in hits]
    near.sort(key=lambda hit: hit.distance)
    keys = list(dict.fromkeys(key for hit in near for key in _keys(hit.at, field)))[: 4 * GROUPS_MAX]
    places, owners = _all_of(views, field, keys, question.filter)
    if not places:
        return []
    order = np.argsort(owners, kind="stable")
    places, owners = [places[at] for at in order.tolist()], owners[order]
    far = _distances(views[0].space, matrix_of(places), prepared(views[0].space, queries))
    sums = several.summed(owners, far, len(keys))
    gathered = []
    for owner in np.argsort(sums, kind="stable")[: question.limit].tolist():
        if not np.isfinite(sums[owner]):
            break
        members = np.flatnonzero(owners == owner)
        best = dict.fromkeys(members[far[:, members].argmin(axis=1)].tolist())
        hits = [Near(_id(places[at]), float(far[:, at].min()), places[at]) for at in best]
        gathered.append(Gathered(facets.written(keys[owner]), told(hits, wanted), -float(sums[owner])))
    return gathered


def _all_of(
    views: Views, field: str, keys: Sequence[GroupKey], only: Filter | None
) -> tuple[list[At], "np.ndarray[Any, np.dtype[np.int64]]"]:
    """Every vector of these things that fulfils the filter, and which of them each belongs to."""
    number = {key: at for at, key in enumerate(keys)}
    of_things: Filter = OneOf(field, tuple(facets.written(key) for key in keys))
    chosen = of_things if only is None else And((only, of_things))
    places: list[At] = []
    owners: list[int] = []
    for view in views:
        for part_number, part in enumerate(view.parts):
            allowed, count = part.allowed(chosen)
            if not count or allowed is None:
                continue
            for row in bits.rows_of(allowed, part.store.count).tolist():
                at = At(view, Place(part_number, row))
                of_row = [number[key] for key in _keys(at, field) if key in number]
                places += [at] * len(of_row)
                owners += of_row
            if len(places) > THING_ROWS_MAX:
                message = f"what is near has more than {THING_ROWS_MAX} vectors; ask for fewer things, or filter"
                raise Refused(message, field="options.limit")
    return places, np.array(owners, np.int64)


def _keys(at: At, field: str) -> list[GroupKey]:
    columns = at.view.parts[at.place.part].store.columns
    payload = decoded(columns.document(at.place.row))
    return [key for key in keys_of(payload, field, columns.fields) if key[0] in _BY_VALUE]


def _examples(views: Views, names: Sequence[str], where: str) -> Rows:
    space = views[0].space
    if not names:
        return np.empty((0, space.width), space.dtype)
    places: list[At | None] = [None] * len(names)
    for view in views:
        for at, stored in enumerate(view.get(names)):
            if stored is not None:
                places[at] = At(view, stored.place)
    for at, place in enumerate(places):
        if place is None:
            raise NotFound(f"{where}[{at}]: there is no vector {names[at]!r}")
    return matrix_of([place for place in places if place is not None])


def _kept(space: Space, rows: Floats) -> Rows:
    """Rows of floats as the space keeps them."""
    if space.dtype.kind in "iu":
        limits = np.iinfo(space.dtype)
        return np.clip(np.rint(rows), limits.min, limits.max).astype(space.dtype)
    return rows.astype(space.dtype)


def _distances(space: Space, rows: Rows, queries: Rows) -> Floats:
    """[queries, rows]"""
    if not len(queries):
        return np.empty((0, len(rows)), np.float32)
    return np.stack([distances(space, rows, query) for query in queries])


def _id(at: At) -> str:
    return at.view.id_at(at.place)


def _check_within(value: int, high: int, where: str) -> None:
    if not 1 <= value <= high:
        raise Refused(f"is {value}, but must be 1 to {high}", field=where)
