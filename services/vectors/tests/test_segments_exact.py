"""Exact search: it finds what NumPy finds, for every space, with any rows allowed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut_vectors.domain.compute.cpu.codes import scan_codes
from ergonaut_vectors.domain.compute.cpu.scan import scan
from ergonaut_vectors.domain.indexes.codes import Codes, searched
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.flat import codes_of
from ergonaut_vectors.domain.indexes.port import NONE, Asked
from ergonaut_vectors.domain.indexes.prepared import read_only
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.segments.exact import distances
from ergonaut_vectors.domain.segments.writes import prepared
from ergonaut_vectors.domain.space import Element, Metric, Rows, Space

SPACES = [
    Space(dimension, metric, element)
    for dimension in (3, 40)
    for metric in Metric
    for element in Element
    if (metric is Metric.HAMMING) == (element is Element.BINARY)
]


def drawn(space: Space, count: int, seed: int) -> Rows:
    random = np.random.default_rng(seed)
    if space.element is Element.BINARY:
        return np.packbits(random.integers(0, 2, (count, space.dimension)), axis=1, bitorder="little")
    low = 0 if space.element is Element.UINT8 else -100
    return prepared(space, random.integers(low, 100, (count, space.dimension)).astype(space.dtype))


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.metric}-{space.element}-{space.dimension}")
def test_an_exact_search_finds_what_numpy_finds(space: Space) -> None:
    rows, queries = drawn(space, 1500, 1), drawn(space, 4, 2)
    allowed = np.random.default_rng(3).permutation(1500)[:700]
    for asked, among in (
        (Asked(9), np.arange(1500)),
        (Asked(9, allowed=bits.of_rows(allowed, 1500)), np.sort(allowed)),
        (Asked(800, allowed=bits.of_rows(allowed, 1500)), np.sort(allowed)),
    ):
        found = scanned(space, rows, queries, asked)
        for row, far, query in zip(found.rows, found.distances, queries, strict=True):
            truth = distances(space, rows[among], query)
            count = min(asked.limit, len(among))
            np.testing.assert_allclose(far[:count], np.sort(truth)[:count], rtol=2e-3, atol=2e-3)
            assert set(row[:count].tolist()) <= set(among.tolist())
            assert len(set(row[:count].tolist())) == count
            assert (row[count:] == NONE).all()
            assert np.isinf(far[count:]).all()


@given(
    numbers=st.lists(st.integers(-3, 3), max_size=200),
    limit=st.integers(1, 12),
    forbidden=st.sets(st.integers(0, 199)),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_equal_distances_are_ordered_by_row(numbers: list[int], limit: int, forbidden: set[int]) -> None:
    rows = np.array(numbers, np.float32).reshape(-1, 1)
    allowed = [row for row in range(len(numbers)) if row not in forbidden]
    asked = Asked(limit, allowed=bits.of_rows(np.array(allowed, np.int64), len(numbers)))
    found = scanned(Space(1), rows, np.array([[1.0]], np.float32), asked)
    expected = sorted(allowed, key=lambda row: ((numbers[row] - 1) ** 2, row))[:limit]
    assert found.rows[0].tolist() == expected + [NONE] * (limit - len(expected))


def test_rows_of_mapped_files_need_no_kernels_of_their_own() -> None:
    """Or the first search after a restart would compile one, for seconds."""
    space = Space(40)
    rows, queries = drawn(space, 1500, 1), drawn(space, 4, 2)
    codes, asked = codes_of(space, rows), Asked(9, allowed=bits.of_rows(np.arange(700), 1500))

    def searched_all(rows: Rows, codes: Codes, queries: Rows) -> tuple[int, int]:
        scanned(space, rows, queries, asked)
        searched(space, codes, rows, queries, asked)
        return len(scan.signatures), len(scan_codes.signatures)

    known = searched_all(rows, codes, queries)
    mapped = Codes(read_only(codes.values), read_only(codes.factors))
    assert searched_all(read_only(rows), mapped, read_only(queries)) == known
