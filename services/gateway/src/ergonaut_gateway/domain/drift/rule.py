"""When a difference is called drift: it must be too improbable to be chance, and large enough to matter.

Windows overlap and features hang together, so no test of one window alone bounds false alarms. The guard is a budget: each check
may spend `false_alarms_per_row` times the rows that are new to it, shared evenly by its features (Bonferroni). By the union bound
the expected number of false alarms per row is then at most the budget, however the windows and features depend on each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ergonaut_gateway.domain.drift.grids import Counts, Matrix
from ergonaut_gateway.domain.drift.sketches import Sketch
from ergonaut_gateway.domain.drift.statistics import chi_squared, jensen_shannon, ks, ks_p_values, psi

CALM_FACTOR = 0.8
"""Below this share of its threshold a feature is calm again; between the two an episode neither begins nor ends."""

CALM_CHECKS = 5
"""So many calm checks in a row end an episode, so that a flickering feature is told of once."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What is called drift; a feature must pass the budget and one of the three sizes."""

    psi: float = 0.25
    """The customary "significant shift"."""
    ks: float = 0.2
    jensen_shannon: float = 0.25
    false_alarms_per_row: float = 1e-6
    """Expected false alarms per observed row: one a million rows, ten times below what is promised."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One feature that drifts: the size that passes its threshold furthest, and how probable it would be without drift."""

    feature: int
    statistic: str
    value: float
    threshold: float
    p_value: float
    mean_reference: float
    mean_window: float
    missing_share_reference: float
    missing_share_window: float


def p_values(reference: Sketch, window: Sketch) -> Matrix:
    """How probable each feature's window is without drift: by KS for numbers, by chi-squared for categories."""
    values = ks_p_values(ks(reference.counts, window.counts), reference.rows, window.rows)
    for feature in np.flatnonzero(reference.grid.categorical):
        values[feature] = chi_squared(reference.counts[feature], window.counts[feature])[1]
    return values


def findings(
    reference: Sketch, window: Sketch, thresholds: Thresholds, *, rows_new: int, factor: float = 1.0
) -> list[Finding]:
    """The features that drift, the worst first. A factor below 1 asks for those that are not calm yet."""
    p = p_values(reference, window)
    budget = thresholds.false_alarms_per_row * rows_new / len(p)
    suspects = np.flatnonzero(p <= budget)
    if not len(suspects):
        return []
    sizes = _sizes(reference.counts[suspects], window.counts[suspects])
    limits = np.array([[thresholds.psi], [thresholds.ks], [thresholds.jensen_shannon]])
    # KS needs an order, which categories lack.
    sizes[1, reference.grid.categorical[suspects]] = 0.0
    ratios = sizes / limits
    found = []
    for at, feature in enumerate(suspects):
        worst = int(ratios[:, at].argmax())
        if ratios[worst, at] >= factor:
            size = Size(("psi", "ks", "jensen_shannon")[worst], float(sizes[worst, at]), float(limits[worst, 0]))
            found.append((float(ratios[worst, at]), _finding(reference, window, int(feature), size, float(p[feature]))))
    return [finding for _, finding in sorted(found, key=lambda pair: (-pair[0], pair[1].feature))]


@dataclass(frozen=True, slots=True)
class Size:
    """One distance of one feature."""

    statistic: str
    value: float
    threshold: float


@dataclass(slots=True)
class Episode:
    """Whether drift is going on; it begins with a finding and ends after some calm checks."""

    open: bool = False
    _calm: int = 0

    def begins(self, found: Sequence[object], *, calm: bool) -> bool:
        """Take in a check; say whether drift began with it."""
        if not self.open:
            self.open, self._calm = bool(found), 0
            return self.open
        self._calm = self._calm + 1 if calm else 0
        if self._calm >= CALM_CHECKS:
            self.open = False
        return False


def _sizes(reference: Counts, window: Counts) -> Matrix:
    return np.stack((psi(reference, window), ks(reference, window), jensen_shannon(reference, window)))


def _finding(reference: Sketch, window: Sketch, feature: int, size: Size, p_value: float) -> Finding:
    return Finding(
        feature,
        size.statistic,
        size.value,
        size.threshold,
        p_value,
        mean_reference=float(reference.means[feature]),
        mean_window=float(window.means[feature]),
        missing_share_reference=float(reference.missing_shares[feature]),
        missing_share_window=float(window.missing_shares[feature]),
    )
