"""One ranking from several: of a search by vector and one by words, of several vectors, or of the shards' answers to both."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from ergonaut.errors import Refused

Key = TypeVar("Key", bound=Hashable)

RANKS_K = 60.0
"""How much the first places count more than the next ones; the value of Cormack, Clarke and Büttcher, who found RRF."""


def by_ranks(
    rankings: Sequence[Sequence[Key]], *, weights: Sequence[float] | None = None, ranks_k: float = RANKS_K
) -> list[tuple[Key, float]]:
    """Reciprocal rank fusion: each ranking gives its nth 1 / (k + n). Best first; equal ones as the rankings have them.

    It needs no scores, and so compares rankings whose scores mean different things.
    """
    scores: dict[Key, float] = {}
    for ranking, weight in zip(rankings, _weights(rankings, weights), strict=True):
        for rank, key in enumerate(ranking, 1):
            scores[key] = scores.get(key, 0.0) + weight / (ranks_k + rank)
    return _best_first(scores)


def by_scores(
    rankings: Sequence[Mapping[Key, float]], *, weights: Sequence[float] | None = None
) -> list[tuple[Key, float]]:
    """Weighted sum of scores, each ranking's brought to 0 to 1 first. Higher is better, so give distances negated.

    What a ranking does not have gets 0 from it, as its last one does.
    """
    scores: dict[Key, float] = {}
    for ranking, weight in zip(rankings, _weights(rankings, weights), strict=True):
        if not ranking:
            continue
        low, high = min(ranking.values()), max(ranking.values())
        for key, score in ranking.items():
            # A ranking whose scores are all the same says of each of them that it belongs there.
            share = (score - low) / (high - low) if high > low else 1.0
            scores[key] = scores.get(key, 0.0) + weight * share
    return _best_first(scores)


def _weights(rankings: Sequence[object], weights: Sequence[float] | None) -> Sequence[float]:
    if weights is None:
        return [1.0] * len(rankings)
    if len(weights) != len(rankings):
        raise Refused(f"has {len(weights)} entries for {len(rankings)} rankings", field="weights")
    return weights


def _best_first(scores: Mapping[Key, float]) -> list[tuple[Key, float]]:
    return sorted(scores.items(), key=lambda item: -item[1])  # stable: who came first stays before its equals
