"""How well an index finds what is near, by asking it for rows that it has and comparing with an exact search. Done as work."""

import numpy as np

from ergonaut_vectors.domain.indexes.port import NONE, Asked
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.segments.view import Part, Tuned
from ergonaut_vectors.domain.space import Rows

QUERIES = 64
"""Rows that are asked for: with ten neighbours of each, recall is known to about a hundredth."""

NEIGHBOURS = 10
EFFORTS = tuple(2**step for step in range(3, 13))
"""Tried from the least to the most, until one finds enough; what they mean is the index's."""


def tuned(part: Part, wanted: float, seed: int) -> Tuned:
    """The least effort that finds the part wanted of the nearest living rows, or the most there is; and what it finds."""
    living = bits.rows_of(part.live, part.store.count)
    chosen = np.random.default_rng(seed).permutation(living)[:QUERIES]
    queries = part.store.rows[np.sort(chosen)]
    asked = _asked(part, 0)
    truth = part.store.search_exactly(queries, asked).rows
    effort, recall = 0, _recall(part, queries, truth, asked)
    for tried in EFFORTS:
        if recall >= wanted:
            break
        found = _recall(part, queries, truth, _asked(part, tried))
        if found > recall:
            effort, recall = tried, found
    return Tuned(effort, recall, part.count, wanted)


def _asked(part: Part, effort: int) -> Asked:
    allowed, count = part.allowed(None)
    # One more, for each finds itself.
    return Asked(min(NEIGHBOURS + 1, count), effort, allowed, count)


def _recall(part: Part, queries: Rows, truth: "np.ndarray[tuple[int, ...], np.dtype[np.int32]]", asked: Asked) -> float:
    found = part.store.search(queries, asked).rows
    shares = [
        len(set(some.tolist()) & set(all_of_them.tolist()) - {NONE}) / np.count_nonzero(all_of_them != NONE)
        for some, all_of_them in zip(found, truth, strict=True)
    ]
    return float(np.mean(shares)) if shares else 1.0
