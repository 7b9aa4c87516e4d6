"""Kernels that copy chosen rows and ids, without holding up the interpreter as NumPy's indexing does: a merge moves gigabytes
beside searches. Used by `segments`; a test compares them with NumPy.
"""

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.machine import kernel

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


@kernel
def copy_rows(rows: Bytes, chosen: Numbers, copied: Bytes) -> None:
    """Row `i` of the copy is row `chosen[i]`; both are [rows, bytes of a row]."""
    for i in range(chosen.shape[0]):
        row = chosen[i]
        for at in range(rows.shape[1]):
            copied[i, at] = rows[row, at]


@kernel
def copy_texts(blob: Bytes, offsets: Numbers, chosen: Numbers, copied: Bytes, copied_offsets: Numbers) -> None:
    """The same for texts that stand one behind the other; there is room for them, and `copied_offsets` are told."""
    for i in range(chosen.shape[0]):
        first, to = offsets[chosen[i]], copied_offsets[i]
        for at in range(copied_offsets[i + 1] - to):
            copied[to + at] = blob[first + at]
