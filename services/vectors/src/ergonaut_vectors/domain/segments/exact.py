"""What a distance is, in NumPy: for single queries over few rows, and for tests."""

from typing import cast

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.space import Floats, Metric, Rows, Space


def distances(space: Space, rows: Rows, query: npt.NDArray[np.generic]) -> Floats:
    """From one prepared query to each row, in NumPy."""
    if space.metric is Metric.HAMMING:
        return cast(Floats, np.bitwise_count(rows ^ query).sum(axis=1).astype(np.float32))
    wide, asked = rows.astype(np.float32), query.astype(np.float32)
    if space.metric is Metric.L2:
        return cast(Floats, np.square(wide - asked).sum(axis=1))
    products = wide @ asked
    if space.metric is Metric.INNER_PRODUCT:
        return -products
    lengths = np.sqrt(np.square(wide).sum(axis=1)) * np.sqrt(np.square(asked).sum())
    return cast(Floats, (1.0 - products / np.where(lengths > 0, lengths, 1.0)).astype(np.float32))
