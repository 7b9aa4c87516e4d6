"""The kernel that brings rows to length one, to the same bits on every machine: replicas must agree on what was written twice.

NumPy adds up in an order that depends on the processor. Used by `segments/writes.py`; a test compares it with exact sums.
"""

import numpy as np

from ergonaut_vectors.domain.compute.cpu.machine import kernel
from ergonaut_vectors.domain.space import Floats


@kernel
def bring_to_length_one(rows: Floats, brought: Floats) -> None:
    """Rows divided by their lengths; one of length zero has no direction and stays as it is."""
    for row in range(rows.shape[0]):
        total = 0.0
        for at in range(rows.shape[1]):
            total += np.float64(rows[row, at]) * np.float64(rows[row, at])
        length = np.sqrt(total) if total > 0.0 else 1.0
        for at in range(rows.shape[1]):
            brought[row, at] = np.float32(np.float64(rows[row, at]) / length)
