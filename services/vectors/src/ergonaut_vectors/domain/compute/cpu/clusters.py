"""Kernels of clustering: means of clusters; means and the nearest centre of each row in every part of a divided space.

Called while lists and codes are built, by `indexes/coarse.py` and `indexes/product.py`; the large products between are NumPy's.
"""

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.machine import kernel, sum_kernel
from ergonaut_vectors.domain.space import Floats

Labels = npt.NDArray[np.int32]


@kernel
def add_up(rows: Floats, labels: Labels, sums: Floats, counts: npt.NDArray[np.int64]) -> None:
    """Add rows to the sums of their clusters."""
    for i in range(rows.shape[0]):
        label = labels[i]
        counts[label] += 1
        for j in range(rows.shape[1]):
            sums[label, j] += rows[i, j]


@sum_kernel
def encode_parts(rows: Floats, centres: Floats, codes: npt.NDArray[np.uint8]) -> None:
    """The nearest centre of each part of each row; `centres` is [parts, numbers of a part, centres of a part]."""
    parts, width, choices = centres.shape
    far = np.empty(choices, np.float32)
    for i in range(rows.shape[0]):
        for part in range(parts):
            for choice in range(choices):
                far[choice] = np.float32(0.0)
            for j in range(width):
                number = rows[i, part * width + j]
                for choice in range(choices):
                    gap = number - centres[part, j, choice]
                    far[choice] += gap * gap
            best = 0
            for choice in range(1, choices):
                if far[choice] < far[best]:
                    best = choice
            codes[i, part] = best


@kernel
def mean_parts(rows: Floats, codes: npt.NDArray[np.uint8], centres: Floats) -> None:
    """Move each centre of each part to the mean of what it was nearest to; one that was nearest to nothing goes to a row."""
    parts, width, choices = centres.shape
    sums = np.empty((width, choices), np.float32)
    counts = np.empty(choices, np.int64)
    for part in range(parts):
        sums[:] = np.float32(0.0)
        counts[:] = 0
        for i in range(rows.shape[0]):
            code = codes[i, part]
            counts[code] += 1
            for j in range(width):
                sums[j, code] += rows[i, part * width + j]
        for choice in range(choices):
            stray = (choice * 7919 + part * 104729) % rows.shape[0]
            for j in range(width):
                if counts[choice]:
                    centres[part, j, choice] = sums[j, choice] / np.float32(counts[choice])
                else:
                    centres[part, j, choice] = rows[stray, part * width + j]
