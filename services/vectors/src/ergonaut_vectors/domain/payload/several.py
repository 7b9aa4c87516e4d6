"""Several vectors under one id, as of a text's passages or a page's patches: each is a row, and an answer names the id once.

A shard finds rows near each vector of the query, takes all rows of the ids that these belong to, and scores them here.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.space import Floats

VECTORS_MAX = 1024
"""Vectors of one id; as many as models that give one for each word make of a page."""

SEPARATOR = "\x1f"
"""Stands between an id and the number of its row, from the second row on; nobody's id has it."""


def row_ids(name: str, count: int) -> list[str]:
    """The ids of the rows of one id: the first is the id itself, so that it is found as any other."""
    return [name, *(f"{name}{SEPARATOR}{number}" for number in range(1, count))]


def name_of(row_id: str) -> str:
    """The id that a row belongs to."""
    return row_id.partition(SEPARATOR)[0]


def nearest_rows(owners: Sequence[str], distances: Floats, limit: int) -> list[tuple[str, float, int]]:
    """Ids by their nearest row, nearest first: the id, the distance, and which of the rows it is."""
    best: dict[str, tuple[str, float, int]] = {}
    for at in np.argsort(distances, kind="stable").tolist():
        if owners[at] not in best:
            best[owners[at]] = (owners[at], float(distances[at]), at)
            if len(best) == limit:
                break
    return list(best.values())


def summed(owners: npt.NDArray[np.int64], distances: Floats, count: int) -> Floats:
    """MaxSim, as distances: for each of `count` owners the sum, over the query's vectors, of the distance to its nearest row.

    `distances` are [query's vectors, rows], `owners` the owner of each row, ascending. An owner without rows is infinitely far.
    """
    far = np.full(count, np.inf, np.float32)
    if not len(owners):
        return far
    assert np.all(owners[:-1] <= owners[1:]), "rows of one owner stand together"
    present, starts = np.unique(owners, return_index=True)
    nearest = np.minimum.reduceat(distances, starts, axis=1)
    far[present] = nearest.sum(axis=0, dtype=np.float64)
    return far
