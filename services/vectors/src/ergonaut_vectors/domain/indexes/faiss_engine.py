"""IVF-PQ by faiss, behind the port of every index: for who has its lists already, or wants its codes. Needs the extra `faiss`.

Chosen by the parameter `engine` = "faiss" of a plan for product codes. faiss is asked for the nearest by codes alone; rows are
compared exactly here, so that filters, metrics and answers are those of every index.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Refused
from ergonaut_vectors.domain.compute.cpu.scan import INNER
from ergonaut_vectors.domain.indexes.coarse import blocks, lists_parameters, sampled, tell, wide, wide_loop
from ergonaut_vectors.domain.indexes.exact import compared, scanned
from ergonaut_vectors.domain.indexes.flat import flat_over
from ergonaut_vectors.domain.indexes.listed import SCAN_ROWS_MIN, allowed_count
from ergonaut_vectors.domain.indexes.port import (
    NONE,
    Arrays,
    Asked,
    Built,
    Found,
    Index,
    Kind,
    Parameters,
    Plan,
    Progress,
)
from ergonaut_vectors.domain.space import Rows, Space

ROWS_MIN = 10_000
"""faiss asks for 39 rows a centre of its 256; fewer rows are compared."""

SAMPLE_PER_LIST = 64
KEPT = 10.0
ADDED_ROWS = 65_536
"""Rows that faiss is given at once: a build that is called off waits for no more."""


def faiss_module() -> Any:
    """faiss; Refused where it is not installed."""
    try:
        return importlib.import_module("faiss")
    except ImportError as missing:
        raise Refused("faiss is not installed; install ergonaut-vectors[faiss]", field="engine") from missing


@dataclass(frozen=True, slots=True, eq=False)
class FaissIndex:
    """Candidates by faiss, compared exactly."""

    space: Space
    rows: Rows
    engine: Any
    arrays: Arrays
    parameters: Parameters
    kind: Kind = Kind.PRODUCT

    def search(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows to each query; the effort is lists to look into."""
        count, limit = len(self.rows), asked.limit
        allowed = allowed_count(asked, count)
        if not limit or allowed <= SCAN_ROWS_MIN or limit >= allowed:
            return scanned(self.space, self.rows, queries, asked)
        floats = wide(self.space, queries)
        kept = max(limit + 4, int(float(self.parameters["kept"]) * limit))
        _, rough = self.engine.search(floats, kept, params=self._searched(asked, allowed))
        found = compared(self.space, self.rows, queries, rough.astype(np.int32), limit)
        short = np.flatnonzero(found.rows[:, -1] == NONE)
        if len(short):
            again = scanned(self.space, self.rows, queries[short], asked)
            found.rows[short], found.distances[short] = again.rows, again.distances
        return found

    def _searched(self, asked: Asked, allowed: int) -> Any:
        faiss, count, lists = faiss_module(), len(self.rows), int(self.parameters["lists"])
        effort = asked.effort or int(self.parameters["effort"])
        # As many allowed rows are looked at as without a filter.
        probes = min(lists, -(-effort * count // allowed))
        if asked.allowed is None:
            return faiss.SearchParametersIVF(nprobe=probes)
        bits = np.ascontiguousarray(asked.allowed).view(np.uint8)[: -(-count // 8)]
        return faiss.SearchParametersIVF(nprobe=probes, sel=faiss.IDSelectorBitmap(bits))


class FaissBuilder:
    """Builds and opens IVF-PQ of faiss. Parameters: `lists`, `effort`, `parts`, `bits` (4, 8), `kept`."""

    def build(self, space: Space, rows: Rows, plan: Plan, progress: Progress | None = None) -> Built:
        """faiss's index of rows, which stay in their order."""
        if len(rows) < ROWS_MIN:
            return Built(flat_over(space, rows))
        faiss, told = faiss_module(), plan.parameters
        parameters, bits = lists_parameters(told, len(rows), KEPT), int(told.get("bits", 8))
        lists = parameters["lists"]
        parts = int(told.get("parts", 0)) or _divisor(space.dimension, space.dimension // (8 if bits == 8 else 2))
        metric = faiss.METRIC_INNER_PRODUCT if wide_loop(space) == INNER else faiss.METRIC_L2
        engine = faiss.index_factory(space.dimension, f"IVF{lists},PQ{parts}x{bits}", metric)
        tell(progress, 0.0)
        engine.train(sampled(space, rows, lists * SAMPLE_PER_LIST, plan.seed))
        for part in blocks(len(rows), ADDED_ROWS):
            engine.add(wide(space, rows[part]))
            tell(progress, 0.5 + 0.5 * part.stop / len(rows))
        parameters |= {"engine": "faiss", "parts": parts, "bits": bits}
        arrays = {"faiss": faiss.serialize_index(engine)}
        return Built(FaissIndex(space, rows, engine, arrays, parameters))

    def open(self, space: Space, rows: Rows, arrays: Arrays, parameters: Parameters) -> Index:
        """The index that was written down; faiss copies what it reads."""
        if "faiss" not in arrays:
            return flat_over(space, rows)
        engine = faiss_module().deserialize_index(_writable(arrays["faiss"]))
        return FaissIndex(space, rows, engine, arrays, parameters)


def _writable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """faiss takes no array that may not be written, though it only reads it."""
    return array if array.flags.writeable else array.copy()


def _divisor(dimension: int, wanted: int) -> int:
    """The most parts, up to so many, that dimensions can be divided into equally, as faiss wants them."""
    return next(parts for parts in range(max(wanted, 1), 0, -1) if dimension % parts == 0)
