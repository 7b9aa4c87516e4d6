"""How well an index finds what is near: asked for what lies beside its rows, compared with an exact search. Done as work.

Rows themselves are found too easily: their neighbours were linked to them when they came. What lies a third of the way from a
row to another is about as hard to find as what was never seen; measured with images' features and sentences' embeddings. Where
rows are made up in clusters far apart it is harder, and searches then look harder than they need; what lies on the way to a
nearer row is too easy.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.indexes.port import NONE, Asked
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.segments.view import Part, Tuned
from ergonaut_vectors.domain.segments.writes import prepared
from ergonaut_vectors.domain.space import Element, Rows, Space

QUERIES = 256
"""With ten neighbours of each, recall is known to half a hundredth."""

NEIGHBOURS = 10
ASIDE = 1 / 3
"""How far from a row a query lies, of the way to another."""

CONFIDENCE = 1.645
"""Standard errors by which the recall that was seen has to be above the one wanted: then 19 of 20 times the true one is."""

EFFORTS = tuple(2**step for step in range(2, 13))
"""Tried from the least to the most, until one finds enough; what they mean is the index's."""

CLOSE = 1.1
"""How much more than needed an effort may be: searches take longer by about as much."""

Shares = npt.NDArray[np.float64]
"""Of the nearest to each query, the part that was found."""


def tuned(space: Space, part: Part, wanted: float, seed: int) -> Tuned:
    """The least effort that surely finds the part wanted of the nearest living rows, or the best seen; and what it finds."""
    queries = beside(space, part, seed)
    truth = part.store.search_exactly(queries, _asked(part, 0)).rows

    def seen(effort: int) -> Shares:
        return _shares(part, queries, truth, _asked(part, effort))

    best, below = Tuned(0, float(seen(0).mean()), part.count, wanted), 1
    for effort in EFFORTS:
        shares = seen(effort)
        if surely(shares) >= wanted:
            effort, shares = least(seen, wanted, (below, effort), shares)  # noqa: PLW2901 (the last turn)
            return Tuned(effort, float(shares.mean()), part.count, wanted)
        if shares.mean() > best.recall:
            best = Tuned(effort, float(shares.mean()), part.count, wanted)
        below = effort
    return best


def surely(shares: Shares) -> float:
    """The recall of which these queries make sure."""
    return float(shares.mean() - CONFIDENCE * shares.std() / np.sqrt(len(shares)))


def least(
    seen: Callable[[int], Shares], wanted: float, between: tuple[int, int], found: Shares
) -> tuple[int, Shares]:  # fmt: skip
    """The least effort that surely finds enough, between one that does not and one that does, and what it finds."""
    below, enough = between
    while enough > CLOSE * below and enough - below > 1:
        middle = (below + enough) // 2
        shares = seen(middle)
        if surely(shares) >= wanted:
            enough, found = middle, shares
        else:
            below = middle
    return enough, found


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


def _shares(part: Part, queries: Rows, truth: npt.NDArray[np.int32], asked: Asked) -> Shares:
    found = part.store.search(queries, asked).rows
    shares = [
        len(set(some.tolist()) & set(all_of_them.tolist()) - {NONE}) / np.count_nonzero(all_of_them != NONE)
        for some, all_of_them in zip(found, truth, strict=True)
    ]
    return np.array(shares)
