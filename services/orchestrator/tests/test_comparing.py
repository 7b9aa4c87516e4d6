"""Whether a new version is better: figures, the exact test against scipy's, and verdicts as tables."""

import io
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ergonaut.errors import Refused
from ergonaut.retraining import Compared, Judging, Metric
from ergonaut_orchestrator.domain.comparing import compared, verdict
from ergonaut_orchestrator.domain.paired_tests import sign_test
from ergonaut_orchestrator.service.rows import read_rows


def test_of_classes_it_is_mcnemars_test_on_the_pairs_that_differ() -> None:
    truth = np.zeros(200)
    champion, challenger = np.zeros(200), np.zeros(200)
    champion[:30], challenger[25:30], challenger[30:37] = 1, 1, 1
    seen = compared(Metric.ACCURACY, truth, challenger, champion)
    assert (seen.better_rows, seen.worse_rows, seen.champion, seen.challenger) == (25, 7, 0.85, 0.94)
    assert math.isclose(seen.p_value, stats.binomtest(25, 32, alternative="greater").pvalue)


def test_figures_are_those_that_people_know() -> None:
    truth = np.array([0, 1, 2, 1])
    said = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.5, 0.25, 0.25]])
    assert compared(Metric.ACCURACY, truth, said, None).challenger == 0.75
    expected = -np.mean(np.log([0.7, 0.8, 0.4, 0.25]))
    assert math.isclose(compared(Metric.LOG_LOSS, truth, said, None).challenger, expected)
    numbers = compared(Metric.RMSE, np.array([1.0, 2.0]), np.array([[1.0], [4.0]]), np.array([3.0, 2.0]))
    assert (numbers.challenger, numbers.champion) == (math.sqrt(2), math.sqrt(2))


def test_an_answer_that_is_no_number_is_as_wrong_as_can_be() -> None:
    seen = compared(Metric.RMSE, np.array([1.0, 2.0]), np.array([np.nan, 2.0]), np.array([5.0, 2.0]))
    assert (seen.challenger, seen.worse_rows) == (math.inf, 1)


@pytest.mark.parametrize(
    ("metric", "truth", "said", "words"),
    [
        (Metric.ACCURACY, np.zeros(4), np.zeros(3), "answered 3 of 4 rows"),
        (Metric.RMSE, np.zeros(4), np.zeros((4, 2)), r"gives \[4, 2\] and y is \[4\]"),
        (Metric.LOG_LOSS, np.zeros(4), np.zeros(4), "a column a class"),
        (Metric.LOG_LOSS, np.array([0, 7]), np.ones((2, 3)), "beyond the 3 columns"),
    ],
)
def test_answers_that_do_not_fit_are_refused_in_words(metric: Metric, truth: Any, said: Any, words: str) -> None:
    with pytest.raises(Refused, match=words):
        compared(metric, truth, said, None)


def seen(champion: float | None, challenger: float, better: int, worse: int, rows: int = 1000) -> Compared:
    return Compared(
        metric=Metric.ACCURACY, rows=rows, champion=champion, challenger=challenger,
        better_rows=better, worse_rows=worse, p_value=sign_test(better, worse),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("judging", "given", "is_good", "words"),
    [
        ({}, seen(0.80, 0.95, 160, 10), True, "better, and not by luck"),
        ({}, seen(0.94, 0.95, 15, 5), True, "better, and not by luck"),
        ({}, seen(0.947, 0.95, 8, 5), False, "that may be luck"),
        ({}, seen(0.95, 0.95, 5, 5), False, "better by 0"),
        ({"margin": 0.05}, seen(0.94, 0.95, 15, 5), False, "more than 0.05 is asked for"),
        ({}, seen(0.2, 0.95, 75, 0, rows=99), False, "99 rows decide nothing"),
        ({}, seen(None, 0.3, 0, 0), True, "no champion"),
        ({"need": "not-worse", "margin": 0.01}, seen(0.95, 0.945, 10, 15), True, "not worse"),
        ({"need": "not-worse", "margin": 0.01}, seen(0.95, 0.92, 10, 40), False, "worse by 0.03"),
        ({"need": "not-worse", "margin": 0.05}, seen(0.95, 0.92, 10, 40), False, "worse, and not by luck"),
    ],
)
def test_a_new_version_is_good_enough_when(judging: dict[str, Any], given: Compared, is_good: bool, words: str) -> None:
    good, because = verdict(Judging.model_validate(judging), given)
    assert good is is_good
    assert words in because


@pytest.mark.parametrize("need", ["better", "not-worse"])
def test_errors_are_weighed_by_how_much_and_not_only_counted(need: str) -> None:
    """On 700 of 1000 rows a little better, on 300 much worse; and the other way round."""
    truth, exact, little = np.zeros(1000), np.full(1000, 1.0), np.full(1000, 0.9)
    mixed = little.copy()
    mixed[700:] = 3.0
    judging = Judging.model_validate({"metric": "rmse", "need": need, "margin": 5.0 if need == "not-worse" else 0.0})
    worse = compared(Metric.RMSE, truth, mixed, exact)
    assert (worse.better_rows, worse.worse_rows) == (700, 300)
    assert not verdict(judging, worse)[0]
    better = compared(Metric.RMSE, truth, exact, mixed)
    assert (better.better_rows, better.worse_rows) == (300, 700)
    good, because = verdict(judging, better)
    assert good, because


def test_an_error_that_is_smaller_by_one_lucky_row_may_be_luck() -> None:
    truth = np.zeros(1000)
    champion, challenger = np.full(1000, 1.0), np.full(1000, 0.999)
    champion[0], challenger[1] = 50.0, 40.0
    seen = compared(Metric.RMSE, truth, challenger, champion)
    good, because = verdict(Judging(metric=Metric.RMSE), seen)
    assert seen.challenger < (seen.champion or 0.0)
    assert not good
    assert "that may be luck" in because


def test_a_smaller_error_is_a_better_one() -> None:
    errors = Compared(
        metric=Metric.RMSE, rows=500, champion=2.0, challenger=1.5, better_rows=300, worse_rows=200, p_value=1e-5
    )
    assert verdict(Judging(metric=Metric.RMSE, margin=0.4), errors)[0]
    assert not verdict(Judging(metric=Metric.RMSE, margin=0.6), errors)[0]


def packed(**arrays: Any) -> io.BytesIO:
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    return file


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (io.BytesIO(b"not a zip"), "is not what numpy.savez writes"),
        (packed(x=np.zeros((2, 2))), "has no y"),
        (packed(x=np.zeros((2, 2)), y=np.zeros(3)), "has 2 rows of x and 3 of y"),
        (packed(x=np.array([{}], dtype=object), y=np.zeros(1)), "is not what numpy.savez writes"),
        (packed(x=np.array(["a"]), y=np.zeros(1)), "must be an array of numbers"),
        (packed(x=np.zeros((0, 2)), y=np.zeros(0)), "has 0 rows"),
        (packed(x=np.zeros(2**26), y=np.zeros(1)), "holds more than 256 MiB"),
    ],
    ids=["text", "no y", "lengths", "pickle", "texts", "empty", "large"],
)
def test_files_that_hold_no_rows_are_refused_in_words(file: io.BytesIO, words: str) -> None:
    with pytest.raises(Refused, match=words):
        read_rows(file, "validation.npz")
