"""Into which bins the values of each feature fall; made once from reference rows, so that all later counts can be added up.

A missing value (NaN) has the last bin and so counts as larger than any number: a change of its share shows in each statistic.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Refused

Matrix = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

QUANTILES = 16
"""Shares into which a numeric feature is cut. With windows of some hundred rows more would be noise; a bin between two cuts
holds about 1/16 of the reference, which bounds the error of the KS statistic."""

CATEGORIES_MAX = 20
"""Categories that are counted one by one, the most frequent of the reference; all others are the rest."""

EDGES_MAX = 2 * CATEGORIES_MAX
"""Two edges isolate a value. A numeric feature needs at most 17 cuts, 16 that isolate frequent values, and one after the last."""

BINS = EDGES_MAX + 2
"""Before, between and after the edges, and the missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The bins of each feature: bin `i` begins at edge `i - 1` and ends before edge `i`."""

    edges: Matrix
    """One row a feature, ascending, filled up with infinity."""
    categorical: Flags
    """Which features are categories: bins of even number are then all the rest."""

    @property
    def features(self) -> int:
        """How many features it has."""
        return len(self.edges)

    def same_as(self, other: "Grid") -> bool:
        """Whether counts on both can be added."""
        return self is other or (
            np.array_equal(self.edges, other.edges) and np.array_equal(self.categorical, other.categorical)
        )


def grid_of(rows: Matrix, categorical: Flags) -> Grid:
    """The grid on which these reference rows, one column a feature, spread evenly. Raises Refused for no rows."""
    if not len(rows):
        raise Refused("a reference needs at least one row", field="reference")
    edges = np.full((rows.shape[1], EDGES_MAX), np.inf)
    for feature, column in enumerate(np.ascontiguousarray(rows.T, dtype=np.float64)):
        values = column[np.isfinite(column)]
        if len(values):
            cuts = _category_edges(values) if categorical[feature] else _numeric_edges(values)
            edges[feature, : len(cuts)] = cuts
    return Grid(edges, np.array(categorical, dtype=bool))


def binned(grid: Grid, rows: Matrix) -> Counts:
    """The bin of each value; one row a feature, one column a row."""
    columns = np.ascontiguousarray(rows.T, dtype=np.float64)
    bins = np.empty(columns.shape, dtype=np.int64)
    for feature, edges in enumerate(grid.edges):
        bins[feature] = edges.searchsorted(columns[feature], "right")
    if grid.categorical.any():
        bins[grid.categorical] *= bins[grid.categorical] & 1
    bins[np.isnan(columns)] = BINS - 1
    return bins


def counted(bins: Counts) -> Counts:
    """How many values each bin has; one row a feature, one column a bin."""
    features = len(bins)
    offsets = np.arange(features)[:, None] * BINS
    return np.bincount((bins + offsets).ravel(), minlength=features * BINS).reshape(features, BINS)


def _numeric_edges(values: Matrix) -> Matrix:
    """Cuts at quantiles. A value that is alone in a sixteenth gets a bin of its own, so that zeros do not hide small numbers."""
    values = np.sort(values)
    distinct, counts = np.unique(values, return_counts=True)
    cuts = distinct if len(distinct) <= QUANTILES + 1 else values[np.arange(QUANTILES) * len(values) // QUANTILES]
    frequent = distinct[counts * QUANTILES >= len(values)]
    return np.unique(np.concatenate((cuts, _after(frequent), _after(values[-1:]))))


def _category_edges(values: Matrix) -> Matrix:
    distinct, counts = np.unique(values, return_counts=True)
    kept = distinct[np.lexsort((distinct, -counts))[:CATEGORIES_MAX]]
    return np.sort(np.concatenate((kept, _after(kept))))


def _after(values: Matrix) -> Matrix:
    return np.nextafter(values, np.inf)
