"""The tests by which two versions are held apart: against scipy's, and by what they promise where nothing differs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ergonaut_orchestrator.domain.paired_tests import sign_test, swap_test

GAINS = st.lists(st.floats(-100, 100).map(lambda value: round(value, 3)), min_size=1, max_size=11)


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_the_sign_test_is_the_exact_one(better: int, worse: int) -> None:
    expected = stats.binomtest(better, better + worse, alternative="greater").pvalue if better + worse else 1.0
    assert math.isclose(sign_test(better, worse), expected, rel_tol=1e-9, abs_tol=1e-300)


@given(GAINS)
def test_of_few_rows_all_swaps_are_tried_as_scipy_does(given_gains: list[float]) -> None:
    gains = np.array([gain for gain in given_gains if gain] or [0.0, 0.0])
    if len(gains) < 2:
        gains = np.append(gains, 1.0)
    expected = stats.permutation_test(
        (gains, np.zeros_like(gains)),
        lambda x, y, axis: np.sum(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        alternative="greater",
        n_resamples=np.inf,
    )
    assert math.isclose(swap_test(gains), expected.pvalue, rel_tol=1e-9)


@pytest.mark.parametrize(("better", "worse"), [(40, 20), (300, 260), (2_100, 1_990), (9_000, 8_900)])
def test_where_only_rows_count_it_is_the_sign_test(better: int, worse: int) -> None:
    gains = np.array([1.0] * better + [-1.0] * worse)
    assert swap_test(gains) == pytest.approx(sign_test(better, worse), abs=0.012)


def test_where_nothing_differs_it_says_better_no_more_often_than_was_asked() -> None:
    draws = np.random.default_rng(1)
    heavy_tailed = [draws.standard_t(2, 60) for _ in range(300)]
    assert sum(swap_test(gains) <= 0.05 for gains in heavy_tailed) <= 300 * 0.05 + 3 * math.sqrt(300 * 0.05 * 0.95)


def test_one_row_that_makes_all_the_difference_may_be_luck_however_many_rows_there_are() -> None:
    gains = np.full(5_000, -0.001)
    gains[0] = 100.0
    assert swap_test(gains) == pytest.approx(0.5, abs=0.02)


def test_small_gains_on_most_rows_do_not_make_up_for_large_losses_on_some() -> None:
    gains = np.array([0.1] * 700 + [-5.0] * 300)
    assert sign_test(700, 300) < 1e-30
    assert swap_test(gains) > 0.99


def test_a_gain_that_is_no_luck_is_told_beyond_what_draws_can_tell() -> None:
    draws = np.random.default_rng(2)
    assert swap_test(draws.normal(1.0, 1.0, 400)) < 1e-20
    assert swap_test(draws.normal(0.2, 1.0, 200_000)) < 1e-300
    assert swap_test(draws.normal(-1.0, 1.0, 400)) == pytest.approx(1.0, abs=1e-3)


def test_the_same_rows_have_the_same_answer_in_whichever_unit() -> None:
    gains = np.random.default_rng(3).normal(0.1, 1.0, 500)
    assert swap_test(gains) == swap_test(gains)
    for unit in (1e-200, 1e200):
        assert swap_test(gains * unit) == pytest.approx(swap_test(gains), abs=1e-9)


def test_what_is_no_number_is_neither_lost_nor_worth_more_than_the_worst_row() -> None:
    assert swap_test(np.array([np.nan, 0.0])) == 1.0
    assert swap_test(np.array([-np.inf] * 10)) == 1.0
    assert swap_test(np.array([np.inf] * 10)) == pytest.approx(2**-10)
    assert swap_test(np.array([np.inf, 3.0, -2.0])) == swap_test(np.array([3.0, 3.0, -2.0]))
