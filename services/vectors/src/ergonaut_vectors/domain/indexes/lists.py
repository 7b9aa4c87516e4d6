"""IVF: rows in lists around centres, of which those near a query are scanned by 8-bit or 1-bit codes and compared exactly.

Quick to build and small: an index of a few seconds where a graph takes a minute. Bytes and bits need no codes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ergonaut_vectors.domain.compute.cpu.codes import quantise_floats
from ergonaut_vectors.domain.compute.cpu.lists import (
    Coarse,
    Within,
    candidates_by_codes,
    candidates_by_rows,
)
from ergonaut_vectors.domain.compute.cpu.signs import write_signs
from ergonaut_vectors.domain.indexes.coarse import Divided, blocks, divided, lists_parameters, tell, wide_loop
from ergonaut_vectors.domain.indexes.codes import Codes, searched
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.flat import flat_over
from ergonaut_vectors.domain.indexes.listed import Lookup, listed, origin_in
from ergonaut_vectors.domain.indexes.parts import (
    PARTS_MULTIPLE,
    PartCodes,
    blocks_of,
    products_in,
    room_for,
    turned_by_chance,
    whole_blocks,
)
from ergonaut_vectors.domain.indexes.port import Arrays, Asked, Built, Found, Index, Parameters, Plan, Progress
from ergonaut_vectors.domain.indexes.prepared import FLOATS, loop_of, read_only, rows_for
from ergonaut_vectors.domain.space import Floats, Rows, Space

BYTES, BIT, PLAIN = "int8", "bit", "rows"
"""The sorts of codes, as the parameter `codes` names them."""

KEPT = {BYTES: 2.0, BIT: 10.0, PLAIN: 0.0}
"""Candidates compared exactly, as a multiple of those asked for: what recall of the codes needs, measured on real vectors."""

ROWS_MIN = 256
"""Fewer rows are not worth lists."""

NIBBLE_DIMENSIONS = 4
"""Dimensions of 1-bit codes that one look-up stands for."""


@dataclass(frozen=True, slots=True, eq=False)
class ByteCodes:
    """8-bit codes of rows."""

    space: Space
    origin: Floats
    codes: Codes
    kept: float

    def candidates(self, lookup: Lookup, coarse: Coarse, found: Found) -> None:
        """The nearest by codes."""
        within = Within(wide_loop(self.space), lookup.enough, lookup.probes, lookup.allowed)
        candidates_by_codes(self.codes, coarse, lookup.wide, within, (found.distances, found.rows))

    def exactly(self, rows: Rows, queries: Rows, asked: Asked) -> Found:
        """By codes too, which rule out most rows."""
        return searched(self.space, self.codes, rows, queries, asked, self.origin)


@dataclass(frozen=True, slots=True, eq=False)
class PlainRows:
    """No codes: rows of bytes or bits are scanned as they are."""

    space: Space
    rows: Any
    kept: float = 0.0

    def candidates(self, lookup: Lookup, coarse: Coarse, found: Found) -> None:
        """The nearest rows."""
        within = Within(loop_of(self.space), lookup.enough, lookup.probes, lookup.allowed)
        candidates_by_rows(self.rows, coarse, lookup.exact, within, (found.distances, found.rows))

    def exactly(self, rows: Rows, queries: Rows, asked: Asked) -> Found:
        """By the rows."""
        return scanned(self.space, rows, queries, asked)


class ListsBuilder:
    """Builds and opens IVF. Parameters: `lists`, `effort` (lists looked into), `codes` ("int8", "bit"), `kept`."""

    def build(self, space: Space, rows: Rows, plan: Plan, progress: Progress | None = None) -> Built:
        """Lists and codes of rows; few rows are left as they are, without lists."""
        if len(rows) < ROWS_MIN:
            return Built(flat_over(space, rows))
        sort = str(plan.parameters.get("codes", BYTES)) if space.element in FLOATS else PLAIN
        parameters = {**lists_parameters(plan.parameters, len(rows), KEPT[sort]), "codes": sort}
        cut = divided(space, rows, parameters["lists"], plan.seed, progress)
        ordered = np.ascontiguousarray(rows[cut.order])
        arrays = cut.arrays()
        if sort == BYTES:
            arrays |= _byte_arrays(ordered, cut)
        elif sort == BIT:
            arrays |= _bit_arrays(ordered, cut, plan.seed)
        tell(progress, 1.0)
        return Built(self.open(space, ordered, arrays, parameters), cut.order)

    def open(self, space: Space, rows: Rows, arrays: Arrays, parameters: Parameters) -> Index:
        """The index that these arrays are."""
        if "list_offsets" not in arrays:
            return flat_over(space, rows)
        kept = float(parameters["kept"])
        sort: ByteCodes | PlainRows | PartCodes
        if parameters["codes"] == BYTES:
            codes = Codes(*(read_only(arrays[name]) for name in ("code_values", "code_factors")))
            sort = ByteCodes(space, origin_in(arrays), codes, kept)
        elif parameters["codes"] == BIT:
            sort = PartCodes(space, products_in(arrays, _corners(arrays["rotation"].shape[1])), kept)
        else:
            sort = PlainRows(space, read_only(rows_for(space, rows)))
        return listed(space, rows, arrays, parameters, sort)


def _corners(dimension: int) -> Floats:
    """The centres of 1-bit codes: of each four dimensions all corners of a cube."""
    signs = np.where(np.arange(16)[None, :] >> np.arange(NIBBLE_DIMENSIONS)[:, None] & 1, 1, -1).astype(np.float32)
    return np.ascontiguousarray(np.broadcast_to(signs, (dimension // NIBBLE_DIMENSIONS, NIBBLE_DIMENSIONS, 16)))


def _byte_arrays(rows: Rows, cut: Divided) -> dict[str, Any]:
    """8-bit codes."""
    values, factors = np.empty((len(rows), len(cut.origin)), np.int8), np.empty((len(rows), 3), np.float32)
    for part in blocks(len(rows)):
        quantise_floats(cut.wide(rows[part]), values[part], factors[part])
    return {"code_values": values, "code_factors": factors}


def _bit_arrays(rows: Rows, cut: Divided, seed: int) -> dict[str, Any]:
    """1-bit codes as in RaBitQ: the signs of what is left of a turned row without its list's centre."""
    space = cut.space
    columns = -(-space.dimension // (NIBBLE_DIMENSIONS * PARTS_MULTIPLE)) * NIBBLE_DIMENSIONS * PARTS_MULTIPLE
    rotation = turned_by_chance(space.dimension, columns, seed)
    turned_centres = cut.centres @ rotation
    count, parts = len(rows), columns // NIBBLE_DIMENSIONS
    packed, lows = room_for(count, parts), np.empty((0, parts // PARTS_MULTIPLE), np.uint8)
    slopes, bases = (np.zeros(whole_blocks(count), np.float32) for _ in range(2))
    labels = np.repeat(np.arange(len(cut.offsets) - 1, dtype=np.int32), np.diff(cut.offsets))
    for part in blocks(count):
        turned, lists = cut.wide(rows[part]) @ rotation, (labels[part], turned_centres)
        write_signs(wide_loop(space), turned, lists, blocks_of(packed, part), (slopes[part], bases[part]))
    return {"packed": packed, "lows": lows, "slopes": slopes, "bases": bases, "rotation": rotation}
