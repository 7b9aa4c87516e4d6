"""IVF-PQ: what is left of rows without their list's centre, turned, cut into parts, each part a code of 4 or 8 bits; refined.

Smaller than any other index. The 4-bit codes are scanned by look-ups in registers and are the fast ones; 8-bit codes tell
more where rows cannot be read to refine.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ergonaut_vectors.domain.compute.cpu.clusters import encode_parts, mean_parts
from ergonaut_vectors.domain.compute.cpu.lists import Coarse, Products, Within, candidates_by_bytes
from ergonaut_vectors.domain.compute.cpu.nibbles import BLOCK_ROWS, pack
from ergonaut_vectors.domain.indexes.coarse import (
    Divided,
    blocks,
    coarse_codes,
    divided,
    tell,
    wide,
    wide_loop,
)
from ergonaut_vectors.domain.indexes.flat import FlatIndex
from ergonaut_vectors.domain.indexes.listed import Listed, ListedIndex, Lookup, coarse_in
from ergonaut_vectors.domain.indexes.lists import NibbleCodes, lists_for, products_in, turned_by_chance
from ergonaut_vectors.domain.indexes.port import (
    Arrays,
    Builder,
    Built,
    Found,
    Index,
    Kind,
    Parameters,
    Plan,
    Progress,
)
from ergonaut_vectors.domain.space import Floats, Metric, Rows, Space

ROWS_MIN = 1024
"""Fewer rows are not worth codes that must be trained."""

SAMPLE_ROWS = 16_384
"""Of which the centres of parts are found: 64 a centre of 8 bits."""

ROUNDS = 10
"""Of Lloyd's algorithm in each part."""

TURNS = 6
"""Times that the rotation and the codes are fitted to each other (OPQ)."""

PART_DIMENSIONS = {4: 4, 8: 8}
"""Dimensions of a part by bits, by default: 1 bit a dimension, a thirty-second of floats."""

PARTS_MULTIPLE = 8
"""Parts come in eights: so many codes of 8 bits are read as one word."""

KEPT = {4: 10.0, 8: 6.0}
"""Candidates compared exactly by bits of codes, as a multiple of those asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class PartCodes:
    """8-bit codes of parts of rows."""

    space: Space
    products: Products
    kept: float

    def candidates(self, lookup: Lookup, coarse: Coarse, found: Found) -> None:
        """The nearest by codes."""
        within = Within(wide_loop(self.space), lookup.enough, lookup.probes, lookup.allowed)
        candidates_by_bytes(self.products, coarse, lookup.wide, within, (found.distances, found.rows))


class ProductBuilder:
    """Builds and opens IVF-PQ. Parameters: `lists`, `effort`, `bits` (4, 8), `parts`, `rotation` ("opq", "chance"),
    `kept`; or `engine` = "faiss" and those of `faiss_engine.py`.
    """

    def build(self, space: Space, rows: Rows, plan: Plan, progress: Progress | None = None) -> Built:
        """Lists and codes of rows; few rows are left as they are."""
        if len(rows) < ROWS_MIN:
            return Built(FlatIndex(space, rows))
        told = plan.parameters
        if told.get("engine") == "faiss":
            return _faiss_builder().build(space, rows, plan, progress)
        bits = int(told.get("bits", 4))
        lists = min(int(told.get("lists", 0)) or lists_for(len(rows)), len(rows))
        cut = divided(space, rows, lists, plan.seed, progress)
        ordered = np.ascontiguousarray(rows[cut.order])
        values, factors = coarse_codes(cut.centres)
        arrays: dict[str, Any] = {"coarse_values": values, "coarse_factors": factors, "list_offsets": cut.offsets}
        parts = int(told.get("parts", 0)) or -(-space.dimension // PART_DIMENSIONS[bits])
        rotation, centres = _trained(
            space, ordered, cut, (_rounded(parts), bits, told.get("rotation") == "opq"), plan.seed
        )
        tell(progress, 0.8)
        arrays |= _code_arrays(space, ordered, cut, rotation, centres)
        tell(progress, 1.0)
        effort = int(told.get("effort", 0)) or max(1, lists // 32)
        kept = float(told.get("kept", 0)) or KEPT[bits]
        parameters: Parameters = {"lists": lists, "effort": effort, "bits": bits, "parts": len(centres), "kept": kept}
        return Built(self.open(space, ordered, arrays, parameters), cut.order)

    def open(self, space: Space, rows: Rows, arrays: Arrays, parameters: Parameters) -> Index:
        """The index that these arrays are."""
        if parameters.get("engine") == "faiss":
            return _faiss_builder().open(space, rows, arrays, parameters)
        if "list_offsets" not in arrays:
            return FlatIndex(space, rows)
        products = products_in(arrays, arrays["centres"])
        kept = float(parameters["kept"])
        sort = NibbleCodes(space, products, kept) if parameters["bits"] == 4 else PartCodes(space, products, kept)
        listed = Listed(space, rows, coarse_in(arrays), sort, int(parameters["effort"]))
        return ListedIndex(listed, arrays, parameters, Kind.PRODUCT)


def _faiss_builder() -> Builder:
    """The builder of the other engine, imported where it is asked for: faiss need not be installed."""
    from ergonaut_vectors.domain.indexes.faiss_engine import FaissBuilder

    return FaissBuilder()


def _rounded(parts: int) -> int:
    return -(-parts // PARTS_MULTIPLE) * PARTS_MULTIPLE


def _rests(space: Space, rows: Rows, cut: Divided, chosen: Any) -> tuple[Floats, Floats]:
    """What is left of some rows without the centres of their lists, and those centres."""
    centres = cut.centres[np.searchsorted(cut.offsets, chosen, side="right") - 1]
    return wide(space, rows[chosen]) - centres, centres


def _trained(
    space: Space, rows: Rows, cut: Divided, how: tuple[int, int, bool], seed: int
) -> tuple[Floats, Floats]:  # fmt: skip
    """The rotation, and the centres of parts of what it turns."""
    parts, bits, fitted = how
    chosen = np.random.default_rng(seed).choice(len(rows), min(SAMPLE_ROWS, len(rows)), replace=False)
    rests, _ = _rests(space, rows, cut, np.sort(chosen))
    width = -(-space.dimension // parts)
    rotation = turned_by_chance(space.dimension, parts * width, seed)
    first = rests[: parts * 0 + (1 << bits)]
    choices = np.resize(first @ rotation, (1 << bits, parts * width))
    centres = np.ascontiguousarray(choices.reshape(1 << bits, parts, width).transpose(1, 2, 0))
    codes = np.empty((len(rests), parts), np.uint8)
    for turn in range(TURNS if fitted else 1):
        turned = np.ascontiguousarray(rests @ rotation)
        for _ in range(ROUNDS if not fitted or turn == TURNS - 1 else 2):
            encode_parts(turned, centres, codes)
            mean_parts(turned, codes, centres)
        if fitted and turn < TURNS - 1:
            left, _, right = np.linalg.svd(rests.T @ decoded(codes, centres), full_matrices=False)
            rotation = np.ascontiguousarray(left @ right, dtype=np.float32)
    return rotation, centres


def decoded(codes: Any, centres: Floats) -> Floats:
    """The rows that codes stand for, turned."""
    parts, width, _ = centres.shape
    found = centres[np.arange(parts)[None, :], :, codes.astype(np.int64)]
    return np.ascontiguousarray(found.reshape(len(codes), parts * width))


def _code_arrays(space: Space, rows: Rows, cut: Divided, rotation: Floats, centres: Floats) -> dict[str, Any]:
    """Codes of all rows, and the part of each distance that no query changes."""
    parts, _, choices = centres.shape
    count, bases = len(rows), np.zeros(len(rows), np.float32)
    small = choices == 1 << 4
    packed = np.zeros((-(-count // BLOCK_ROWS), parts // 2, BLOCK_ROWS) if small else (count, parts), np.uint8)
    for part in blocks(count):
        rests, listed = _rests(space, rows, cut, np.arange(part.start, part.stop))
        codes = np.empty((len(rests), parts), np.uint8)
        encode_parts(np.ascontiguousarray(rests @ rotation), centres, codes)
        if space.metric is not Metric.INNER_PRODUCT:
            stands = decoded(codes, centres)
            bases[part] = np.square(stands).sum(axis=1) + 2 * np.einsum("ij,ij->i", stands, listed @ rotation)
        if small:
            pack(codes, packed[part.start // BLOCK_ROWS : -(-part.stop // BLOCK_ROWS)])
        else:
            packed[part] = codes
    slopes = np.empty(0, np.float32)
    return {"packed": packed, "slopes": slopes, "bases": bases, "rotation": rotation, "centres": centres}
