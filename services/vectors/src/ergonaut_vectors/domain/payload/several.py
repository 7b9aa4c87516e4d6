"""Things that have several vectors, such as a text with its passages or a page with its patches: each vector is a row of its own.

Rows near each vector of the query are found first; then all rows of the things that these belong to are scored here.
"""

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.space import Floats


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
