"""Chooses an index for rows, tunes how hard it looks by sampled exact search, and says when it has drifted from what it was.

Called by a shard's plans of work, and by the doors for `describe`; pure, so that the same rows are given the same index.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ergonaut_vectors.domain.indexes.flat import scanned
from ergonaut_vectors.domain.indexes.port import Asked, Index, Kind, Plan
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
BIT_DIMENSION_MIN = 96
"""From so many dimensions on 1-bit codes tell enough to choose candidates by."""

SAMPLE_ROWS = 2_000
SAMPLE_QUERIES = 64
SAMPLE_NEIGHBOURS = 20
"""Of which the local dimension is estimated: enough for two figures."""

EFFORT_LAST = 4096
"""The hardest that tuning tries; an index that needs more is the wrong one."""

TUNED_ROUNDS = 24
"""Searches of the sample that tuning does at most: 12 doublings, and as many halvings."""

RECALL_LOST_MAX = 0.02
"""Points of recall below what was asked for that are an index's drift and not the sample's chance (400 answers)."""

DEAD_FRACTION_MAX = 0.2
GROWN_TIMES_MAX = 4.0
"""Rows against those an index was chosen for, up or down: the choice may be another then."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of an index."""

    recall: float = 0.95
    """Of the ten nearest, on average."""
    extra_bytes_per_row_max: float = float("inf")
    """What an index may take beside the rows."""
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
    graph_bytes = 2 * _by_recall(GRAPH_LINKS, wish.recall) * GRAPH_LINK_BYTES
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
    return {"links": _by_recall(GRAPH_LINKS, recall), "candidates_build": _by_recall(BUILD_CANDIDATES, recall)}


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
    rows = sample[:SAMPLE_ROWS]
    if len(rows) <= SAMPLE_NEIGHBOURS:
        return 0.0
    far = scanned(space, rows, rows[:SAMPLE_QUERIES], Asked(SAMPLE_NEIGHBOURS + 1)).distances[:, 1:].astype(np.float64)
    far = far[(far > 0).all(axis=1)]
    if not len(far):
        return 0.0
    # The angle's distance and the sum of squares are squares of lengths. The inner product is no length; its rows say nothing.
    logs = np.log(far[:, -1:] / far).sum(axis=1)
    return float((SAMPLE_NEIGHBOURS - 1) / max(logs.mean(), 1e-9) * 2)


@dataclass(frozen=True, slots=True)
class Sample:
    """Queries and the exact answers to them."""

    queries: Rows
    distances: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    """[queries, limit], nearest first."""

    @property
    def limit(self) -> int:
        """Answers of each query."""
        return int(self.distances.shape[1])


def sampled(index: Index, count: int = SAMPLE_QUERIES, limit: int = 10, seed: int = 0) -> Sample:
    """Rows by chance as queries, where no others are at hand; each finds itself too, so recall is told a little too high."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(index.rows))[:count])
    queries = np.ascontiguousarray(index.rows[rows])
    return asked_exactly(index, queries, Asked(min(limit, len(index.rows))))


def asked_exactly(index: Index, queries: Rows, asked: Asked) -> Sample:
    """These queries and the exact answers to them."""
    return Sample(queries, scanned(index.space, index.rows, queries, asked).distances)


def recall(index: Index, sample: Sample, asked: Asked) -> float:
    """Which part of the nearest an index finds; a row as near as the last of them is as good."""
    found = index.search(sample.queries, replace(asked, limit=sample.limit)).distances
    last = sample.distances[:, -1:]
    return float((found <= last + np.float32(1e-5) * np.maximum(np.abs(last), np.float32(1))).mean())


def tuned(index: Index, sample: Sample, wanted: float) -> int:
    """The least effort with which an index reaches the recall, or the most it can do; doubled and then halved."""
    if index.kind is Kind.FLAT:
        return 0
    low, high = 0, max(1, int(index.parameters.get("effort", 1)))
    rounds = 0
    while high < EFFORT_LAST and rounds < TUNED_ROUNDS and recall(index, sample, Asked(sample.limit, high)) < wanted:
        low, high, rounds = high, min(2 * high, EFFORT_LAST), rounds + 1
    while high - low > max(1, high // 16) and rounds < TUNED_ROUNDS:
        middle, rounds = (low + high) // 2, rounds + 1
        if recall(index, sample, Asked(sample.limit, middle)) < wanted:
            low = middle
        else:
            high = middle
    return high


@dataclass(frozen=True, slots=True)
class Stats:
    """How an index stands."""

    rows: int
    rows_alive: int
    rows_when_chosen: int
    recall_wanted: float
    recall_found: float | None = None
    """As last checked by sampled exact search; None where it was not."""


def drifted(stats: Stats) -> str | None:
    """Why rows are to be indexed anew, or None while all is well."""
    if stats.rows and stats.rows - stats.rows_alive > DEAD_FRACTION_MAX * stats.rows:
        return f"{stats.rows - stats.rows_alive} of {stats.rows} rows are deleted"
    if stats.recall_found is not None and stats.recall_found < stats.recall_wanted - RECALL_LOST_MAX:
        return f"recall is {stats.recall_found:.3f}, and {stats.recall_wanted:.3f} was asked for"
    ratio = max(stats.rows_alive, 1) / max(stats.rows_when_chosen, 1)
    if ratio > GROWN_TIMES_MAX or ratio < 1 / GROWN_TIMES_MAX:
        return f"the index was chosen for {stats.rows_when_chosen} rows and there are {stats.rows_alive}"
    return None
