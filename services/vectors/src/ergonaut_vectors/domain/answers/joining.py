"""Words and nearness in one ranking. Called by the service in a thread."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ergonaut.errors import Refused
from ergonaut_vectors.domain.answers.rows import INFINITELY, At, Near, Row, Views, Wanted, nearest, told
from ergonaut_vectors.domain.payload import fusing, ranking
from ergonaut_vectors.domain.payload.ranking import Statistics
from ergonaut_vectors.domain.segments.view import Place, Question
from ergonaut_vectors.domain.space import Rows

DEPTH_MAX = 1000
"""Of each ranking; what is further down hardly changes the first of the joined one."""


class FusionKind(StrEnum):
    """What counts where rankings are joined."""

    RANKS = "reciprocal-rank"
    SCORES = "weighted"


@dataclass(frozen=True, slots=True)
class Hybrid:
    """What is asked by words, and how it is joined with what is near."""

    text: str
    field: str
    kind: FusionKind = FusionKind.RANKS
    words_weight: float = 0.5
    depth: int = 0
    """Of each ranking; 0 stands for four times the limit."""

    def check(self, limit: int) -> None:
        """Raise Refused unless every part is within its bounds."""
        if not self.field:
            raise Refused("must name a field of type text", field="text_field")
        if not ranking.query_words(self.text):
            raise Refused("has no word to search for", field="text")
        if not 0 <= self.words_weight <= 1:
            raise Refused(f"is {self.words_weight:g}, but must be 0 to 1", field="fusion.words_weight")
        if self.depth and not limit <= self.depth <= DEPTH_MAX:
            raise Refused(f"is {self.depth}, but must be limit, {limit}, to {DEPTH_MAX}", field="fusion.depth")


def depth_of(asked: Hybrid, limit: int) -> int:
    """How many of each ranking are joined. Raises Refused unless every part of what is asked is within its bounds."""
    asked.check(limit)
    return asked.depth or min(4 * limit, DEPTH_MAX)


def joined(
    views: Views, query: Rows | None, question: Question, asked: Hybrid, wanted: Wanted
) -> list[tuple[Row, float]]:
    """The best by both, with their scores; without a query by words alone."""
    deeper = replace(question, limit=depth_of(asked, question.limit))
    by_words = worded(views, asked, deeper, counted(views, asked))
    by_nearness = nearest(views, query, deeper)[0] if query is not None else None
    known = {near.id: near for near, _ in by_words} | {near.id: near for near in by_nearness or ()}
    distances = None if by_nearness is None else [(near.id, near.distance) for near in by_nearness]
    best = fused([(near.id, score) for near, score in by_words], distances, asked)[: question.limit]
    rows = told([known[name] for name, _ in best], wanted)
    return [(row, score) for row, (_, score) in zip(rows, best, strict=True)]


def fused(
    by_words: Sequence[tuple[str, float]], by_nearness: Sequence[tuple[str, float]] | None, asked: Hybrid
) -> list[tuple[str, float]]:
    """One ranking of both: of ids with their scores, and of ids with their distances, None where nothing near was asked for."""
    weights = [1.0, 0.0] if by_nearness is None else [asked.words_weight, 1 - asked.words_weight]
    near = by_nearness or ()
    if asked.kind is FusionKind.RANKS:
        return fusing.by_ranks([[name for name, _ in by_words], [name for name, _ in near]], weights=weights)
    return fusing.by_scores([dict(by_words), {name: -distance for name, distance in near}], weights=weights)


def counted(views: Views, asked: Hybrid) -> Statistics:
    """What all parts of these shards know of the words together; those of all shards are `combined`."""
    words = ranking.query_words(asked.text)
    return ranking.combined(
        ranking.statistics_of(part.store.columns, asked.field, words, part.store.count)
        for view in views
        for part in view.parts
    )


def worded(views: Views, asked: Hybrid, question: Question, known: Statistics) -> list[tuple[Near, float]]:
    """The best by BM25, with what is known of the words by all shards together."""
    words = ranking.query_words(asked.text)
    found: list[tuple[Near, float]] = []
    for view in views:
        for number, part in enumerate(view.parts):
            allowed, count = part.allowed(question.filter)
            if not count:
                continue
            scores = ranking.scores_of(part.store.columns, asked.field, words, known, part.store.count)
            best = ranking.best(scores, question.limit, allowed)
            for row, score in zip(best.rows.tolist(), best.scores.tolist(), strict=True):
                at = At(view, Place(number, row))
                found.append((Near(view.id_at(at.place), INFINITELY, at), score))
    return sorted(found, key=lambda each: (-each[1], each[0].id))[: question.limit]
