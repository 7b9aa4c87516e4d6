"""How right a model is, once somebody says what was true: predictions are kept until their labels come, and the errors of the
newest are compared with those of the first."""

import math
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np

from ergonaut_gateway.domain.drift.rule import Episode
from ergonaut_gateway.domain.tensors import BF16, DTYPES, Tensor, float32_of

Truth = bool | int | float | str

PROBABILITY_MIN = 1e-7
"""A model that was sure and wrong is charged as if it had given this; else one row would outweigh all others."""

CATEGORY_MAX = 1_024
"""Characters of a class by which it is told from others; predictions wait in memory."""

SUM_TOLERANCE = 1e-3
"""By how much the sum of probabilities may differ from 1, so that those of half precision count."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted for one row: a class, perhaps with the probability of each; or a number."""

    category: str | int | None = None
    probabilities: tuple[float, ...] = ()
    value: float | None = None


@dataclass(slots=True, eq=False)
class Unread:
    """Outputs of which a row's prediction is read only if its label ever comes, for most never do."""

    outputs: Mapping[str, Tensor]
    rows: int
    row: int

    def read(self) -> Prediction:
        """What the row predicts; nothing that any label fits where it cannot be told."""
        found = predictions_of(self.outputs, self.rows)
        return found[self.row] if found else Prediction()


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure over some rows, and between which bounds its true value is at the level asked for."""

    value: float
    low: float
    high: float
    rows: int


class Labelled(StrEnum):
    """What became of a label."""

    SCORED = "scored"
    REPEATED = "repeated"
    UNKNOWN = "unknown"
    UNFIT = "unfit"


class PredictionBook:
    """The newest predictions by key, until their labels come; the oldest are forgotten beyond the bound."""

    def __init__(self, predictions_max: int) -> None:
        self._max = predictions_max
        self._kept: OrderedDict[str, Prediction | Unread | None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def remember(self, key: str, prediction: Prediction | Unread) -> None:
        """Keep a prediction; one that is known already stays as it was, so that a retry changes nothing."""
        if key not in self._kept:
            self._kept[key] = prediction
            if len(self._kept) > self._max:
                self._kept.popitem(last=False)

    def label(self, key: str, truth: Truth) -> tuple[Labelled, dict[str, float]]:
        """Join a label with its prediction, once: what became of it, and the errors by name."""
        if key not in self._kept:
            return Labelled.UNKNOWN, {}
        prediction = self._kept[key]
        if prediction is None:
            return Labelled.REPEATED, {}
        errors = errors_of(prediction.read() if isinstance(prediction, Unread) else prediction, truth)
        if not errors:
            return Labelled.UNFIT, {}
        self._kept[key] = None
        return Labelled.SCORED, errors


def predictions_of(outputs: Mapping[str, Tensor], rows: int) -> list[Prediction]:
    """What each row predicts: classes where there is an integer or text a row, or several numbers a row, of which the largest
    wins; a number where there is one a row. Nothing where it cannot be told."""
    category = value = many = None
    for tensor in map(_numbers, outputs.values()):
        if tensor.size == rows:
            if tensor.dtype.kind == "f":
                value = tensor if value is None else value
            else:
                category = tensor if category is None else category
        elif tensor.dtype.kind == "f" and tensor.ndim == 2 and tensor.shape[0] == rows and tensor.shape[1] > 1:
            many = tensor if many is None else many
    if category is None and many is None:
        return [] if value is None else [Prediction(value=float(each)) for each in value.ravel()]
    categories = category.ravel() if category is not None else many.argmax(axis=1) if many is not None else ()
    probabilities = list(_probabilities(many)) if many is not None else [()] * rows
    return [Prediction(_category(each), probabilities[row]) for row, each in enumerate(categories)]


def errors_of(prediction: Prediction, truth: Truth) -> dict[str, float]:
    """The errors of one row by name; none where the label is of another kind than the prediction.

    >>> errors_of(Prediction(value=3.0), 1.0)
    {'rmse': 4.0, 'mae': 2.0}
    """
    if not isinstance(truth, str) and not math.isfinite(truth):
        return {}
    if prediction.value is not None:
        if isinstance(truth, str) or not math.isfinite(prediction.value):
            return {}
        error = float(truth) - prediction.value
        return {"rmse": error * error, "mae": abs(error)}
    if prediction.category is None or isinstance(prediction.category, str) != isinstance(truth, str):
        return {}
    true = truth[:CATEGORY_MAX] if isinstance(truth, str) else truth
    errors = {"accuracy": float(prediction.category == true)}
    shares = prediction.probabilities
    # A class that is a number is taken for its place among the probabilities, as scikit-learn's converters write them.
    if shares and not isinstance(truth, str) and truth == int(truth) and 0 <= truth < len(shares):
        errors["log_loss"] = -math.log(max(shares[int(truth)], PROBABILITY_MIN))
        errors["brier"] = sum((share - (at == truth)) ** 2 for at, share in enumerate(shares))
    return errors


def wilson(right: float, rows: int, level: float) -> Interval:
    """A share and its Wilson interval (1927), which is good also near 0 and 1 and for few rows.

    >>> interval = wilson(90, 100, 0.95)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.826, 0.945)
    """
    z = _deviations(level)
    share = right / rows
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    reach = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return Interval(share, max(0.0, middle - reach), min(1.0, middle + reach), rows)


def normal(values: Sequence[float], level: float) -> Interval:
    """A mean and its normal interval; without bounds for a single row."""
    rows = len(values)
    mean = math.fsum(values) / rows
    if rows < 2:
        return Interval(mean, -math.inf, math.inf, rows)
    variance = math.fsum((value - mean) ** 2 for value in values) / (rows - 1)
    reach = _deviations(level) * math.sqrt(variance / rows)
    return Interval(mean, mean - reach, mean + reach, rows)


def figure(name: str, errors: Sequence[float], level: float) -> Interval:
    """A figure of these errors, by the name that they have in `errors_of`."""
    if name == "accuracy":
        return wilson(math.fsum(errors), len(errors), level)
    interval = normal(errors, level)
    if name == "rmse":
        value, low, high = (math.sqrt(max(0.0, part)) for part in (interval.value, interval.low, interval.high))
        return Interval(value, low, high, interval.rows)
    return Interval(interval.value, max(0.0, interval.low), interval.high, interval.rows)


@dataclass(frozen=True, slots=True)
class QualityChange:
    """A figure that is no longer what it was when the version was new."""

    figure: str
    is_worse: bool
    now: Interval
    before: Interval


@dataclass(frozen=True, slots=True)
class ScoreRules:
    """How labelled rows are compared; the budget is meant as that of drift is."""

    baseline_rows: int = 300
    window_rows: int = 300
    check_rows: int = 50
    false_alarms_per_row: float = 1e-6


class Scores:
    """The errors of one model version: the first as the baseline, the newest as the window."""

    def __init__(self, rules: ScoreRules) -> None:
        self._rules = rules
        self._baseline: dict[str, list[float]] = {}
        self._window: dict[str, deque[float]] = {}
        self._episodes: dict[str, Episode] = {}
        self._since_check = 0

    def add(self, errors: Mapping[str, float]) -> list[QualityChange]:
        """Take in a row's errors; give the figures that changed with it."""
        for name, error in errors.items():
            baseline = self._baseline.setdefault(name, [])
            if len(baseline) < self._rules.baseline_rows:
                baseline.append(error)
            else:
                self._window.setdefault(name, deque(maxlen=self._rules.window_rows)).append(error)
        self._since_check += 1
        if self._since_check < self._rules.check_rows:
            return []
        self._since_check = 0
        return list(self._changes())

    def figures(self, level: float = 0.95) -> dict[str, Interval]:
        """Each figure over the newest rows; over the first while there are no others."""
        return {name: figure(name, self._window.get(name) or errors, level) for name, errors in self._baseline.items()}

    def _changes(self) -> Iterator[QualityChange]:
        budget = self._rules.false_alarms_per_row * self._rules.check_rows / len(self._baseline)
        for name, window in self._window.items():
            if len(window) < self._rules.window_rows:
                continue
            now, before = figure(name, window, 1 - budget), figure(name, self._baseline[name], 1 - budget)
            differ = now.low > before.high or now.high < before.low
            is_worse = (now.value < before.value) == (name == "accuracy")
            change = QualityChange(name, is_worse, now, before)
            episode = self._episodes.setdefault(name, Episode())
            if episode.begins([change] if differ else [], calm=not differ):
                yield change


def _probabilities(many: Tensor) -> Iterator[tuple[float, ...]]:
    """Each row's, or nothing where they are none but, say, logits."""
    shares = many.astype(np.float64)
    with np.errstate(all="ignore"):
        fits = (shares >= 0).all(axis=1) & (np.abs(shares.sum(axis=1) - 1) <= SUM_TOLERANCE)
    for row, is_share in zip(shares.tolist(), fits, strict=True):
        yield tuple(row) if is_share else ()


def _category(element: bytes | int) -> str | int:
    return (
        element[: 4 * CATEGORY_MAX].decode(errors="replace")[:CATEGORY_MAX]
        if isinstance(element, bytes)
        else int(element)
    )


def _numbers(tensor: Tensor) -> Tensor:
    return float32_of(tensor) if tensor.dtype == DTYPES[BF16] else tensor


def _deviations(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
