"""Rows brought to length one: exactly what their numbers say, so the same wherever it is done."""

import math

import numpy as np
import pytest

from ergonaut_vectors.domain.segments.writes import prepared
from ergonaut_vectors.domain.space import Element, Metric, Space


def in_python(row: list[float]) -> list[float]:
    """One product after the other, each step rounded as every machine rounds it."""
    total = 0.0
    for number in row:
        total += number * number
    length = math.sqrt(total) or 1.0
    return [float(np.float32(number / length)) for number in row]


@pytest.mark.parametrize("dimension", [1, 7, 384])
def test_rows_of_floats_are_brought_to_length_one_to_the_last_bit(dimension: int) -> None:
    rows = (np.random.default_rng(1).normal(size=(40, dimension)) * 1e3).astype(np.float32)
    rows[3] = 0
    brought = prepared(Space(dimension, Metric.COSINE), rows)
    assert brought.tolist() == [in_python(row) for row in rows.tolist()]


def test_rows_of_half_precision_are_rounded_once_more_and_bytes_stay_as_they_are() -> None:
    rows = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float16)
    brought = prepared(Space(8, Metric.COSINE, Element.FLOAT16), rows)
    assert brought.tolist() == [np.array(in_python(row), np.float16).tolist() for row in rows.tolist()]
    whole = np.arange(16, dtype=np.int8).reshape(2, 8)
    assert prepared(Space(8, Metric.COSINE, Element.INT8), whole).tolist() == whole.tolist()
