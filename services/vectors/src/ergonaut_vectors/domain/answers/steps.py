"""Steps of searches that need more than the nearest of each shard: what one shard says, and what is made of all that they say.

One process that has every shard goes through them at once (`finding.py`, `joining.py`); where nodes share a collection each step
is asked of all of them (`rpc/gathered.py`). So both answer alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut.errors import NotFound, Refused
from ergonaut_vectors.domain.answers.rows import At, Near, Views, count_of, matrix_of, nearest
from ergonaut_vectors.domain.payload import bits, facets, recommending, several
from ergonaut_vectors.domain.payload.documents import decoded
from ergonaut_vectors.domain.payload.fields import FieldType
from ergonaut_vectors.domain.payload.filters import And, Filter, Ids, Not, OneOf
from ergonaut_vectors.domain.payload.groups import GROUPS_MAX, WIDTH_MAX, GroupKey, keys_of
from ergonaut_vectors.domain.segments.exact import distances
from ergonaut_vectors.domain.segments.view import Place, Question
from ergonaut_vectors.domain.segments.writes import prepared
from ergonaut_vectors.domain.space import Element, Floats, Rows, Space

THING_ROWS_MAX = 200_000
"""Vectors of all things that are compared in full; a hundred things of 1,024 vectors are half of that."""

_BY_VALUE = (FieldType.KEYWORD, FieldType.INTEGER, FieldType.BOOLEAN, FieldType.FLOAT, FieldType.TIME)

Things = Sequence[GroupKey]
"""What several vectors belong to: the values that they share."""


class Around(NamedTuple):
    """What is told of each vector that is found, beside its distance."""

    field: str = ""
    """The field whose values are told; none without."""
    unlike: Rows | None = None
    """Distances are told to the nearest of the queries and to the nearest of these."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is near, for somebody who joins it with what others found."""

    near: Sequence[Sequence[Near]]
    """For each query, nearest first."""
    keys: Sequence[Sequence[GroupKey]]
    """Of each that is near, one query behind the other, the values of the field."""
    to_liked: Floats
    to_unlike: Floats
    count: int
    """How many fulfil the filter."""


@dataclass(frozen=True, slots=True)
class Scored:
    """How near things are."""

    least: Floats
    """[things, queries]: the distance to the thing's nearest, infinite where it has none."""
    near: Sequence[Sequence[Near | None]]
    """[things][queries]: the thing's nearest, with its distance to the query to which it is nearest."""
    count: int
    """Vectors that were compared."""


def found(views: Views, queries: Rows, question: Question, around: Around) -> Found:
    """What is near in these shards, with what the next step needs of it."""
    near = nearest(views, queries, question)
    every = [each for hits in near for each in hits]
    keys = [keys_of_row(each.at, around.field) for each in every] if around.field else []
    to_liked = to_unlike = np.empty(0, np.float32)
    if around.unlike is not None and every:
        to_liked, to_unlike = compared(views[0].space, every, queries, around.unlike)
    return Found(near, keys, to_liked, to_unlike, count_of(views, question.filter))


def without(only: Filter | None, names: Sequence[str]) -> Filter:
    """The filter that leaves these out too."""
    others = Not(Ids(tuple(names)))
    return others if only is None else And((only, others))


def middle_of(space: Space, liked: Rows, disliked: Rows) -> Rows:
    """The one vector to search from instead of examples. Raises Refused where there is none."""
    if space.element is Element.BINARY:
        raise Refused("cannot be the mean for bits, of which there is none; use the best", field="strategy")
    middle = recommending.averaged(liked.astype(np.float32), disliked.astype(np.float32))[None, :]
    if space.dtype.kind in "iu":
        limits = np.iinfo(space.dtype)
        middle = np.clip(np.rint(middle), limits.min, limits.max)
    return middle.astype(space.dtype)


def check_there(names: Sequence[str], there: Sequence[bool], where: str) -> None:
    """Raise NotFound for the first example that is not there."""
    for at, name in enumerate(names):
        if not there[at]:
            raise NotFound(f"{where}[{at}]: there is no vector {name!r}")


def candidates(limit: int) -> int:
    """How many are looked at for each example, of which the best are found."""
    return min(4 * limit, WIDTH_MAX)


def compared(space: Space, near: Sequence[Near], liked: Rows, disliked: Rows) -> tuple[Floats, Floats]:
    """Of each vector that was found the distances to the nearest example that is liked, and disliked."""
    rows = matrix_of([each.at for each in near])
    return _least(space, rows, liked), _least(space, rows, disliked)


def near_things(limit: int) -> int:
    """How many vectors are looked at for each of the query's, of whose things the best are found."""
    return min(8 * limit, WIDTH_MAX)


def things_of(near: Sequence[tuple[float, Sequence[GroupKey]]]) -> Things:
    """The things to be scored, of vectors near each of the query's with their distances."""
    ranked = sorted(near, key=lambda each: each[0])
    return list(dict.fromkeys(key for _, keys in ranked for key in keys))[: 4 * GROUPS_MAX]


def scored(views: Views, queries: Rows, things: tuple[str, Things], only: Filter | None) -> Scored:
    """How near each of these things is, by all of its vectors in these shards that fulfil the filter."""
    field, keys = things
    places, owners = _all_of(views, field, keys, only)
    least = np.full((len(keys), len(queries)), np.inf, np.float32)
    near: list[list[Near | None]] = [[None] * len(queries) for _ in keys]
    if not places:
        return Scored(least, near, 0)
    space = views[0].space
    order = np.argsort(owners, kind="stable")
    places, owners = [places[at] for at in order.tolist()], owners[order]
    far = _distances(space, matrix_of(places), prepared(space, queries))
    rows = several.nearest(owners, far, len(keys))
    every = np.arange(len(queries))
    for thing in np.flatnonzero(rows[:, 0] >= 0).tolist() if len(queries) else ():
        least[thing] = far[every, rows[thing]]
        near[thing] = [
            Near(places[row].view.id_at(places[row].place), float(far[:, row].min()), places[row])
            for row in rows[thing].tolist()
        ]
    return Scored(least, near, len(places))


def check_compared(count: int) -> None:
    """Raise Refused where things have more vectors than can be compared."""
    if count > THING_ROWS_MAX:
        message = f"what is near has more than {THING_ROWS_MAX} vectors; ask for fewer things, or filter"
        raise Refused(message, field="options.limit")


def best_things(least: Floats, limit: int) -> list[tuple[int, float]]:
    """The best things, best first, with their scores; those that have no vector are left out."""
    sums = several.summed(least)
    best = np.argsort(sums, kind="stable")[:limit].tolist()
    return [(thing, -float(sums[thing])) for thing in best if np.isfinite(sums[thing])]


def keys_of_row(at: At, field: str) -> list[GroupKey]:
    """The values of a field by which a vector belongs to groups."""
    columns = at.view.parts[at.place.part].store.columns
    payload = decoded(columns.document(at.place.row))
    return [key for key in keys_of(payload, field, columns.fields) if key[0] in _BY_VALUE]


def _all_of(views: Views, field: str, keys: Things, only: Filter | None) -> tuple[list[At], "npt.NDArray[np.int64]"]:
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
                of_row = [number[key] for key in keys_of_row(at, field) if key in number]
                places += [at] * len(of_row)
                owners += of_row
            check_compared(len(places))
    return places, np.array(owners, np.int64)


def _least(space: Space, rows: Rows, queries: Rows) -> Floats:
    if not len(queries):
        return np.full(len(rows), np.inf, np.float32)
    least: npt.NDArray[Any] = _distances(space, rows, queries).min(axis=0)
    return least


def _distances(space: Space, rows: Rows, queries: Rows) -> Floats:
    """[queries, rows]"""
    return np.stack([distances(space, rows, query) for query in queries])
