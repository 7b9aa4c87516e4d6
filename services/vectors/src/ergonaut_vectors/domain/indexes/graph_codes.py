"""The codes along which a graph is built and walked: one byte a number, or the bits of a binary row. Used by `graph.py`.

Bytes and bits are their own codes, and gaps between them are exact. Numbers of floats are taken to 255 steps: within the middle
of their spread where differences count, which moves nothing; by one factor where products do.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.code_gaps import BITS, BLOCK_BYTES, PRODUCTS, SQUARES
from ergonaut_vectors.domain.compute.cpu.scan import INNER, L2, UNIT
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


class Sides(NamedTuple):
    """What a walk's nearest are compared with, as kernels take it; the distances found times `scale` are told."""

    loop: int
    rows: npt.NDArray[Any]
    queries: npt.NDArray[Any]
    offset: Floats
    factor: float
    """Offset and factor of the codes of these queries."""
    scale: float


def sides_of_codes(space: Space, coding: Coding, codes: npt.NDArray[np.int8], queries: Rows) -> Sides:
    """Codes in place of rows, and queries taken to where codes lie; they are not rounded there, so only the rows' steps count."""
    width = codes.shape[1]
    taken, none = np.zeros((len(queries), width), np.float32), np.zeros(width, np.float32)
    numbers = taken[:, : space.width]
    np.subtract(queries, coding.offset, out=numbers)
    if coding.form == SQUARES:
        numbers *= np.float32(coding.factor)
        half = 0.5 if space.metric is Metric.COSINE else 1.0
        return Sides(L2, codes, taken, none, 1.0, half / coding.factor**2)
    if space.metric is Metric.INNER_PRODUCT:
        return Sides(INNER, codes, taken, none, OF_ITS_OWN, 1.0 / coding.factor)
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True)
    numbers /= np.float32(coding.factor) * np.where(lengths > 0, lengths, np.float32(1.0))
    return Sides(UNIT, codes, taken, none, OF_ITS_OWN, 1.0)


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
    factor = 0.5 if space.metric is Metric.INNER_PRODUCT else CODE_MAX / (_spread(_of_length_one(_sample(rows))) or 1.0)
    return Coding(PRODUCTS, none, factor, OF_ITS_OWN, exact=False)


def _sample(rows: Rows) -> Floats:
    return np.asarray(rows[:: max(1, len(rows) // SAMPLE_ROWS)], np.float32)


def _of_length_one(rows: Floats) -> Floats:
    """Rows of bytes divided by their lengths."""
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True), dtype=np.float32)
    divided: Floats = np.divide(rows, np.maximum(lengths, np.float32(1.0)), dtype=np.float32)
    return divided


def _for_floats(space: Space, rows: Rows) -> Coding:
    sample = _sample(rows)
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
            numbers = _of_length_one(numbers)
        steps = (numbers - coding.offset) * np.float32(coding.factor)
        part[:] = np.clip(np.rint(steps, out=steps), CODE_MIN, CODE_MAX, out=steps)
    return codes
