"""Packed matrices are read as they were written or refused with their place; quotas let nobody pass them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.errors import Refused
from ergonaut_vectors.domain.checking import rows_of
from ergonaut_vectors.domain.quotas import BURST_SECONDS, Calls, Quota, Usage, called, fits
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.domain.space import Element, Metric

NUMBERS = st.lists(st.lists(st.integers(0, 100), min_size=8, max_size=8), min_size=1, max_size=20)


def schema_of(element: Element, dimension: int = 8) -> Schema:
    return Schema("some", dimension, Metric.HAMMING if element is Element.BINARY else Metric.L2, element=element)


@given(NUMBERS, st.sampled_from([each for each in Element if each is not Element.BINARY]))
def test_numbers_are_read_as_they_were_written(numbers: list[list[int]], element: Element) -> None:
    schema = schema_of(element)
    kept = np.array(numbers, schema.space.dtype)
    as_sent = kept.astype(kept.dtype.newbyteorder("<")).tobytes()
    np.testing.assert_array_equal(rows_of(schema, as_sent, None, "rows"), kept)
    as_floats = np.array(numbers, "<f4").tobytes()
    read = rows_of(schema, as_floats, Element.FLOAT32, "rows")
    np.testing.assert_array_equal(read, kept)
    assert (read.dtype, read.flags.c_contiguous) == (schema.space.dtype, True)


@given(st.binary(max_size=200), st.sampled_from(list(Element)))
def test_any_bytes_are_read_or_refused(content: bytes, element: Element) -> None:
    schema = schema_of(element, 12)
    try:
        read_bytes = len(rows_of(schema, content, None, "rows")) * schema.space.row_bytes
    except Refused as error:
        read_bytes, refused_at = len(content), error.field
    else:
        refused_at = "rows"
    assert (read_bytes, refused_at[:4]) == (len(content), "rows")


@pytest.mark.parametrize(
    ("kept", "told", "content", "message"),
    [
        (Element.UINT8, Element.FLOAT32, np.full(8, 256, "<f4"), r"rows\[0\]: holds a number beyond 0 to 255"),
        (Element.INT8, Element.FLOAT32, np.full(8, -129, "<f4"), r"beyond -128 to 127"),
        (Element.FLOAT16, Element.FLOAT32, np.full(8, 1e5, "<f4"), r"beyond -65504 to 65504"),
        (Element.FLOAT32, Element.UINT8, np.zeros(8, "u1"), "rows: holds uint8, but the collection keeps float32"),
        (Element.BINARY, Element.FLOAT32, np.zeros(8, "<f4"), "holds float32, but the collection keeps binary"),
    ],
)
def test_what_cannot_be_kept_is_refused(kept: Element, told: Element, content: np.ndarray, message: str) -> None:
    with pytest.raises(Refused, match=message):
        rows_of(schema_of(kept), content.tobytes(), told, "rows")


def test_bits_behind_the_last_dimension_are_refused() -> None:
    with pytest.raises(Refused, match=r"rows\[1\]: has bits set behind its last dimension"):
        rows_of(schema_of(Element.BINARY, 12), bytes([255, 15, 0, 16]), None, "rows")


@given(st.floats(0.5, 1000), st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_nobody_calls_more_often_than_allowed(per_second: float, pauses_seconds: list[float]) -> None:
    calls, now, let_in = Calls(per_second * BURST_SECONDS, 0.0), 0.0, 0
    for pause in pauses_seconds:
        now += pause
        calls, wait_seconds = called(calls, now, per_second)
        let_in += not wait_seconds
        assert wait_seconds <= 1 / per_second
    assert let_in <= max(1.0, per_second * BURST_SECONDS) + now * per_second + 1e-6


@given(st.integers(0, 10), st.integers(0, 10), st.integers(0, 10))
def test_room_is_what_is_left(allowed: int, used: int, more: int) -> None:
    assert fits(Quota(vectors=allowed), Usage(vectors=used), Usage(vectors=more)) == (
        not allowed or not more or used + more <= allowed
    )
