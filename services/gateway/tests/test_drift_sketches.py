"""Sketches: bounded, added up in any order, written and read back."""

import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ergonaut.errors import Refused
from ergonaut_gateway.domain.drift.grids import BINS, EDGES_MAX, grid_of
from ergonaut_gateway.domain.drift.sketches import Sketch, merged, packed, reference_of, sketch_of, unpacked

FLAGS = np.array([False, True, False])
ELEMENTS = st.integers(-3, 3).map(float) | st.floats(-1e9, 1e9) | st.sampled_from([np.nan, np.inf, -np.inf])
ROWS = st.integers(1, 60).flatmap(lambda rows: arrays.arrays(np.float64, (rows, 3), elements=ELEMENTS))


def same(one: Sketch, other: Sketch) -> None:
    assert one.rows == other.rows
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_allclose(one.sums, other.sums, rtol=1e-9, atol=1e-3)
    np.testing.assert_allclose(one.squares, other.squares, rtol=1e-9, atol=1e-3)


@settings(deadline=None)
@given(ROWS, ROWS, st.data())
def test_merging_the_sketches_of_workers_is_the_sketch_of_all_rows(reference, rows, data) -> None:
    grid = grid_of(reference, FLAGS)
    worker = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows))))
    same(merged([sketch_of(grid, rows[worker == each]) for each in range(3)]), sketch_of(grid, rows))


@settings(deadline=None)
@given(ROWS, ROWS, ROWS)
def test_merging_is_commutative_and_associative(first, second, third) -> None:
    grid = grid_of(first, FLAGS)
    a, b, c = (sketch_of(grid, rows) for rows in (first, second, third))
    same(merged([a, b]), merged([b, a]))
    same(merged([merged([a, b]), c]), merged([a, merged([b, c])]))


@settings(deadline=None)
@given(ROWS)
def test_each_row_is_counted_once_a_feature_and_nothing_grows(rows) -> None:
    sketch = reference_of(rows, FLAGS)
    assert sketch.counts.shape == (3, BINS)
    assert (sketch.counts.sum(axis=1) == len(rows)).all()
    np.testing.assert_array_equal(sketch.counts[:, -1], np.isnan(rows).sum(axis=0))


@settings(deadline=None)
@given(ROWS)
def test_a_sketch_is_read_back_as_it_was(rows) -> None:
    sketch = reference_of(rows, FLAGS)
    again = unpacked(packed(sketch))
    same(again, sketch)
    assert again.grid.same_as(sketch.grid)


def test_sketches_on_different_references_are_not_added() -> None:
    one, other = (reference_of(np.full((5, 1), value), np.array([False])) for value in (1.0, 2.0))
    with pytest.raises(Refused, match="give all workers the same one"):
        merged([one, other])


def test_frequent_categories_are_counted_one_by_one_and_all_others_together() -> None:
    values = np.repeat(np.arange(30.0), np.arange(30, 0, -1))[:, None]
    sketch = reference_of(values, np.array([True]))
    assert np.count_nonzero(sketch.counts) == 21
    assert sketch.counts[0, 0] == sum(range(1, 11))
    strange = sketch_of(sketch.grid, np.array([[0.5], [-1.0], [999.0], [3.0]]))
    assert strange.counts[0, 0] == 3


def test_small_numbers_beside_many_zeros_have_a_bin_of_their_own() -> None:
    reference = reference_of(np.array([0.0] * 90 + [8.0] * 10)[:, None], np.array([False]))
    noisy = sketch_of(reference.grid, np.full((10, 1), 1e-6))
    assert not (reference.counts[0] * noisy.counts[0]).any()


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_no_reference_needs_more_edges_than_there_are(rows, seed) -> None:
    rng = np.random.default_rng(seed)
    values = rng.choice([0.0, 1.0, 2.0, 3.0, np.nan], size=rows) + rng.choice([0.0, 0.0, rng.random()], size=rows)
    for categorical in (False, True):
        assert grid_of(values[:, None], np.array([categorical])).edges.shape == (1, EDGES_MAX)


def test_means_and_missing_shares_leave_the_missing_out() -> None:
    sketch = reference_of(np.array([[1.0], [3.0], [np.nan], [np.nan]]), np.array([False]))
    assert (sketch.means[0], sketch.missing_shares[0]) == (2.0, 0.5)


def forged(**changes: object) -> bytes:
    head, _, body = packed(reference_of(np.zeros((4, 2)), np.array([False, True]))).partition(b"\n")
    return json.dumps(json.loads(head) | changes).encode() + b"\n" + body


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[1]\n",
        b'{"form":1,"rows":1,"features":1}\nnothing',
        forged(features=3),
        forged(features=10**9),
        forged(features=1e400),
        forged(rows=5),
        forged(rows=-1),
        forged(form=2),
        b'{"form":1,"rows":1,"features":1}\n' + zlib.compress(b"0" * 100_000_000),
    ],
)
def test_what_is_no_sketch_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused):
        unpacked(raw)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(raw: bytes) -> None:
    with pytest.raises(Refused):
        unpacked(b'{"form":1,"rows":1,"features":1}\n' + raw)


def test_a_reference_of_no_rows_is_refused() -> None:
    with pytest.raises(Refused, match="at least one row"):
        grid_of(np.empty((0, 2)), np.array([False, False]))
