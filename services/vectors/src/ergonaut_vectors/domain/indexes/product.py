"""IVF-PQ: what is left of rows without their list's centre, turned, cut into parts, each part a code of 4 or 8 bits; refined.

Smaller than any other index. Codes of 4 bits are scanned by look-ups in registers, and so are the high halves of those of 8
bits, which tell more of as many bytes where rows are not read to refine.
"""

from typing import Any

import numpy as np

from ergonaut_vectors.domain.compute.cpu.clusters import encode_parts, mean_parts
from ergonaut_vectors.domain.compute.cpu.nibbles import CHOICES, pack
from ergonaut_vectors.domain.indexes.coarse import Divided, blocks, divided, lists_parameters, tell
from ergonaut_vectors.domain.indexes.flat import flat_over
from ergonaut_vectors.domain.indexes.listed import listed
from ergonaut_vectors.domain.indexes.parts import (
    PARTS_MULTIPLE,
    PartCodes,
    blocks_of,
    products_in,
    room_for,
    turned_by_chance,
    whole_blocks,
)
from ergonaut_vectors.domain.indexes.port import (
    Arrays,
    Builder,
    Built,
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

KEPT = {4: 10.0, 8: 6.0}
"""Candidates compared exactly by bits of codes, as a multiple of those asked for."""


class ProductBuilder:
    """Builds and opens IVF-PQ. Parameters: `lists`, `effort`, `bits` (4, 8), `parts`, `rotation` ("none", "opq": fitted),
    `kept`; or `engine` = "faiss" and those of `faiss_engine.py`.
    """

    def build(self, space: Space, rows: Rows, plan: Plan, progress: Progress | None = None) -> Built:
        """Lists and codes of rows; few rows are left as they are."""
        if len(rows) < ROWS_MIN:
            return Built(flat_over(space, rows))
        told = plan.parameters
        if told.get("engine") == "faiss":
            return _faiss_builder().build(space, rows, plan, progress)
        bits = int(told.get("bits", 4))
        parameters = lists_parameters(told, len(rows), KEPT[bits])
        cut = divided(space, rows, parameters["lists"], plan.seed, progress)
        ordered = np.ascontiguousarray(rows[cut.order])
        parts = int(told.get("parts", 0)) or -(-space.dimension // PART_DIMENSIONS[bits])
        how = (_rounded(parts), bits, told.get("rotation") == "opq")
        rotation, centres = _trained(ordered, cut, how, plan.seed)
        tell(progress, 0.8)
        arrays = cut.arrays() | _code_arrays(ordered, cut, rotation, centres)
        tell(progress, 1.0)
        parameters |= {"bits": bits, "parts": len(centres)}
        return Built(self.open(space, ordered, arrays, parameters), cut.order)

    def open(self, space: Space, rows: Rows, arrays: Arrays, parameters: Parameters) -> Index:
        """The index that these arrays are."""
        if parameters.get("engine") == "faiss":
            return _faiss_builder().open(space, rows, arrays, parameters)
        if "list_offsets" not in arrays:
            return flat_over(space, rows)
        codes = PartCodes(space, products_in(arrays, arrays["centres"]), float(parameters["kept"]))
        return listed(space, rows, arrays, parameters, codes, Kind.PRODUCT)


def _faiss_builder() -> Builder:
    """The builder of the other engine, imported where it is asked for: faiss need not be installed."""
    from ergonaut_vectors.domain.indexes.faiss_engine import FaissBuilder

    return FaissBuilder()


def _rounded(parts: int) -> int:
    return -(-parts // PARTS_MULTIPLE) * PARTS_MULTIPLE


def _rests(rows: Rows, cut: Divided, chosen: Any) -> tuple[Floats, Floats]:
    """What is left of some rows without the centres of their lists, and those centres."""
    centres = cut.centres[np.searchsorted(cut.offsets, chosen, side="right") - 1]
    return cut.wide(rows[chosen]) - centres, centres


def _turned(rows: Floats, rotation: Floats) -> Floats:
    """Rows times a rotation, which may be none at all; filled up with zeros to whole parts."""
    if len(rotation):
        return np.ascontiguousarray(rows @ rotation)
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, rotation.shape[1] - rows.shape[1]))))


def _trained(rows: Rows, cut: Divided, how: tuple[int, int, bool], seed: int) -> tuple[Floats, Floats]:
    """The rotation, and the centres of parts of what it turns."""
    parts, bits, fitted = how
    choices, dimension = 1 << bits, len(cut.origin)
    chosen = np.random.default_rng(seed).choice(len(rows), min(SAMPLE_ROWS, len(rows)), replace=False)
    rests, _ = _rests(rows, cut, np.sort(chosen))
    width = -(-dimension // parts)
    columns = parts * width
    rotation = turned_by_chance(dimension, columns, seed) if fitted else np.empty((0, columns), np.float32)
    first = np.resize(_turned(rests[:choices], rotation), (choices, columns))
    centres = np.ascontiguousarray(first.reshape(choices, parts, width).transpose(1, 2, 0))
    codes = np.empty((len(rests), parts), np.uint8)
    for turn in range(TURNS if fitted else 1):
        turned = _turned(rests, rotation)
        for _ in range(ROUNDS if not fitted or turn == TURNS - 1 else 2):
            encode_parts(turned, centres, codes)
            mean_parts(turned, codes, centres)
        if fitted and turn < TURNS - 1:
            left, _, right = np.linalg.svd(rests.T @ decoded(codes, centres), full_matrices=False)
            rotation = np.ascontiguousarray(left @ right, dtype=np.float32)
    return rotation, centres if choices == CHOICES else in_groups(centres)


def in_groups(centres: Floats) -> Floats:
    """The 256 centres of each part in an order in which each 16 that share a high half lie together.

    They are halved across their main direction, and the halves again, until 16 are left.
    """
    parts, width, choices = centres.shape
    points = centres.transpose(0, 2, 1)
    size = choices
    while size > CHOICES:
        runs = points.reshape(parts * choices // size, size, width)
        axes = np.linalg.svd(runs - runs.mean(axis=1, keepdims=True), full_matrices=False)[2]
        along = np.argsort(np.einsum("rsw,rw->rs", runs, axes[:, 0]), axis=1, kind="stable")
        points = np.take_along_axis(runs, along[:, :, None], axis=1).reshape(parts, choices, width)
        size //= 2
    return np.ascontiguousarray(points.transpose(0, 2, 1))


def decoded(codes: Any, centres: Floats) -> Floats:
    """The rows that codes stand for, turned."""
    parts, width, _ = centres.shape
    found = centres[np.arange(parts)[None, :], :, codes.astype(np.int64)]
    return np.ascontiguousarray(found.reshape(len(codes), parts * width))


def _code_arrays(rows: Rows, cut: Divided, rotation: Floats, centres: Floats) -> dict[str, Any]:
    """Codes of all rows, and the part of each distance that no query changes."""
    parts, _, choices = centres.shape
    count, bases = len(rows), np.zeros(whole_blocks(len(rows)), np.float32)
    packed = room_for(count, parts)
    lows = np.empty((0 if choices == CHOICES else count, parts // PARTS_MULTIPLE), np.uint8)
    for part in blocks(count):
        rests, listed = _rests(rows, cut, np.arange(part.start, part.stop))
        codes = np.empty((len(rests), parts), np.uint8)
        encode_parts(_turned(rests, rotation), centres, codes)
        if cut.space.metric is not Metric.INNER_PRODUCT:
            stands = decoded(codes, centres)
            bases[part] = np.square(stands).sum(axis=1) + 2 * np.einsum("ij,ij->i", stands, _turned(listed, rotation))
        if choices != CHOICES:
            lows[part] = (codes[:, 0::2] & 15) | (codes[:, 1::2] << 4)
            codes >>= 4
        pack(codes, blocks_of(packed, part))
    slopes = np.empty(0, np.float32)
    return {
        "packed": packed,
        "lows": lows,
        "slopes": slopes,
        "bases": bases,
        "rotation": rotation,
        "centres": centres,
    }
