"""The graph (HNSW) as an index: walked along codes of one byte a number, the nearest then compared as they are.

What limits a walk is memory, so codes are a quarter of the rows, are fetched before they are needed, and lie in the order in
which walks meet them. Rows themselves are touched a few times a query, and may stay on disk.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.graph_build import LOCKS, breadth_first, insert_rows, levels_of
from ergonaut_vectors.domain.compute.cpu.graph_walk import NONE, Graph, RowNumbers, Scratch, search_graph
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.graph_codes import Coding, Sides, codes_of, coding_for, sides_of_codes
from ergonaut_vectors.domain.indexes.port import (
    Arrays,
    Asked,
    Built,
    Found,
    Kind,
    Parameters,
    Plan,
    Progress,
    Stopped,
)
from ergonaut_vectors.domain.indexes.prepared import (
    allowed_for,
    empty_answer,
    loop_of,
    queries_for,
    read_only,
    rows_for,
)
from ergonaut_vectors.domain.space import Element, Floats, Rows, Space

LINKS_DEFAULT = 16
CANDIDATES_BUILD_DEFAULT = 100
EFFORT_DEFAULT = 64

POOL_MAX = 4096
"""Entries of the widest pool: putting one more into it costs what comparing hundreds of rows does."""

COMPARED_FACTOR = 2
COMPARED_MORE = 10
"""So many times the limit, and so many more, are compared as they are: codes misplace neighbours by a few places."""

EFFORT_PER_COMPARED = 2
"""Of a wide pool this part is compared as it is: who looks so hard wants more than codes can tell apart."""

WIDENED_MAX = 3
"""So many times the width is walked at once; what needs more is looked at first by a walk of the usual width."""

SCAN_ROWS_PER_POOL = 10
"""A walk takes as long for an entry of its pool as comparing so many rows; where fewer are allowed at all, they are compared."""

SCRATCHES_MAX = 16
"""Scratches kept for later searches; more searches than this at once make their own."""

PROGRESS_ROWS = 4096
"""Rows that a thread links between two looks at whether to go on; the first seconds of a build are not worth less."""

WARMING_ROWS = 4
"""Enough that every kernel is called."""

Numbers = npt.NDArray[np.int64]


class Kept(NamedTuple):
    """The arrays that a graph is."""

    codes: npt.NDArray[np.int8]  # [count, width]
    links: RowNumbers  # [count, 2 * links]
    upper: RowNumbers  # [rows of the levels above, links]
    upper_row: RowNumbers  # [count]

    def graph(self, form: int, entry: int, top: int) -> Graph:
        """The same as kernels take it; for as long as the arrays are there."""
        codes, links, upper, upper_row = (array.ctypes.data for array in self)
        breadth, narrow = self.links.shape[1], self.upper.shape[1]
        return Graph(form, codes, self.codes.shape[1], links, breadth, upper, narrow, upper_row, entry, top)


@dataclass(frozen=True, slots=True, eq=False)
class GraphIndex:
    """A graph over rows; walks run beside each other in any number of threads."""

    space: Space
    rows: Rows
    kept: Kept
    graph: Graph
    coding: Coding
    parameters: Parameters
    kind: Kind = Kind.GRAPH
    _scratches: "deque[Scratch]" = field(default_factory=lambda: deque(maxlen=SCRATCHES_MAX))

    @property
    def arrays(self) -> Arrays:
        """The codes, how they were made, and the links."""
        return {**self.kept._asdict(), "offset": self.coding.offset}

    def search(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows to each query; `effort` is how many candidates a walk keeps."""
        count = len(self.rows)
        allowed = allowed_for(asked)
        there = count if not len(allowed) else _counted(asked)
        if not min(there, asked.limit) or not len(queries):
            return scanned(self.space, self.rows, queries, asked)
        compared = 0 if self.coding.exact else min(there, self._compared(asked))
        widths = self._widths(asked, there, compared)
        found = empty_answer(len(queries), asked.limit)
        sides = self._sides(queries)
        shown = (*map(read_only, (sides.rows, sides.queries, sides.offset)), np.float32(sides.factor))
        wanted = (sides.loop, widths, compared)
        told = (found.distances, found.rows, np.zeros(1, np.int64))

        def share() -> None:
            scratch = self._scratch(max(*widths, asked.limit))
            search_graph(self.graph, scratch, wanted, read_only(allowed), shown, told)
            self._scratches.append(scratch)

        _together(share, min(asked.threads, len(queries)))
        if sides.scale != 1.0:
            np.multiply(found.distances, np.float32(sides.scale), out=found.distances)
        return found

    def _widths(self, asked: Asked, there: int, compared: int) -> tuple[int, int, int, int]:
        """How wide a walk is and one that may follow, after how many allowed rows they end, how many they must have found.

        A pool that is wider by as much as few rows are allowed holds as many allowed ones as without a filter, where these
        lie like all others. Where they lie nearer the walk ends sooner; where they lie elsewhere the pool holds fewer, and then
        the allowed rows are scanned. Where many times the width would be needed, a walk of the usual width tells first which.
        """
        pool = min(POOL_MAX, max(self._effort(asked), compared))
        if there == len(self.rows):
            return pool, 0, pool, min(asked.limit, there)
        scanned = there // SCAN_ROWS_PER_POOL
        if scanned <= 2 * pool:
            return 0, 0, 0, 0
        needed, wide = min(there, max(2 * asked.limit, pool // 4)), -(-pool * len(self.rows) // there)
        if wide <= WIDENED_MAX * pool:
            return min(wide, POOL_MAX), 0, pool, needed
        return pool, min(scanned, POOL_MAX), pool, needed

    def _effort(self, asked: Asked) -> int:
        return max(asked.limit, asked.effort or int(self.parameters["effort"]))

    def _compared(self, asked: Asked) -> int:
        """How many of a walk are compared as they are: more where it looks harder, for then codes are what is left to err."""
        return max(COMPARED_FACTOR * asked.limit + COMPARED_MORE, self._effort(asked) // EFFORT_PER_COMPARED)

    def _sides(self, queries: Rows) -> Sides:
        """Queries and rows as the kernel takes them; where codes are exact no row is ever read, so none are shown."""
        coding = self.coding
        if not (coding.exact or self.parameters.get("rows_compared", True)):
            return sides_of_codes(self.space, coding, self.kept.codes, queries)
        if self.space.element is Element.BINARY:
            wide: npt.NDArray[Any] = np.ascontiguousarray(queries)
        else:
            wide = queries_for(self.space, queries)
        rows = _NO_ROWS if coding.exact else rows_for(self.space, self.rows)
        return Sides(loop_of(self.space), rows, wide, coding.offset, coding.query_factor, 1.0)

    def _scratch(self, pool: int) -> Scratch:
        """A scratch that nobody else writes on; one that has become too small is left to the garbage."""
        try:
            scratch = self._scratches.pop()
        except IndexError:
            return new_scratch(self.kept, pool)
        return scratch if len(scratch.keys) > pool else new_scratch(self.kept, pool)


_NO_ROWS: Floats = read_only(np.zeros((0, 0), np.float32))


class GraphBuilder:
    """Builds graphs; parameters are `links`, `candidates_build`, `effort`, the candidates of a search by default, and
    `rows_compared`: false where rows are to stay on disk, and distances are those of codes.
    """

    def build(self, space: Space, rows: Rows, plan: Plan, progress: Progress | None = None) -> Built:
        """The graph over these rows, put into the order in which walks meet them."""
        parameters = _completed(plan.parameters)
        coding = coding_for(space, rows)
        links = int(parameters["links"])
        levels = levels_of(len(rows), links, plan.seed)
        kept = _unlinked(codes_of(space, coding, rows), levels, links)
        entry, top = (int(levels.argmax()), int(levels.max())) if len(rows) else (0, 0)
        graph = kept.graph(coding.form, entry, top)
        _link((kept, graph), levels, int(parameters["candidates_build"]), max(1, plan.threads), progress)
        order = breadth_first(kept.links, entry) if len(rows) else np.zeros(0, np.int64)
        ordered = _reordered(kept, order)
        return Built(
            self.open(space, np.ascontiguousarray(rows[order]), *_told(ordered, coding, parameters, top)), order
        )

    def open(self, space: Space, rows: Rows, arrays: Arrays, parameters: Parameters) -> GraphIndex:
        """The graph that these arrays are."""
        form, exact = int(parameters["form"]), bool(parameters["exact"])
        factors = float(parameters["factor"]), float(parameters["query_factor"])
        coding = Coding(form, arrays["offset"], *factors, exact)
        kept = Kept(*(read_only(arrays[name]) for name in Kept._fields))
        # In its own order the entry is the first row.
        return GraphIndex(space, rows, kept, kept.graph(form, 0, int(parameters["top"])), coding, parameters)


def _together(share: Callable[[], None], threads: int) -> None:
    """Have threads do what each takes its share of; the one that asks is one of them."""
    if threads <= 1:
        share()
        return
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(share) for _ in range(threads - 1)]
        share()
        for each in others:
            each.result()


def warm_up(space: Space) -> None:
    """Compile, or load from where they are kept, what searches of graphs in a space need; no graph need be there."""
    rows = np.zeros((WARMING_ROWS, space.width), space.dtype)
    index = GraphBuilder().build(space, rows, Plan(Kind.GRAPH)).index
    for allowed in (None, np.ones(1, np.uint64)):
        index.search(rows[:1], Asked(1, allowed=allowed))


def _told(kept: Kept, coding: Coding, parameters: Parameters, top: int) -> tuple[Arrays, Parameters]:
    """What is written down of a graph."""
    told = {"form": coding.form, "factor": coding.factor, "query_factor": coding.query_factor, "exact": coding.exact}
    return {**kept._asdict(), "offset": coding.offset}, {**parameters, **told, "top": top}


def new_scratch(kept: Kept, pool: int) -> Scratch:
    """A scratch for walks of pools up to this width."""
    return Scratch(
        seen=np.zeros(len(kept.codes), np.uint16),
        epoch=np.zeros(1, np.uint16),
        keys=np.zeros(pool + 1, np.int64),
        fresh=np.zeros(kept.links.shape[1] + 1, np.int32),
        code=np.zeros(kept.codes.shape[1], np.int8),
    )


def _counted(asked: Asked) -> int:
    if asked.allowed_count >= 0:
        return asked.allowed_count
    return int(np.bitwise_count(cast(Any, asked.allowed)).sum())


def _completed(parameters: Parameters) -> dict[str, Any]:
    defaults: Parameters = {
        "links": LINKS_DEFAULT,
        "candidates_build": CANDIDATES_BUILD_DEFAULT,
        "effort": EFFORT_DEFAULT,
        "rows_compared": True,
    }
    return {**defaults, **parameters}


def _unlinked(codes: npt.NDArray[np.int8], levels: npt.NDArray[np.int8], links: int) -> Kept:
    """Rows without a link."""
    counts = levels.astype(np.int64)
    return Kept(
        codes=codes,
        links=np.full((len(codes), 2 * links), NONE, np.int32),
        upper=np.full((int(counts.sum()), links), NONE, np.int32),
        upper_row=(np.cumsum(counts) - counts).astype(np.int32),
    )


def _link(
    made: tuple[Kept, Graph], levels: npt.NDArray[np.int8], candidates: int, threads: int, progress: Progress | None
) -> None:
    """Link all rows, in stretches; raises Stopped where the progress says so."""
    kept, graph = made
    locks = np.zeros(LOCKS if threads > 1 else 0, np.int32)
    count, stretch = len(kept.codes), PROGRESS_ROWS * threads
    rooms = [(new_scratch(kept, candidates), np.zeros(graph.breadth + 2, np.int64)) for _ in range(threads)]

    def linked(thread: int, first: int) -> None:
        scratch, spare = rooms[thread]
        slots = (first + thread, min(count, first + stretch), threads)
        insert_rows(graph, scratch, levels, slots, (candidates, spare, locks))

    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, count, stretch):
            for done in [pool.submit(linked, thread, first) for thread in range(threads)]:
                done.result()
            if progress is not None and not progress(min(1.0, (first + stretch) / count)):
                raise Stopped("the build of a graph was called off")


def _reordered(kept: Kept, order: Numbers) -> Kept:
    """The same graph with its rows in another order, in which the entry comes first."""
    count = len(order)
    place = np.empty(count + 1, np.int32)
    place[order] = np.arange(count, dtype=np.int32)
    # What ends a row is taken to itself.
    place[count] = NONE
    return Kept(
        codes=np.ascontiguousarray(kept.codes[order]),
        links=place[kept.links[order]],
        upper=place[kept.upper],
        upper_row=np.ascontiguousarray(kept.upper_row[order]),
    )
