"""Things that have several vectors, such as a text with its passages or a page with its patches: each vector is a row of its own.

Rows near each vector of the query are found first; then all rows of the things that these belong to are scored here.
"""

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.space import Floats


def nearest(owners: npt.NDArray[np.int64], distances: Floats, count: int) -> npt.NDArray[np.int64]:
    """For each of `count` owners and each vector of the query the nearest row, [owners, query's vectors]; -1 without any.

    `distances` are [query's vectors, rows], `owners` the owner of each row, ascending.
    """
    rows = np.full((count, len(distances)), -1, np.int64)
    if not len(owners):
        return rows
    assert np.all(owners[:-1] <= owners[1:]), "rows of one owner stand together"
    present, starts = np.unique(owners, return_index=True)
    for owner, first, after in zip(present.tolist(), starts.tolist(), [*starts[1:].tolist(), len(owners)], strict=True):
        rows[owner] = first + distances[:, first:after].argmin(axis=1)
    return rows


def summed(least: Floats) -> Floats:
    """MaxSim, as distances: for each owner the sum, over the query's vectors, of the distance to its nearest row.

    `least` are those distances, [owners, query's vectors], infinite where an owner has no row.
    """
    sums: Floats = least.sum(axis=1, dtype=np.float64).astype(np.float32)
    return sums
