"""Whether what two versions did on the same rows may be luck: if both were alike, each row's two losses might as well be swapped.

Where losses are right or wrong, swapping counts rows: the exact sign test, which of classes is McNemar's test (1947,
https://doi.org/10.1007/BF02295996). Where they are numbers, how much counts too: Fisher's test of the mean of paired differences
by all swaps (The Design of Experiments, 1935, section 21), exact where the rows are few, else by drawn swaps.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXACT_ROWS_MAX = 13
"""Rows whose swaps are all tried: 8192."""

DRAWS = 10_000
"""Swaps of all rows that are drawn where there are more: a probability of 0.05 is then good to within 0.005."""

DRAWS_AT_ONCE = 1_000
"""At a time, so that memory stays within some 20 MB."""

SWAPPED_ROWS_MAX = 2_000
"""Rows that are drawn one by one, those with the largest differences; all others together are normal, however many they are."""

TIE = 1e-12
"""Of the sum of all differences: sums that differ by less differ by rounding."""

SEED = 20
"""The same rows have the same answer, also when a step is repeated."""


def sign_test(better: int, worse: int) -> float:
    """The probability of at least so many better rows where better and worse are equally likely; 1 where none differ.

    >>> round(sign_test(8, 2), 4)
    0.0547
    """
    trials = better + worse
    if better == 0:
        return 1.0
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in range(better, trials + 1)
    ]
    return min(math.fsum(math.exp(each - trials * math.log(2)) for each in logs), 1.0)


def swap_test(gains: Floats) -> float:
    """The probability of at least so much gain over all rows if any row's might as well be its opposite; 1 where none is.

    Drawn or not, it is at most Hoeffding's bound (1963), so that strong evidence is told as such.

    >>> round(swap_test(np.array([1.0] * 8 + [-1.0] * 2)), 4)
    0.0547
    """
    gains = _finite(gains)
    gains = gains[gains != 0.0]
    if not len(gains):
        return 1.0
    # In units of the largest, so that no square is beyond what a float holds.
    gains = gains / np.max(np.abs(gains))
    if len(gains) <= EXACT_ROWS_MAX:
        return _beyond(gains, _all_swaps(len(gains)), 0.0) / math.ldexp(1.0, len(gains))
    largest_first = gains[np.argsort(-np.abs(gains), kind="stable")]
    few, many = largest_first[:SWAPPED_ROWS_MAX], largest_first[SWAPPED_ROWS_MAX:]
    drawn = (1.0 + _beyond(few, _drawn_swaps(len(few)), float(np.sum(many)), _root_of_squares(many))) / (DRAWS + 1)
    observed = max(float(np.sum(gains)), 0.0)
    bound = math.exp(-(observed**2) / (2 * float(np.sum(gains**2))))
    return min(drawn, bound, 1.0)


def _beyond(gains: Floats, swaps: Iterator[Floats], others: float, others_deviation: float = 0.0) -> float:
    """How many of the swaps gain as much as was gained with what the others gained, each by its probability."""
    observed = float(np.sum(gains)) + others - TIE * float(np.sum(np.abs(gains)))
    count = 0.0
    for signs in swaps:
        missing = observed - signs @ gains
        if others_deviation == 0.0:
            count += float(np.sum(missing <= 0.0))
        else:
            scale = others_deviation * math.sqrt(2.0)
            count += math.fsum(math.erfc(each / scale) / 2 for each in missing.tolist())
    return count


def _all_swaps(rows: int) -> Iterator[Floats]:
    numbers = np.arange(2**rows)[:, None] >> np.arange(rows)
    yield (1 - 2 * (numbers & 1)).astype(np.float64)


def _drawn_swaps(rows: int) -> Iterator[Floats]:
    draws = np.random.default_rng(SEED)
    for _ in range(DRAWS // DRAWS_AT_ONCE):
        yield (1 - 2 * draws.integers(0, 2, (DRAWS_AT_ONCE, rows), dtype=np.int8)).astype(np.float64)


def _root_of_squares(gains: Floats) -> float:
    return math.sqrt(float(np.sum(gains**2)))


def _finite(gains: Floats) -> Floats:
    """What is beyond all numbers counts as the largest number among the rows, and no gain where both are."""
    known = gains[np.isfinite(gains)]
    most = float(np.max(np.abs(known), initial=0.0)) or 1.0
    return np.nan_to_num(gains, nan=0.0, posinf=most, neginf=-most)
