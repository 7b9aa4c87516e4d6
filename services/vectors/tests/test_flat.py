"""Exact search: the kernels of scans and of codes against plain NumPy, for each element and metric."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut_vectors.domain.indexes import codes
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.flat import FlatBuilder
from ergonaut_vectors.domain.indexes.port import NONE, Asked, Found, Plan
from ergonaut_vectors.domain.indexes.port import Kind as IndexKind
from ergonaut_vectors.domain.space import Element, Metric, Rows, Space, Words

SPACES = [
    *(
        Space(33, metric, element)
        for element in Element
        if element is not Element.BINARY
        for metric in list(Metric)[:3]
    ),
    Space(64, Metric.HAMMING, Element.BINARY),
    Space(36, Metric.HAMMING, Element.BINARY),
]


def rows_in(space: Space, count: int, seed: int) -> Rows:
    """Rows as a segment holds them."""
    chance = np.random.default_rng(seed)
    if space.element is Element.BINARY:
        return np.packbits(chance.random((count, space.dimension)) > 0.5, axis=1, bitorder="little")
    if space.element in (Element.INT8, Element.UINT8):
        kind = np.iinfo(space.dtype)
        return chance.integers(kind.min, kind.max, (count, space.dimension), dtype=space.dtype, endpoint=True)
    made = chance.standard_normal((count, space.dimension))
    if space.metric is Metric.COSINE:
        made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(space.dtype)


def plainly(space: Space, rows: Rows, query: Rows) -> np.ndarray:
    """Distances in plain NumPy, at twice the width."""
    if space.metric is Metric.HAMMING:
        return np.bitwise_count(rows ^ query).sum(axis=1).astype(np.float64)
    wide, asked = rows.astype(np.float64), query.astype(np.float64)
    if space.metric is Metric.L2:
        return np.square(wide - asked).sum(axis=1)
    products = wide @ asked
    if space.metric is Metric.INNER_PRODUCT:
        return -products
    if space.element in (Element.FLOAT16, Element.FLOAT32):
        return 1 - products
    return 1 - products / (np.linalg.norm(wide, axis=1) * np.linalg.norm(asked))


def words_of(mask: np.ndarray) -> Words:
    """A mask as words."""
    padded = np.zeros(-(-len(mask) // 64) * 64, np.bool_)
    padded[: len(mask)] = mask
    return np.packbits(padded, bitorder="little").view(np.uint64)


def assert_nearest(space: Space, rows: Rows, queries: Rows, mask: np.ndarray, found: Found) -> None:
    """The distances are the smallest there are, told truly, and no row is told twice or is not allowed."""
    for query, best, told in zip(queries, found.rows, found.distances, strict=True):
        far = plainly(space, rows, query)
        count = min(len(best), int(mask.sum()))
        assert (best[count:] == NONE).all()
        assert np.isinf(told[count:]).all()
        chosen = best[:count]
        assert len(set(chosen.tolist())) == count
        assert mask[chosen].all()
        np.testing.assert_allclose(told[:count], np.sort(far[mask])[:count], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(far[chosen], told[:count], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_all_rows_are_compared_and_the_nearest_found(space: Space) -> None:
    rows, queries = rows_in(space, 700, 0), rows_in(space, 3, 1)
    index = FlatBuilder().build(space, rows, Plan(IndexKind.FLAT)).index
    assert_nearest(space, rows, queries, np.ones(700, np.bool_), index.search(queries, Asked(10)))


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("fraction", [0.0, 0.004, 0.5])
def test_only_allowed_rows_are_found_and_all_of_them_where_they_are_few(space: Space, fraction: float) -> None:
    rows, queries = rows_in(space, 700, 0), rows_in(space, 2, 1)
    mask = np.random.default_rng(2).random(700) < fraction
    assert_nearest(space, rows, queries, mask, scanned(space, rows, queries, Asked(10, allowed=words_of(mask))))


def test_equal_distances_are_told_by_row() -> None:
    space = Space(4)
    rows = np.zeros((300, 4), np.float32)
    assert scanned(space, rows, rows[:1], Asked(5)).rows.tolist() == [[0, 1, 2, 3, 4]]


def test_no_rows_at_all_give_an_answer_that_ends_at_once() -> None:
    space = Space(4)
    found = scanned(space, np.empty((0, 4), np.float32), np.zeros((1, 4), np.float32), Asked(3))
    assert found.rows.tolist() == [[NONE, NONE, NONE]]


def coded(space: Space, rows: Rows) -> codes.Codes:
    """Codes of rows, added in two parts with growth between."""
    half = len(rows) // 2
    made = codes.codes_with_room(space, half)
    codes.quantise(space, made, 0, rows[:half])
    made = codes.grown(made, half, len(rows) + 50)
    codes.quantise(space, made, half, rows[half:])
    return made


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_search_by_codes_finds_what_a_search_of_all_rows_finds(space: Space) -> None:
    rows, queries = rows_in(space, 700, 0), rows_in(space, 3, 1)
    mask = np.random.default_rng(2).random(700) < 0.7
    for asked in (Asked(10), Asked(800), Asked(5, allowed=words_of(mask))):
        by_codes = codes.searched(space, coded(space, rows), rows, queries, asked)
        exactly = scanned(space, rows, queries, asked)
        assert by_codes.rows.tolist() == exactly.rows.tolist()
        assert by_codes.distances.tolist() == exactly.distances.tolist()


@given(
    seed=st.integers(0, 2**32 - 1),
    metric=st.sampled_from([Metric.L2, Metric.INNER_PRODUCT]),
    spread=st.floats(1e-3, 1e3),
    offset=st.floats(-1e3, 1e3),
)
@settings(max_examples=60, deadline=None)
def test_codes_lose_no_answer_wherever_rows_lie(seed: int, metric: Metric, spread: float, offset: float) -> None:
    space, chance = Space(33, metric), np.random.default_rng(seed)
    rows = (chance.standard_normal((codes.CODE_ROWS_MIN, 33)) * spread + offset).astype(np.float32)
    rows[chance.integers(0, len(rows), 9)] = 0
    queries = rows[:2] + np.float32(spread / 9)
    by_codes = codes.searched(space, coded(space, rows), rows, queries, Asked(7))
    assert by_codes.rows.tolist() == scanned(space, rows, queries, Asked(7)).rows.tolist()
