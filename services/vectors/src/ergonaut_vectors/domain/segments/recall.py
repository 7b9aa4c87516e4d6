"""How well an index finds what is near: asked for what lies beside its rows, compared with an exact search. Done as work.

Rows themselves are found too easily: their neighbours were linked to them when they came. What lies a third of the way from a
row to another is about as hard to find as what was never seen; measured with images' features and sentences' embeddings.
"""

import numpy as np

from ergonaut_vectors.domain.indexes.port import NONE, Asked
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.segments.view import Part, Tuned
from ergonaut_vectors.domain.segments.writes import prepared
from ergonaut_vectors.domain.space import Element, Rows, Space

QUERIES = 128
"""With ten neighbours of each, recall is known to less than a hundredth."""

NEIGHBOURS = 10
ASIDE = 0.35
"""How far from a row a query lies, of the way to another."""

SPARE = 0.1
"""The part of what may be missed that is not used, for queries may be harder than these."""

EFFORTS = tuple(sorted([2**step for step in range(2, 13)] + [3 * 2**step for step in range(2, 11)]))
"""Tried from the least to the most, until one finds enough; what they mean is the index's."""


def tuned(space: Space, part: Part, wanted: float, seed: int) -> Tuned:
    """The least effort that finds the part wanted of the nearest living rows, or the most there is; and what it finds."""
    queries = beside(space, part, seed)
    truth = part.store.search_exactly(queries, _asked(part, 0)).rows
    enough = wanted + SPARE * (1.0 - wanted)
    best = Tuned(0, _recall(part, queries, truth, _asked(part, 0)), part.count, wanted)
    for effort in EFFORTS:
        recall = _recall(part, queries, truth, _asked(part, effort))
        if recall >= enough or recall > best.recall:
            best = Tuned(effort, recall, part.count, wanted)
        if recall >= enough:
            break
    return best


def beside(space: Space, part: Part, seed: int) -> Rows:
    """Queries that lie beside living rows."""
    random = np.random.default_rng(seed)
    living = bits.rows_of(part.live, part.store.count)
    some, others = (part.store.rows[np.sort(random.permutation(living)[:QUERIES])] for _ in range(2))
    others = random.permutation(others)
    if space.element is Element.BINARY:
        taken = np.packbits(random.random((len(some), 8 * space.width)) < ASIDE, axis=1, bitorder="little")
        mixed: Rows = (some & ~taken) | (others & taken)
        return mixed
    between = some.astype(np.float32) * (1 - ASIDE) + others.astype(np.float32) * ASIDE
    if space.element in (Element.UINT8, Element.INT8):
        between = np.rint(between)
    return prepared(space, between.astype(space.dtype))


def _asked(part: Part, effort: int) -> Asked:
    allowed, count = part.allowed(None)
    return Asked(min(NEIGHBOURS, count), effort, allowed, count)


def _recall(part: Part, queries: Rows, truth: "np.ndarray[tuple[int, ...], np.dtype[np.int32]]", asked: Asked) -> float:
    found = part.store.search(queries, asked).rows
    shares = [
        len(set(some.tolist()) & set(all_of_them.tolist()) - {NONE}) / np.count_nonzero(all_of_them != NONE)
        for some, all_of_them in zip(found, truth, strict=True)
    ]
    return float(np.mean(shares)) if shares else 1.0
