"""Whether a new version is better than the one before: both say something of the same rows, and each row is a pair.

Whether that may be luck is asked by the test that fits what is measured (`paired_tests`): of right and wrong answers on how many
rows, of errors and log losses by how much. How much is enough is the margin's part.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ergonaut.errors import Refused
from ergonaut.retraining import Compared, Judging, Metric, Need
from ergonaut_orchestrator.domain.paired_tests import sign_test, swap_test

PROBABILITY_MIN = 1e-15
"""What the true class was given counts as at least this, so that one row does not make the mean infinite."""

Values = NDArray[Any]


def compared(metric: Metric, truth: Values, challenger: Values, champion: Values | None) -> Compared:
    """Both held against what is true; None where there is no champion. Raises Refused where the shapes do not fit."""
    new = row_losses(metric, truth, challenger, whose="the new version")
    if champion is None:
        return Compared(metric=metric, rows=len(truth), challenger=figure(metric, new))
    old = row_losses(metric, truth, champion, whose="the champion")
    better, worse = int(np.sum(new < old)), int(np.sum(new > old))
    p_value, p_value_worse = _p_values(metric, new, old, better, worse)
    return Compared(
        metric=metric,
        rows=len(truth),
        champion=figure(metric, old),
        challenger=figure(metric, new),
        better_rows=better,
        worse_rows=worse,
        p_value=p_value,
        p_value_worse=p_value_worse,
    )


def _p_values(metric: Metric, new: Values, old: Values, better: int, worse: int) -> tuple[float, float]:
    """Of being so much better by luck alone, and of being so much worse."""
    if metric is Metric.ACCURACY:
        return sign_test(better, worse), sign_test(worse, better)
    with np.errstate(invalid="ignore"):
        gains = old - new
    return swap_test(gains), swap_test(-gains)


def verdict(judging: Judging, seen: Compared) -> tuple[bool, str]:
    """Whether the new version is good enough, and why, for people."""
    told = _told(seen)
    if seen.rows < judging.rows_min:
        return False, f"{seen.rows} rows decide nothing; {judging.rows_min} are asked for"
    if seen.champion is None:
        return True, f"{told}; there is no champion to be held against"
    gain = (seen.challenger - seen.champion) * (1 if seen.metric.more_is_better else -1)
    fault = (
        _fault_of_better(judging, seen, gain) if judging.need is Need.BETTER else _fault_of_other(judging, seen, gain)
    )
    if fault:
        return False, f"{told}: {fault}"
    return (
        True,
        f"{told}: {'better, and not by luck' if judging.need is Need.BETTER else 'not worse'} (p {seen.p_value:.2g})",
    )


def _fault_of_better(judging: Judging, seen: Compared, gain: float) -> str:
    """What keeps the new version from being better; empty where nothing does."""
    if gain < judging.margin or gain <= 0:
        return f"better by {gain:.4g}, and more than {judging.margin:g} is asked for"
    if seen.p_value > judging.p_value_max:
        return f"that may be luck (p {seen.p_value:.2g}, {judging.p_value_max:g} is asked for)"
    return ""


def _fault_of_other(judging: Judging, seen: Compared, gain: float) -> str:
    """What makes the new version worse than is allowed; empty where nothing does."""
    if gain < -judging.margin:
        return f"worse by {-gain:.4g}, and {judging.margin:g} is allowed"
    p_value_worse = seen.p_value_worse
    if p_value_worse is None:
        # Compared by an older version of this service.
        p_value_worse = sign_test(seen.worse_rows, seen.better_rows)
    if gain < 0 and p_value_worse <= judging.p_value_max:
        return f"worse, and not by luck (p {p_value_worse:.2g})"
    return ""


def row_losses(metric: Metric, truth: Values, said: Values, *, whose: str) -> NDArray[np.float64]:
    """How wrong each row is; less is better. Raises Refused where what was said does not fit what is true."""
    rows = len(truth)
    if len(said) != rows:
        raise Refused(f"{whose} answered {len(said)} of {rows} rows", field="judging.output")
    if metric is Metric.LOG_LOSS:
        if said.ndim != 2:
            raise Refused(f"{whose} gives {list(said.shape)}; log_loss wants a column a class", field="judging.output")
        classes = _classes(truth, said.shape[1])
        given = said[np.arange(rows), classes].astype(np.float64)
        surprises: NDArray[np.float64] = -np.log(np.clip(given, PROBABILITY_MIN, 1.0))
        return surprises
    if metric is Metric.ACCURACY and said.ndim == 2 and said.shape[1] > 1:
        said = np.argmax(said, axis=1)
    flat, wanted = said.reshape(rows, -1), truth.reshape(rows, -1)
    if flat.shape != wanted.shape:
        raise Refused(f"{whose} gives {list(said.shape)} and y is {list(truth.shape)}", field="judging.output")
    if metric is Metric.ACCURACY:
        mistakes: NDArray[np.float64] = np.any(flat != wanted, axis=1).astype(np.float64)
        return mistakes
    squares: NDArray[np.float64] = np.mean((flat.astype(np.float64) - wanted.astype(np.float64)) ** 2, axis=1)
    squares[~np.isfinite(squares)] = np.inf
    return squares


def figure(metric: Metric, losses: NDArray[np.float64]) -> float:
    """The metric over all rows."""
    mean = float(np.mean(losses)) if len(losses) else 0.0
    return {Metric.ACCURACY: 1.0 - mean, Metric.RMSE: math.sqrt(mean), Metric.LOG_LOSS: mean}[metric]


def _classes(truth: Values, count: int) -> NDArray[np.int64]:
    classes: NDArray[np.int64] = truth.reshape(len(truth)).astype(np.int64)
    if len(classes) and not (int(classes.min()) >= 0 and int(classes.max()) < count):
        raise Refused(f"y names classes beyond the {count} columns that the model gives", field="artifacts.validation")
    return classes


def _told(seen: Compared) -> str:
    champion = "" if seen.champion is None else f" (champion {seen.champion:.4f})"
    return f"{seen.metric} {seen.challenger:.4f}{champion} on {seen.rows} rows"
