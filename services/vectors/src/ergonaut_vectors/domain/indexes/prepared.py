"""Rows, queries and answers as kernels take them: which loop a space wants, halves as bits, bits as words. For all indexes."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.scan import ANGLE, INNER, L2, UNIT
from ergonaut_vectors.domain.indexes.port import Asked, Found
from ergonaut_vectors.domain.space import Element, Metric, Rows, Space, Words

FLOATS = (Element.FLOAT32, Element.FLOAT16)
ALL_ROWS: Words = np.empty(0, np.uint64)
"""What kernels take for "every row counts"."""

_WORD_BYTES = 8


def loop_of(space: Space) -> int:
    """The number by which kernels know the metric; Hamming has but one loop, which its rows tell."""
    if space.metric is Metric.L2:
        return L2
    if space.metric is Metric.INNER_PRODUCT:
        return INNER
    return UNIT if space.element in FLOATS else ANGLE


def rows_for(space: Space, rows: Rows) -> npt.NDArray[Any]:
    """The same rows, not copied, as kernels read them."""
    if space.element is Element.FLOAT16:
        return rows.view(np.uint16)
    if space.element is Element.BINARY and space.width % _WORD_BYTES == 0:
        return rows.view(np.uint64) if rows.flags.c_contiguous else rows
    return rows


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same array, not to be written: mapped files are so too, and a kernel is compiled for either sort."""
    view = array.view()
    view.flags.writeable = False
    return view


def queries_for(space: Space, queries: Rows) -> npt.NDArray[Any]:
    """Queries as kernels take them beside such rows; floats are float32."""
    if space.element in FLOATS:
        return np.ascontiguousarray(queries, dtype=np.float32)
    if space.element is Element.BINARY:
        return rows_for(space, np.ascontiguousarray(queries))
    return np.ascontiguousarray(queries, dtype=np.int16)


def empty_answer(queries: int, limit: int) -> Found:
    """Room for an answer, which kernels fill to its end."""
    return Found(np.empty((queries, limit), np.int32), np.empty((queries, limit), np.float32))


def allowed_for(asked: Asked) -> Words:
    """The words of the rows that count, as kernels take them."""
    if asked.allowed is None or len(asked.allowed):
        return ALL_ROWS if asked.allowed is None else asked.allowed
    return ALL_ROWS
