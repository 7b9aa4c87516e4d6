"""The space that vectors live in: what a number of a vector is, and what "near" means. Every index and kernel is told it.

Distances are such that smaller is nearer, for every metric, and are what callers are told.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[Any]
"""Vectors as an index keeps them, [count, `Space.width`] of `Space.dtype`, C-contiguous, read only."""

Words = npt.NDArray[np.uint64]
"""Which rows count, [ceil(count / 64)]: row `r` is bit `r % 64` of word `r // 64`; bits behind the last row are 0."""


class Metric(StrEnum):
    """What "near" means, and so what a distance is."""

    L2 = "l2"
    """The sum of squared differences."""
    COSINE = "cosine"
    """One minus the cosine of the angle. Rows of floats are kept at length one."""
    INNER_PRODUCT = "inner-product"
    """Minus the inner product."""
    HAMMING = "hamming"
    """The number of bits that differ; for `Element.BINARY` alone, which has no other metric."""


class Element(StrEnum):
    """What one number of a vector is kept as."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    UINT8 = "uint8"
    INT8 = "int8"
    BINARY = "binary"
    """One bit a dimension, eight to a byte, the first dimension in the lowest bit (`numpy.packbits`, bitorder "little")."""


_DTYPES: dict[Element, "np.dtype[Any]"] = {
    Element.FLOAT32: np.dtype(np.float32),
    Element.FLOAT16: np.dtype(np.float16),
    Element.UINT8: np.dtype(np.uint8),
    Element.INT8: np.dtype(np.int8),
    Element.BINARY: np.dtype(np.uint8),
}


@dataclass(frozen=True, slots=True)
class Space:
    """Dimension, element and metric of a collection; fixed when it is made."""

    dimension: int
    metric: Metric = Metric.L2
    element: Element = Element.FLOAT32

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The type of an entry of `Rows`."""
        return _DTYPES[self.element]

    @property
    def width(self) -> int:
        """Entries of one row: the dimension, or its bytes where eight dimensions share one."""
        return -(-self.dimension // 8) if self.element is Element.BINARY else self.dimension

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.width * self.dtype.itemsize
