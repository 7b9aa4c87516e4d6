"""Words and nearness in one ranking. Called by the service in a thread."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ergonaut.errors import Refused
from ergonaut_vectors.domain.answers.rows import INFINITELY, At, Near, Row, Views, Wanted, nearest, told
from ergonaut_vectors.domain.payload import fusing, ranking
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


def joined(
    views: Views, query: Rows | None, question: Question, asked: Hybrid, wanted: Wanted
) -> list[tuple[Row, float]]:
    """The best by both, with their scores; without a query by words alone."""
    asked.check(question.limit)
    depth = asked.depth or min(4 * question.limit, DEPTH_MAX)
    deeper = replace(question, limit=depth)
    by_words = worded(views, asked, deeper)
    by_nearness = nearest(views, query, deeper)[0] if query is not None else []
    known = {near.id: near for near, _ in by_words} | {near.id: near for near in by_nearness}
    weights = [asked.words_weight, 1 - asked.words_weight] if query is not None else [1.0, 0.0]
    if asked.kind is FusionKind.RANKS:
        rankings = [[near.id for near, _ in by_words], [near.id for near in by_nearness]]
        best = fusing.by_ranks(rankings, weights=weights)
    else:
        scores = [{near.id: score for near, score in by_words}, {near.id: -near.distance for near in by_nearness}]
        best = fusing.by_scores(scores, weights=weights)
    chosen = best[: question.limit]
    rows = told([known[name] for name, _ in chosen], wanted)
    return [(row, score) for row, (_, score) in zip(rows, chosen, strict=True)]


def worded(views: Views, asked: Hybrid, question: Question) -> list[tuple[Near, float]]:
    """The best by BM25, with what is known of the words by all parts of all shards together."""
    words = ranking.query_words(asked.text)
    parts = [(view, number, part) for view in views for number, part in enumerate(view.parts)]
    known = ranking.combined(
        ranking.statistics_of(part.store.columns, asked.field, words, part.store.count) for _, _, part in parts
    )
    found: list[tuple[Near, float]] = []
    for view, number, part in parts:
        allowed, count = part.allowed(question.filter)
        if not count:
            continue
        scores = ranking.scores_of(part.store.columns, asked.field, words, known, part.store.count)
        best = ranking.best(scores, question.limit, allowed)
        for row, score in zip(best.rows.tolist(), best.scores.tolist(), strict=True):
            at = At(view, Place(number, row))
            found.append((Near(view.id_at(at.place), INFINITELY, at), score))
    return _best(found, question.limit)


def _best(found: Sequence[tuple[Near, float]], limit: int) -> list[tuple[Near, float]]:
    return sorted(found, key=lambda each: (-each[1], each[0].id))[:limit]
