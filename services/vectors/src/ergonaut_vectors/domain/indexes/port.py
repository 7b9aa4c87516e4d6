"""What every index can do, so that a segment neither knows nor cares which one it has.

An index is built once over rows that never change, by a worker that holds up nobody, and is then only read, by many threads
at once. It is its named arrays and parameters and nothing else: a segment writes them to disk, maps them back and opens the
index over them, without copying, so that a million rows are ready at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.space import Floats, Rows, Space, Words

NONE = -1
"""The row that ends an answer which is shorter than was asked for."""

Arrays = Mapping[str, npt.NDArray[Any]]
"""An index's own arrays by name (lower-case words joined by `_`); the rows themselves are not among them."""

Parameters = Mapping[str, int | float | str | bool]
"""What an index was built with; JSON."""


class Kind(StrEnum):
    """Which index."""

    FLAT = "flat"
    GRAPH = "hnsw"
    LISTS = "ivf"
    """IVF over int8 or 1-bit codes with rerank."""
    PRODUCT = "ivf-pq"


class Found(NamedTuple):
    """Answers, nearest first, equal distances by row; a shorter one ends with NONE and infinity."""

    rows: npt.NDArray[np.int32]  # [queries, limit]
    distances: Floats  # [queries, limit]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a search of one index is to find."""

    limit: int
    effort: int = 0
    """How hard to look: candidates of a graph, lists to probe; what it means is the index's. 0 is its own default, tuned when
    it was built."""
    allowed: Words | None = None
    """The rows that count; None for all. Deleted rows and filters are both told so."""
    allowed_count: int = -1
    """How many rows are allowed; -1 where it was not counted."""
    threads: int = 1
    """Threads that share a batch, the asking one among them; what is no graph takes that one alone."""


class Index(Protocol):
    """An index over rows; reading is safe from many threads at once."""

    @property
    def kind(self) -> Kind: ...

    @property
    def space(self) -> Space: ...

    @property
    def rows(self) -> Rows: ...

    @property
    def arrays(self) -> Arrays:
        """What to write down beside the rows."""
        ...

    @property
    def parameters(self) -> Parameters:
        """What it was built with, defaults of its search included."""
        ...

    def search(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows to each query, [count, width] of the space's type. Fewer than min(limit, allowed) are never
        given: an index that finds too few looks on exactly.
        """
        ...


@dataclass(frozen=True, slots=True)
class Built:
    """An index, and the order in which it wants the rows: row `i` of the index is row `order[i]` of what was given."""

    index: Index
    order: npt.NDArray[np.int64] | None = None
    """None where the order stayed. Walks over a graph are faster where neighbours lie near each other."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which index to build, with what."""

    kind: Kind
    parameters: Parameters = field(default_factory=dict)
    threads: int = 1
    seed: int = 0
    """The same rows, plan and seed give the same index where it is built by one thread."""


Progress = Callable[[float], bool]
"""Told the fraction that is done now and then; answers whether to go on. A builder that must not raises `Stopped`."""


class Stopped(Exception):
    """A build was called off."""


class Builder(Protocol):
    """Builds and opens one kind of index."""

    def build(self, space: Space, rows: Rows, plan: Plan, progress: Progress | None = None) -> Built: ...

    def open(self, space: Space, rows: Rows, arrays: Arrays, parameters: Parameters) -> Index:
        """The index that these arrays are; nothing is copied or checked here, the segment has done that."""
        ...
