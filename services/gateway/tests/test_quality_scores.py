"""Predictions whose labels come late: joined once, scored as scikit-learn does, and told when they get worse."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from ergonaut_gateway.domain.quality import (
    Labelled,
    Prediction,
    PredictionBook,
    QualityChange,
    ScoreRules,
    Scores,
    errors_of,
    figure,
    normal,
    predictions_of,
    wilson,
)
from ergonaut_gateway.domain.tensors import bf16_of, object_array

CLASSES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=50)
NUMBERS = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=50)


def test_a_label_is_joined_with_its_prediction_once_however_often_it_comes() -> None:
    book = PredictionBook(10)
    book.remember("a", Prediction(category=3))
    assert book.label("a", 3) == (Labelled.SCORED, {"accuracy": 1.0})
    assert book.label("a", 3) == (Labelled.REPEATED, {})
    assert book.label("b", 3) == (Labelled.UNKNOWN, {})


def test_a_prediction_told_twice_stays_the_first_also_after_its_label() -> None:
    book = PredictionBook(10)
    book.remember("a", Prediction(category=3))
    book.remember("a", Prediction(category=4))
    assert book.label("a", 3)[1] == {"accuracy": 1.0}
    book.remember("a", Prediction(category=4))
    assert book.label("a", 3)[0] is Labelled.REPEATED


def test_the_book_is_bounded_and_forgets_the_oldest() -> None:
    book = PredictionBook(2)
    for key in "abc":
        book.remember(key, Prediction(value=1.0))
    assert len(book) == 2
    assert [book.label(key, 1.0)[0] for key in "abc"] == [Labelled.UNKNOWN, Labelled.SCORED, Labelled.SCORED]


@pytest.mark.parametrize("truth", ["text", math.nan, math.inf])
def test_a_label_of_another_kind_does_not_fit_and_may_come_again_rightly(truth) -> None:
    book = PredictionBook(2)
    book.remember("a", Prediction(value=1.0))
    assert book.label("a", truth)[0] is Labelled.UNFIT
    assert book.label("a", 1.0)[0] is Labelled.SCORED


@pytest.mark.parametrize("truth", ["text", math.nan, -math.inf])
def test_a_class_is_compared_with_classes_only(truth) -> None:
    assert errors_of(Prediction(1, (0.2, 0.8)), truth) == {}


def test_long_texts_are_told_apart_by_their_beginning_and_kept_no_longer() -> None:
    text = "é" * 5_000
    (prediction,) = predictions_of({"label": object_array([text.encode()])}, 1)
    assert len(prediction.category) == 1_024
    assert errors_of(prediction, text) == {"accuracy": 1.0}


def test_numbers_of_any_precision_are_read() -> None:
    shares = bf16_of(np.array([[0.25, 0.75]], dtype="<f4"))
    assert predictions_of({"p": shares}, 1) == [Prediction(1, (0.25, 0.75))]


def test_classes_probabilities_and_numbers_are_read_from_outputs() -> None:
    shares = np.array([[0.2, 0.8], [1.0, 0.0]], dtype="<f4")
    given = predictions_of({"label": np.array([1, 0]), "probabilities": shares}, 2)
    assert [each.category for each in given] == [1, 0]
    assert given[0].probabilities == pytest.approx((0.2, 0.8))
    assert predictions_of({"logits": np.array([[-3.0, 9.0]])}, 1) == [Prediction(category=1)]
    assert predictions_of({"label": object_array([b"cat"])}, 1) == [Prediction(category="cat")]
    assert predictions_of({"y": np.array([[2.5], [3.5]])}, 2) == [Prediction(value=2.5), Prediction(value=3.5)]
    assert predictions_of({"hidden": np.ones((2, 3, 4))}, 2) == []


@settings(deadline=None)
@given(CLASSES, st.integers(0, 2**32 - 1))
def test_accuracy_log_loss_and_brier_are_those_of_scikit_learn(pairs, seed) -> None:
    shares = np.random.default_rng(seed).dirichlet(np.ones(4), len(pairs)).clip(1e-6, 1)
    shares /= shares.sum(axis=1, keepdims=True)
    truth, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    errors = [
        errors_of(Prediction(category, tuple(row)), true)
        for (true, category), row in zip(pairs, shares.tolist(), strict=True)
    ]
    ours = {name: figure(name, [each[name] for each in errors], 0.95).value for name in errors[0]}
    labels = [0, 1, 2, 3]
    assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert ours["log_loss"] == pytest.approx(metrics.log_loss(truth, shares, labels=labels))
    assert ours["brier"] == pytest.approx(metrics.brier_score_loss(truth, shares, labels=labels, scale_by_half=False))


@settings(deadline=None)
@given(NUMBERS)
def test_rmse_and_mae_are_those_of_scikit_learn(pairs) -> None:
    errors = [errors_of(Prediction(value=value), true) for true, value in pairs]
    truth, predicted = zip(*pairs, strict=True)
    for name, theirs in (("rmse", metrics.root_mean_squared_error), ("mae", metrics.mean_absolute_error)):
        ours = figure(name, [each[name] for each in errors], 0.95)
        assert ours.value == pytest.approx(theirs(truth, predicted), abs=1e-9)
        assert 0 <= ours.low <= ours.value + 1e-9
        assert ours.value <= ours.high + 1e-9


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(1, 200), st.sampled_from([0.9, 0.95, 0.999]))
def test_the_wilson_interval_is_that_of_scipy(right, rows, level) -> None:
    right = min(right, rows)
    expected = stats.binomtest(right, rows).proportion_ci(level, method="wilson")
    ours = wilson(right, rows, level)
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    intervals = [normal(list(rng.exponential(1.0, 300)), 0.95) for _ in range(1_000)]
    assert 0.92 <= np.mean([interval.low <= 1.0 <= interval.high for interval in intervals]) <= 0.97


def scored(scores: Scores, rng: np.random.Generator, accuracy: float, rows: int) -> list[QualityChange]:
    """Rows of a model of this accuracy that is 0.8 sure, taken in."""
    changes = []
    for right in rng.random(rows) < accuracy:
        changes += scores.add(errors_of(Prediction(1, (0.2, 0.8)), 1 if right else 0))
    return changes


def test_a_model_that_stays_as_it_is_raises_no_alarm_in_a_hundred_thousand_rows() -> None:
    assert scored(Scores(ScoreRules()), np.random.default_rng(2), 0.92, 100_000) == []


def test_a_model_that_gets_worse_is_told_once_a_figure_and_again_when_it_happens_again() -> None:
    scores, rng = Scores(ScoreRules()), np.random.default_rng(3)
    assert scored(scores, rng, 0.92, 1_000) == []
    changes = scored(scores, rng, 0.6, 1_000)
    assert sorted(change.figure for change in changes) == ["accuracy", "brier", "log_loss"]
    assert all(change.is_worse for change in changes)
    assert scores.figures()["accuracy"].value < 0.7
    assert scored(scores, rng, 0.92, 2_000) == []
    assert len(scored(scores, rng, 0.6, 1_000)) == 3


def test_a_model_that_gets_better_is_told_as_better() -> None:
    scores, rng = Scores(ScoreRules()), np.random.default_rng(4)
    changes = scored(scores, rng, 0.6, 400) + scored(scores, rng, 0.99, 1_000)
    assert {change.is_worse for change in changes} == {False}
