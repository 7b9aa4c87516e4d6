"""Codes of parts of rows as an index has them, whatever they were made by: what `lists.py` and `product.py` have in common."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.lists import Coarse, Within
from ergonaut_vectors.domain.compute.cpu.nibbles import BLOCK_ROWS
from ergonaut_vectors.domain.compute.cpu.parts import Products, candidates_by_parts
from ergonaut_vectors.domain.indexes.coarse import wide_loop
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.listed import Lookup
from ergonaut_vectors.domain.indexes.port import Arrays, Asked, Found
from ergonaut_vectors.domain.indexes.prepared import read_only
from ergonaut_vectors.domain.space import Floats, Rows, Space

PARTS_MULTIPLE = 2
"""Parts of codes come in pairs, two halves of a byte."""


@dataclass(frozen=True, slots=True, eq=False)
class PartCodes:
    """Codes of parts of rows, of 4 or 8 bits; 1-bit codes are such too, of four dimensions each."""

    space: Space
    products: Products
    kept: float

    def candidates(self, lookup: Lookup, coarse: Coarse, found: Found) -> None:
        """The nearest by codes."""
        within = Within(wide_loop(self.space), lookup.enough, lookup.probes, lookup.allowed)
        candidates_by_parts(self.products, coarse, lookup.wide, within, found.rows)

    def exactly(self, rows: Rows, queries: Rows, asked: Asked) -> Found:
        """By the rows: these codes rule none out."""
        return scanned(self.space, rows, queries, asked)


def products_in(arrays: Arrays, centres: Floats) -> Products:
    """Codes of parts that an index's arrays tell of."""
    packed, lows, slopes, bases, rotation = (
        read_only(arrays[name]) for name in ("packed", "lows", "slopes", "bases", "rotation")
    )
    return Products(packed, lows, slopes, bases, rotation, read_only(centres))


def whole_blocks(rows: int) -> int:
    """So many rows filled up to whole blocks."""
    return -(-rows // BLOCK_ROWS) * BLOCK_ROWS


def room_for(rows: int, parts: int) -> npt.NDArray[np.uint8]:
    """Blocks of 4-bit codes, all 0."""
    return np.zeros((whole_blocks(rows) // BLOCK_ROWS, parts // PARTS_MULTIPLE, BLOCK_ROWS), np.uint8)


def blocks_of(packed: Any, part: slice) -> Any:
    """The blocks of some rows, of which the first begins one."""
    return packed[part.start // BLOCK_ROWS : -(-part.stop // BLOCK_ROWS)]


def turned_by_chance(dimension: int, columns: int, seed: int) -> Floats:
    """A rotation by chance into at least as many dimensions: no direction is then worth more bits than another."""
    square = np.random.default_rng(seed).standard_normal((columns, columns))
    return np.ascontiguousarray(np.linalg.qr(square)[0][:dimension], dtype=np.float32)
