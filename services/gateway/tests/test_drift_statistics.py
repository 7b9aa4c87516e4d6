"""The distances of drift, held against scipy's."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from scipy.spatial import distance

from ergonaut_gateway.domain.drift.grids import BINS
from ergonaut_gateway.domain.drift.sketches import reference_of, sketch_of
from ergonaut_gateway.domain.drift.statistics import (
    chi_squared,
    chi_squared_tail,
    jensen_shannon,
    ks,
    ks_error,
    ks_p_values,
    psi,
)

COUNTS = arrays.arrays(np.int64, (3, BINS), elements=st.integers(0, 1_000)).filter(
    lambda counts: counts.any(axis=1).all()
)
NUMERIC = np.array([False])
VALUES = st.lists(st.integers(-20, 20) | st.floats(-1e6, 1e6), min_size=2, max_size=300)


def column(values) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


@settings(deadline=None)
@given(COUNTS, COUNTS)
def test_jensen_shannon_is_that_of_scipy(reference, window) -> None:
    expected = [distance.jensenshannon(p, q, base=2) for p, q in zip(reference, window, strict=True)]
    np.testing.assert_allclose(jensen_shannon(reference, window), np.nan_to_num(expected), atol=1e-6)


@settings(deadline=None)
@given(COUNTS, COUNTS)
def test_psi_is_its_formula_with_half_a_row_added_to_each_bin_in_use(reference, window) -> None:
    for feature, figure in enumerate(psi(reference, window)):
        pairs = [(p + 0.5, q + 0.5) for p, q in zip(reference[feature], window[feature], strict=True) if p + q]
        rows, rows_window = sum(p for p, _ in pairs), sum(q for _, q in pairs)
        expected = sum((q / rows_window - p / rows) * math.log(q / rows_window * rows / p) for p, q in pairs)
        assert figure == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(COUNTS)
def test_nothing_is_as_near_as_itself(counts) -> None:
    for measure in (psi, ks, jensen_shannon):
        np.testing.assert_allclose(measure(counts, counts), 0.0, atol=1e-6)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_ks_never_exceeds_that_of_scipy_and_falls_short_of_it_by_no_more_than_is_said(reference, window) -> None:
    first = reference_of(column(reference), NUMERIC)
    second = sketch_of(first.grid, column(window))
    exact = stats.ks_2samp(reference, window, method="asymp").statistic
    ours, error = ks(first.counts, second.counts)[0], ks_error(first.counts, second.counts)[0]
    assert ours <= exact + 1e-9
    assert exact <= ours + error + 1e-9


@settings(deadline=None)
@given(st.sets(st.integers(-50, 50), min_size=2, max_size=17), st.data())
def test_ks_of_few_distinct_values_is_exactly_that_of_scipy(distinct, data) -> None:
    values = st.lists(st.sampled_from(sorted(distinct)), min_size=2, max_size=200)
    reference, window = [*distinct, *data.draw(values)], data.draw(values)
    first = reference_of(column(reference), NUMERIC)
    ours = ks(first.counts, sketch_of(first.grid, column(window)).counts)[0]
    assert ours == pytest.approx(stats.ks_2samp(reference, window, method="asymp").statistic, abs=1e-9)


def test_with_many_values_ks_falls_short_by_less_than_a_sixteenth() -> None:
    rng = np.random.default_rng(1)
    first = reference_of(rng.normal(size=(4_000, 1)), NUMERIC)
    window = sketch_of(first.grid, rng.normal(0.5, 1.0, size=(4_000, 1)))
    assert ks_error(first.counts, window.counts)[0] < 0.07


@pytest.mark.parametrize("rows", [(300, 300), (1_000, 300), (5_000, 2_000)])
@pytest.mark.parametrize("level", [0.5, 0.05, 1e-3, 1e-6])
def test_the_p_value_of_ks_is_that_of_scipy_to_a_third_and_not_too_small(rows, level) -> None:
    effective = rows[0] * rows[1] / (rows[0] + rows[1])
    statistic = stats.kstwo.isf(level, round(effective))
    ours = ks_p_values(np.array([statistic]), *rows)[0]
    assert level * 0.98 <= ours <= level * 1.34


@settings(deadline=None)
@given(st.floats(0.0, 400.0), st.integers(1, 60))
def test_the_tail_of_chi_squared_is_that_of_scipy(statistic, freedom) -> None:
    assert chi_squared_tail(statistic, freedom) == pytest.approx(
        stats.chi2.sf(statistic, freedom), rel=1e-9, abs=1e-300
    )


@settings(deadline=None)
@given(arrays.arrays(np.int64, (2, 6), elements=st.integers(20, 500)))
def test_chi_squared_of_well_filled_bins_is_that_of_scipy(table) -> None:
    expected = stats.chi2_contingency(table, correction=False)
    assert chi_squared(table[0], table[1]) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)


def test_chi_squared_is_not_misled_by_bins_that_are_almost_empty() -> None:
    reference = np.array([1_000] + [0] * 30)
    window = np.array([297] + [1] * 3 + [0] * 27)
    assert chi_squared(reference, window)[1] > 1e-4


def test_chi_squared_of_one_bin_says_nothing() -> None:
    assert chi_squared(np.array([10, 0]), np.array([20, 0])) == (0.0, 1.0)
