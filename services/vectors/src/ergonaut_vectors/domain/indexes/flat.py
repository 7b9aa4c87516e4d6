"""Exact search as an index: every row is compared. What other indexes fall back to, and what they are measured by."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ergonaut_vectors.domain.compute.cpu.scan import scan
from ergonaut_vectors.domain.indexes.port import NONE, Arrays, Asked, Built, Found, Kind, Parameters, Plan, Progress
from ergonaut_vectors.domain.indexes.prepared import allowed_for, empty_answer, loop_of, queries_for, rows_for
from ergonaut_vectors.domain.space import Rows, Space

_NOTHING: Mapping[str, int] = {}


def scanned(space: Space, rows: Rows, queries: Rows, asked: Asked) -> Found:
    """The nearest allowed rows to each query, by comparing all."""
    found = empty_answer(len(queries), asked.limit)
    if not len(rows) or not asked.limit:
        found.rows[:], found.distances[:] = NONE, np.inf
        return found
    allowed = allowed_for(asked)
    scan(loop_of(space), rows_for(space, rows), queries_for(space, queries), allowed, found.distances, found.rows)
    return found


@dataclass(frozen=True, slots=True)
class FlatIndex:
    """Compares with every row."""

    space: Space
    rows: Rows
    kind: Kind = Kind.FLAT

    @property
    def arrays(self) -> Arrays:
        """None: the rows are all there is."""
        return {}

    @property
    def parameters(self) -> Parameters:
        """None."""
        return _NOTHING

    def search(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows to each query."""
        return scanned(self.space, self.rows, queries, asked)


class FlatBuilder:
    """There is nothing to build."""

    def build(self, space: Space, rows: Rows, plan: Plan, progress: Progress | None = None) -> Built:  # noqa: ARG002
        """The index over rows as they are."""
        return Built(FlatIndex(space, rows))

    def open(self, space: Space, rows: Rows, arrays: Arrays, parameters: Parameters) -> FlatIndex:  # noqa: ARG002
        """The same."""
        return FlatIndex(space, rows)
