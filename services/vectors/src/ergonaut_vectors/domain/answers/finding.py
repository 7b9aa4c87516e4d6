"""The nearest vectors, alone, in groups, like examples, by several query vectors. Called by the service in a thread."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ergonaut.errors import Refused
from ergonaut_vectors.domain.answers import steps
from ergonaut_vectors.domain.answers.rows import At, Row, Views, Wanted, count_of, matrix_of, nearest, told
from ergonaut_vectors.domain.payload import facets, recommending
from ergonaut_vectors.domain.payload.groups import GROUP_SIZE_MAX, GROUPS_MAX, complete, grouped, widths
from ergonaut_vectors.domain.payload.recommending import Strategy
from ergonaut_vectors.domain.segments.view import Question
from ergonaut_vectors.domain.space import Rows

QUERY_VECTORS_MAX = 64
"""Vectors of one query: the words of a question. Each is a search of its own."""


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
    check_groups(limit, size)
    groups: list[Any] = []
    for width in widths(limit, size, count_of(views, question.filter)):
        if not width:
            return []
        (hits,) = nearest(views, query, replace(question, limit=width))
        groups = grouped(hits, [steps.keys_of_row(near.at, field) for near in hits], limit, size)
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
    question = replace(question, filter=steps.without(question.filter, (*positive, *negative)))
    if strategy is Strategy.AVERAGE:
        return told(nearest(views, steps.middle_of(views[0].space, liked, disliked), question)[0], wanted)
    found = nearest(views, liked, replace(question, limit=steps.candidates(question.limit)))
    among = [*{near.id: near for hits in found for near in hits}.values()]
    if not among:
        return []
    to_liked, to_disliked = steps.compared(views[0].space, among, liked, disliked)
    order = recommending.ordered(to_liked, to_disliked, question.limit)
    return told([among[at]._replace(distance=float(to_liked[at])) for at in order.tolist()], wanted)


def by_several(views: Views, queries: Rows, question: Question, field: str, wanted: Wanted) -> list[Gathered]:
    """Things that have several vectors each, by several of a query: MaxSim over all vectors of those that come near."""
    check_several(question.limit, len(queries))
    found = nearest(views, queries, replace(question, limit=steps.near_things(question.limit)))
    things = steps.things_of([(near.distance, steps.keys_of_row(near.at, field)) for hits in found for near in hits])
    scored = steps.scored(views, queries, (field, things), question.filter)
    gathered = []
    for thing, score in steps.best_things(scored.least, question.limit):
        hits = [near for near in scored.near[thing] if near is not None]
        gathered.append(Gathered(facets.written(things[thing]), told([*dict.fromkeys(hits)], wanted), score))
    return gathered


def check_groups(groups: int, size: int) -> None:
    """Raise Refused unless so many groups of so many can be asked for."""
    _check_within(groups, GROUPS_MAX, "options.limit")
    _check_within(size, GROUP_SIZE_MAX, "group_size")


def check_several(things: int, queries: int) -> None:
    """Raise Refused unless so many things can be asked for by so many vectors."""
    _check_within(things, GROUPS_MAX, "options.limit")
    _check_within(queries, QUERY_VECTORS_MAX, "vectors")


def _examples(views: Views, names: Sequence[str], where: str) -> Rows:
    space = views[0].space
    if not names:
        return np.empty((0, space.width), space.dtype)
    places: list[At | None] = [None] * len(names)
    for view in views:
        for at, stored in enumerate(view.get(names)):
            if stored is not None:
                places[at] = At(view, stored.place)
    steps.check_there(names, [place is not None for place in places], where)
    return matrix_of([place for place in places if place is not None])


def _check_within(value: int, high: int, where: str) -> None:
    if not 1 <= value <= high:
        raise Refused(f"is {value}, but must be 1 to {high}", field=where)
