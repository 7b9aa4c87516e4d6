"""Chooses an index for rows by their number, their space and what is wished for. Called by a shard's plans of work; how hard an
index looks, and when it is built anew, is decided there by what checks of segments find (`segments/recall.py`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.port import Asked, Kind, Plan
from ergonaut_vectors.domain.indexes.prepared import FLOATS
from ergonaut_vectors.domain.space import Element, Rows, Space

FLAT_ROWS_MAX = 10_000
"""So many rows of 128 dimensions are compared in about 0.2 ms; a graph needs 0.05 ms and a second to be built."""

FLAT_NUMBERS_MAX = FLAT_ROWS_MAX * 128
"""The same in numbers: rows of more dimensions take longer."""

GRAPH_LINKS = {0.0: 12, 0.9: 16, 0.96: 24, 0.985: 32}
"""Links of a graph by the recall asked for."""

BUILD_CANDIDATES = {0.0: 80, 0.9: 100, 0.96: 160, 0.985: 240}
"""Candidates that a graph's build looks at, by the recall asked for."""

HARD_DIMENSION = 24.0
"""From so high a local dimension on a graph is given the links of the next higher recall."""

GRAPH_LINK_BYTES = 4
ROWS_COMPARED = "rows_compared"
"""The parameter of graphs that is false where rows stay on disk."""

CODES_RECALL_MAX = 0.96
"""So much is found by codes of a byte a number alone, measured with images' features, sentences and sets that are harder."""

BIT_DIMENSION_MIN = 96
"""From so many dimensions on 1-bit codes tell enough to choose candidates by."""

SAMPLE_ROWS = 2_000
SAMPLE_QUERIES = 64
SAMPLE_NEIGHBOURS = 20
"""Of which the local dimension is estimated: enough for two figures."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of an index."""

    recall: float = 0.95
    """Of the ten nearest, on average."""
    extra_bytes_per_row_max: float = math.inf
    """What an index may take beside the rows; where that is bounded, rows are to stay on disk."""
    quick_build: bool = False
    """Rather built in seconds than searched in the least time."""
    kind: Kind | None = None
    """The kind of index somebody decided on."""


def chosen(space: Space, count: int, wish: Wish, sample: Rows | None = None, threads: int = 1) -> Plan:
    """Which index so many rows are to have; some of them tell how hard they are."""
    kind = wish.kind or _kind(space, count, wish)
    return Plan(kind, _PARAMETERS[kind](space, count, wish, sample), threads)


def _kind(space: Space, count: int, wish: Wish) -> Kind:
    if count * space.row_bytes <= FLAT_NUMBERS_MAX * space.dtype.itemsize and count <= 4 * FLAT_ROWS_MAX:
        return Kind.FLAT
    graph_bytes = 2 * _by_recall(GRAPH_LINKS, wish.recall) * GRAPH_LINK_BYTES + space.width
    if not wish.quick_build and graph_bytes <= wish.extra_bytes_per_row_max:
        return Kind.GRAPH
    code_bytes = space.dimension + 12 if space.element in FLOATS else 0
    if code_bytes <= wish.extra_bytes_per_row_max or space.element is Element.BINARY:
        return Kind.LISTS
    return Kind.LISTS if space.dimension >= BIT_DIMENSION_MIN and wish.recall <= 0.98 else Kind.PRODUCT


def _flat(*_: object) -> Mapping[str, int | float | str | bool]:
    return {}


def _graph(space: Space, count: int, wish: Wish, sample: Rows | None) -> Mapping[str, int | float | str | bool]:  # noqa: ARG001
    recall = wish.recall
    if sample is not None and local_dimension(space, sample) >= HARD_DIMENSION:
        recall = min([step for step in GRAPH_LINKS if step > recall], default=recall)
    parameters = {"links": _by_recall(GRAPH_LINKS, recall), "candidates_build": _by_recall(BUILD_CANDIDATES, recall)}
    small = wish.extra_bytes_per_row_max < math.inf and wish.recall <= CODES_RECALL_MAX
    return {**parameters, ROWS_COMPARED: False} if small else parameters


def _lists(space: Space, count: int, wish: Wish, sample: Rows | None) -> Mapping[str, int | float | str | bool]:  # noqa: ARG001
    small = space.dimension + 12 > wish.extra_bytes_per_row_max
    return {"codes": "bit" if space.element in FLOATS and small else "int8"}


def _product(space: Space, count: int, wish: Wish, sample: Rows | None) -> Mapping[str, int | float | str | bool]:  # noqa: ARG001
    return {"bits": 4, "parts": -(-space.dimension // (2 if wish.recall > 0.9 else 4)), "rotation": "opq"}


_PARAMETERS: Mapping[Kind, Callable[..., Mapping[str, int | float | str | bool]]] = {
    Kind.FLAT: _flat,
    Kind.GRAPH: _graph,
    Kind.LISTS: _lists,
    Kind.PRODUCT: _product,
}


def _by_recall(table: Mapping[float, int], recall: float) -> int:
    return table[max(step for step in table if step <= recall)]


def local_dimension(space: Space, sample: Rows) -> float:
    """In how many directions rows differ where they are dense: the estimate of Levina and Bickel, from nearest distances."""
    rows = np.ascontiguousarray(sample[:SAMPLE_ROWS])
    if len(rows) <= SAMPLE_NEIGHBOURS:
        return 0.0
    far = scanned(space, rows, rows[:SAMPLE_QUERIES], Asked(SAMPLE_NEIGHBOURS + 1)).distances[:, 1:].astype(np.float64)
    far = far[(far > 0).all(axis=1)]
    if not len(far):
        return 0.0
    # The angle's distance and the sum of squares are squares of lengths. The inner product is no length; its rows say nothing.
    logs = np.log(far[:, -1:] / far).sum(axis=1)
    return float((SAMPLE_NEIGHBOURS - 1) / max(logs.mean(), 1e-9) * 2)
