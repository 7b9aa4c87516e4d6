"""The codes along which a graph is built and walked: one byte a number, or the bits of a binary row. Used by `graph.py`.

Bytes and bits are their own codes, and gaps between them are exact. Numbers of floats are taken to 255 steps: within the middle
of their spread where differences count, which moves nothing; by one factor where products do.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.code_gaps import BITS, BLOCK_BYTES, PRODUCTS, SQUARES
from ergonaut_vectors.domain.indexes.prepared import FLOATS
from ergonaut_vectors.domain.space import Element, Floats, Metric, Rows, Space

CODE_MIN, CODE_MAX = -128, 127
SAMPLE_ROWS = 16_384
"""Rows by which the spread of numbers is judged."""

OUTSIDE = 0.0002
"""Of a sample's numbers so many may lie outside of what codes say: an outlier must not make the steps of all others wide."""

CHUNK_ROWS = 8192
"""Rows that are made into codes at a time, so that their floats take little memory."""

AS_IT_IS = 0.0
OF_ITS_OWN = -1.0


@dataclass(frozen=True, slots=True)
class Coding:
    """How rows and queries become codes."""

    form: int
    offset: Floats  # [dimension]
    factor: float
    """Steps for one; AS_IT_IS copies bytes."""
    query_factor: float
    """The same for queries; OF_ITS_OWN is chosen for each."""
    exact: bool
    """Gaps between codes are the distances themselves."""


def coding_for(space: Space, rows: Rows) -> Coding:
    """The coding that fits these rows."""
    none = np.zeros(space.width, np.float32)
    if space.element is Element.BINARY:
        return Coding(BITS, none, AS_IT_IS, AS_IT_IS, exact=True)
    if space.element in FLOATS:
        return _for_floats(space, rows)
    if space.element is Element.INT8 and space.metric is not Metric.COSINE:
        return Coding(SQUARES if space.metric is Metric.L2 else PRODUCTS, none, AS_IT_IS, AS_IT_IS, exact=True)
    if space.metric is Metric.L2:
        return Coding(SQUARES, none - CODE_MIN, 1.0, 1.0, exact=True)
    # Cosines of bytes: rows of length one, of which the numbers are coded; products of bytes without a sign: by halves.
    factor = 0.5 if space.metric is Metric.INNER_PRODUCT else float(CODE_MAX)
    return Coding(PRODUCTS, none, factor, OF_ITS_OWN, exact=False)


def _for_floats(space: Space, rows: Rows) -> Coding:
    step = max(1, len(rows) // SAMPLE_ROWS)
    sample = np.asarray(rows[::step], np.float32)
    if space.metric is Metric.INNER_PRODUCT:
        factor = CODE_MAX / (_spread(sample) or 1.0)
        return Coding(PRODUCTS, np.zeros(space.width, np.float32), factor, OF_ITS_OWN, exact=False)
    low, high = (
        (np.quantile(sample, part, axis=0) for part in (0.001, 0.999)) if len(sample) else (np.zeros(space.width),) * 2
    )
    offset = ((low + high) / 2).astype(np.float32)
    factor = CODE_MAX / (_spread(sample - offset) or 1.0)
    return Coding(SQUARES, offset, factor, factor, exact=False)


def _spread(sample: Floats) -> float:
    return float(np.quantile(np.abs(sample), 1 - OUTSIDE)) if sample.size else 1.0


def codes_of(space: Space, coding: Coding, rows: Rows) -> npt.NDArray[np.int8]:
    """The rows' codes, [count, width], filled up with zeros to whole blocks."""
    width = -(-space.width // BLOCK_BYTES) * BLOCK_BYTES
    codes = np.zeros((len(rows), width), np.int8)
    for first in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[first : first + CHUNK_ROWS]
        part = codes[first : first + CHUNK_ROWS, : space.width]
        if coding.factor == AS_IT_IS:
            part[:] = chunk.view(np.int8)
            continue
        numbers = np.asarray(chunk, np.float32)
        if space.metric is Metric.COSINE and space.element not in FLOATS:
            lengths = np.sqrt(np.square(numbers).sum(axis=1, keepdims=True))
            numbers = numbers / np.maximum(lengths, 1.0)
        steps = (numbers - coding.offset) * np.float32(coding.factor)
        part[:] = np.clip(np.rint(steps, out=steps), CODE_MIN, CODE_MAX, out=steps)
    return codes
