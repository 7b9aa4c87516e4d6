"""Exact search: how segments of few rows are searched, what indexes are measured by, and in NumPy what an exact search is."""

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.indexes.codes import CODE_ROWS_MIN, Codes, codes_with_room, quantise, searched
from ergonaut_vectors.domain.indexes.flat import scanned
from ergonaut_vectors.domain.indexes.port import Arrays, Asked, Built, Found, Kind, Parameters, Plan, Progress
from ergonaut_vectors.domain.space import Floats, Metric, Rows, Space

exactly = scanned
"""The nearest allowed rows to each query, by comparing all at full precision."""


@dataclass(frozen=True, slots=True)
class ExactIndex:
    """Compares with every row, by codes of a quarter of the size before the few that count are compared in full."""

    space: Space
    rows: Rows
    codes: Codes
    kind: Kind = Kind.FLAT

    @property
    def arrays(self) -> Arrays:
        """The codes, where rows have any."""
        return self.codes._asdict() if len(self.codes.values) else {}

    @property
    def parameters(self) -> Parameters:
        """None."""
        return {}

    def search(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows to each query."""
        return searched(self.space, self.codes, self.rows, queries, asked)


class ExactBuilder:
    """Makes codes."""

    def build(self, space: Space, rows: Rows, plan: Plan, progress: Progress | None = None) -> Built:  # noqa: ARG002
        """The index over rows as they are."""
        return Built(ExactIndex(space, rows, codes_of(space, rows)))

    def open(self, space: Space, rows: Rows, arrays: Arrays, parameters: Parameters) -> ExactIndex:  # noqa: ARG002
        """The same, of its codes."""
        codes = Codes(arrays["values"], arrays["factors"]) if arrays else no_codes(space)
        return ExactIndex(space, rows, codes)


@lru_cache(maxsize=64)
def no_codes(space: Space) -> Codes:
    """None at all; one for all shards of a space, for most tenants are small."""
    return codes_with_room(space, 0)


def codes_of(space: Space, rows: Rows, capacity: int = 0) -> Codes:
    """Codes of these rows, with room for more; none where they are so few that all are compared in full."""
    if max(len(rows), capacity) < CODE_ROWS_MIN:
        return no_codes(space)
    codes = codes_with_room(space, max(len(rows), capacity))
    quantise(space, codes, 0, rows)
    return codes


def distances(space: Space, rows: Rows, query: npt.NDArray[np.generic]) -> Floats:
    """From one prepared query to each row, in NumPy."""
    if space.metric is Metric.HAMMING:
        return cast(Floats, np.bitwise_count(rows ^ query).sum(axis=1).astype(np.float32))
    wide, asked = rows.astype(np.float32), query.astype(np.float32)
    if space.metric is Metric.L2:
        return cast(Floats, np.square(wide - asked).sum(axis=1))
    products = wide @ asked
    if space.metric is Metric.INNER_PRODUCT:
        return -products
    lengths = np.sqrt(np.square(wide).sum(axis=1)) * np.sqrt(np.square(asked).sum())
    return cast(Floats, (1.0 - products / np.where(lengths > 0, lengths, 1.0)).astype(np.float32))
