"""Recommendations: what is like some examples and unlike others, from vectors that are there already. The service calls."""

from enum import StrEnum

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Refused
from ergonaut_vectors.domain.space import Floats

EXAMPLES_MAX = 64
"""Each is a search of its own by the strategy that compares with every example."""


class Strategy(StrEnum):
    """How examples are taken together."""

    AVERAGE = "average"
    """One search from the middle of what is liked, pushed away from the middle of what is not."""
    BEST = "best"
    """A search from each example; a vector is as good as the example it is nearest to."""


def check_examples(positive: int, negative: int) -> None:
    """Raise Refused unless so many examples can be taken."""
    if positive < 1:
        raise Refused(
            "has no entry; something must be liked, and negative only says what to stay away from", field="positive"
        )
    if positive + negative > EXAMPLES_MAX:
        raise Refused(f"has {positive + negative} entries with negative; {EXAMPLES_MAX} are taken", field="positive")


def averaged(positive: Floats, negative: Floats) -> Floats:
    """The vector to search from, [dimension], of examples [count, dimension]."""
    middle = positive.mean(axis=0, dtype=np.float64)
    if len(negative):
        middle += middle - negative.mean(axis=0, dtype=np.float64)
    query: Floats = middle.astype(np.float32)
    return query


def ordered(to_liked: Floats, to_disliked: Floats, limit: int) -> npt.NDArray[np.int64]:
    """The best candidates, best first, of the distances of each to the nearest example that is liked, and disliked.

    Those nearer to something liked than to anything disliked come first, the nearest of them before others; the rest comes
    after, the farthest from what is disliked before others. Where nothing is disliked that is infinitely far.
    """
    liked = to_liked < to_disliked
    return np.lexsort((np.where(liked, to_liked, -to_disliked), ~liked))[:limit]
