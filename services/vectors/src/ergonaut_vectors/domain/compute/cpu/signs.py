"""The kernel that makes 1-bit codes: signs of what is left of turned rows without their lists' centres, as in RaBitQ.

Called by `indexes/lists.py` while an index is built; the codes are scanned as nibbles of four signs (`parts.py`).
"""

from typing import Any

import numpy as np

from ergonaut_vectors.domain.compute.cpu.clusters import Labels
from ergonaut_vectors.domain.compute.cpu.machine import sum_kernel
from ergonaut_vectors.domain.compute.cpu.nibbles import BLOCK_ROWS, Bytes
from ergonaut_vectors.domain.compute.cpu.scan import INNER
from ergonaut_vectors.domain.space import Floats

SIGNS_OF_BYTE = 8
_ZERO = np.float32(0.0)
_TWO = np.float32(2.0)
_LEAST = np.float32(1e-30)


@sum_kernel
def write_signs(metric: int, turned: Floats, lists: tuple[Labels, Floats], packed: Bytes, worth: Any) -> None:
    """Write the signs of turned rows, and what these are worth: slopes and bases. `lists` are labels of rows and turned centres.

    A slope scales signs so that their product with the row itself is right; the product with the query is then not biased.
    """
    labels, centres = lists
    slopes, bases = worth
    for row in range(turned.shape[0]):
        centre = centres[labels[row]]
        squares, lengths, product = _ZERO, _ZERO, _ZERO
        for i in range(turned.shape[1]):
            rest = turned[row, i] - centre[i]
            squares += rest * rest
            lengths += abs(rest)
            product += centre[i] if rest > _ZERO else -centre[i]
        slopes[row] = squares / max(lengths, _LEAST)
        bases[row] = _ZERO if metric == INNER else squares + _TWO * slopes[row] * product
        for at in range(packed.shape[1]):
            signs = np.uint8(0)
            for bit in range(SIGNS_OF_BYTE):
                i = at * SIGNS_OF_BYTE + bit
                signs |= np.uint8(turned[row, i] - centre[i] > _ZERO) << np.uint8(bit)
            packed[row // BLOCK_ROWS, at, row % BLOCK_ROWS] = signs
