"""Distances between a reference and a window, for all features at once, and how probable such distances are without drift.

All take counts, one row a feature and one column a bin, and give one figure a feature. On the bins they are exact; against the
values themselves KS and Jensen-Shannon never exceed the true figure, and KS falls short of it by at most `ks_error`.
"""

import math

import numpy as np

from ergonaut_gateway.domain.drift.grids import Counts, Matrix

SMOOTHING = 0.5
"""Added to each bin for PSI, which would else be infinite where one side has an empty bin."""

EXPECTED_MIN = 5.0
"""Chi-squared is only good where a bin is expected to hold so much (Cochran 1954); smaller ones are thrown together."""

_TERMS = np.arange(1, 21)[:, None]
"""Of the Kolmogorov series; the twentieth is below 1e-16 for all that is not certainly no drift."""


def psi(reference: Counts, window: Counts) -> Matrix:
    """The population stability index, in nats: below 0.1 is called calm, above 0.25 a shift (Siddiqi 2006)."""
    used = (reference + window) > 0
    bins = used.sum(axis=1, keepdims=True)
    first, second = _smoothed(reference, bins), _smoothed(window, bins)
    terms = (second - first) * np.log(second / first)
    return np.asarray(np.where(used, terms, 0.0).sum(axis=1))


def jensen_shannon(reference: Counts, window: Counts) -> Matrix:
    """The Jensen-Shannon distance with logarithms to base 2: 0 for the same spread, 1 for nothing in common."""
    first, second = _shares(reference), _shares(window)
    middle = (first + second) / 2
    divergence = (_entropy(middle) - (_entropy(first) + _entropy(second)) / 2).clip(0.0, 1.0)
    return np.asarray(np.sqrt(divergence))


def ks(reference: Counts, window: Counts) -> Matrix:
    """The two-sample Kolmogorov-Smirnov statistic: the largest difference of the shares below any edge."""
    difference = np.cumsum(_shares(reference) - _shares(window), axis=1)
    return np.asarray(np.abs(difference).max(axis=1).clip(0.0, 1.0))


def ks_error(reference: Counts, window: Counts) -> Matrix:
    """By how much `ks` can fall short of the statistic of the values: within a bin neither share moves more than its content."""
    return np.asarray(np.minimum(_shares(reference), _shares(window)).max(axis=1))


def ks_p_values(statistic: Matrix, rows_reference: int, rows_window: int) -> Matrix:
    """How probable so large a statistic is without drift, by Kolmogorov's limit; for values with ties it is rather less."""
    scale = math.sqrt(rows_reference * rows_window / (rows_reference + rows_window))
    distance = np.asarray(statistic) * scale
    terms = np.where(_TERMS % 2 == 1, 1.0, -1.0) * np.exp(-2.0 * (_TERMS * distance) ** 2)
    # For small distances the series ends too early, but there the probability is 1 to many digits.
    return np.asarray(np.where(distance < 0.3, 1.0, 2.0 * terms.sum(axis=0)).clip(0.0, 1.0))


def chi_squared(reference: Counts, window: Counts) -> tuple[float, float]:
    """The statistic of one feature's bins and its p-value; bins that are expected to be almost empty are thrown together."""
    table = np.stack((reference, window)).astype(np.float64)
    table = table[:, table.sum(axis=0) > 0]
    rows = table.sum(axis=1, keepdims=True)
    shares = table.sum(axis=0) / table.sum()
    rare = shares * rows.min() < EXPECTED_MIN
    if rare.any():
        together = table[:, rare].sum(axis=1, keepdims=True)
        table = np.concatenate((table[:, ~rare], together), axis=1)
    if table.shape[1] < 2:
        return 0.0, 1.0
    expected = rows * (table.sum(axis=0) / table.sum())
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic, chi_squared_tail(statistic, table.shape[1] - 1)


def chi_squared_tail(statistic: float, freedom: int) -> float:
    """How probable a chi-squared figure of so many degrees of freedom is at least so large; exact, by the finite sum.

    >>> round(chi_squared_tail(3.841, 1), 3)
    0.05
    """
    half = statistic / 2.0
    if half <= 0.0:
        return 1.0
    odd = freedom % 2
    total = math.erfc(math.sqrt(half)) if odd else math.exp(-half)
    for step in range(1, (freedom + 1) // 2 if odd else freedom // 2):
        power = step - 0.5 if odd else float(step)
        total += math.exp(power * math.log(half) - half - math.lgamma(power + 1.0))
    return min(1.0, total)


def _smoothed(counts: Counts, bins: Counts) -> Matrix:
    return np.asarray((counts + SMOOTHING) / (counts.sum(axis=1, keepdims=True) + SMOOTHING * bins))


def _shares(counts: Counts) -> Matrix:
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _entropy(shares: Matrix) -> Matrix:
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(-(shares * logs).sum(axis=1))
