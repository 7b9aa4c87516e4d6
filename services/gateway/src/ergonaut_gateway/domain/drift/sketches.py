"""How the values of many features are spread, in a bounded space: counts on a grid, and moments. Sketches of several workers or
windows add up to that of all rows; adding them in another order or grouping changes no count."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ergonaut.errors import Refused
from ergonaut_gateway.domain.drift.grids import BINS, EDGES_MAX, Counts, Flags, Grid, Matrix, binned, counted, grid_of

FEATURES_MAX = 2_048
"""A sketch of so many features has 1.4 MiB before it is packed; larger tensors are summarised before they come here."""

PACKED_MAX_BYTES = 4 * 1024 * 1024
"""The most that is unpacked: whatever is larger is no sketch of ours."""

_FORM = 1


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """The spread of each feature over some rows."""

    grid: Grid
    rows: int
    counts: Counts
    """One row a feature, one column a bin; each row adds up to `rows`."""
    sums: Matrix
    """Of the finite values of each feature."""
    squares: Matrix
    """Sums of their squares."""

    @property
    def means(self) -> Matrix:
        """The mean of each feature's finite values; NaN where there is none."""
        finite = self.rows - self.counts[:, -1]
        return np.asarray(np.divide(self.sums, finite, out=np.full(len(finite), np.nan), where=finite > 0))

    @property
    def missing_shares(self) -> Matrix:
        """The share of missing values of each feature."""
        return self.counts[:, -1] / max(self.rows, 1)


def sketch_of(grid: Grid, rows: Matrix) -> Sketch:
    """The sketch of these rows, one column a feature."""
    with np.errstate(all="ignore"):
        finite = np.where(np.isfinite(rows), rows, 0.0).astype(np.float64)
        squares = np.einsum("ij,ij->j", finite, finite)
        return Sketch(grid, len(rows), counted(binned(grid, rows)), finite.sum(axis=0), squares)


def reference_of(rows: Matrix, categorical: Flags) -> Sketch:
    """The sketch of reference rows on a grid of their own."""
    return sketch_of(grid_of(rows, categorical), rows)


def merged(sketches: Sequence[Sketch]) -> Sketch:
    """The sketch of all rows of these. Raises Refused where their grids differ, for then the counts cannot be added."""
    first = sketches[0]
    if any(not sketch.grid.same_as(first.grid) for sketch in sketches):
        raise Refused("the sketches have different references; give all workers the same one", field="sketch")
    with np.errstate(all="ignore"):
        return Sketch(
            first.grid,
            sum(sketch.rows for sketch in sketches),
            np.sum([sketch.counts for sketch in sketches], axis=0),
            np.sum([sketch.sums for sketch in sketches], axis=0),
            np.sum([sketch.squares for sketch in sketches], axis=0),
        )


def packed(sketch: Sketch) -> bytes:
    """The sketch as bytes that any worker can read: a line of JSON, then packed little-endian arrays."""
    head = {"form": _FORM, "rows": sketch.rows, "features": sketch.grid.features}
    arrays = (
        sketch.grid.edges.astype("<f8"),
        sketch.grid.categorical.astype("u1"),
        sketch.counts.astype("<i8"),
        sketch.sums.astype("<f8"),
        sketch.squares.astype("<f8"),
    )
    body = b"".join(array.tobytes() for array in arrays)
    return json.dumps(head).encode() + b"\n" + zlib.compress(body, 1)


def unpacked(raw: bytes) -> Sketch:
    """The sketch of these bytes. Raises Refused where they are none."""
    head, _, body = raw.partition(b"\n")
    try:
        told = json.loads(head)
        form, rows, features = int(told["form"]), int(told["rows"]), int(told["features"])
        data = zlib.decompressobj().decompress(body, PACKED_MAX_BYTES)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, zlib.error) as error:
        raise Refused(f"is no sketch: {error}", field="sketch") from error
    if form != _FORM or not 1 <= features <= FEATURES_MAX or rows < 0:
        raise Refused(f"has form {form}, {features} features and {rows} rows, which cannot be", field="sketch")
    sketch = _read(data, rows, features)
    if (sketch.counts < 0).any() or (sketch.counts.sum(axis=1) != rows).any():
        raise Refused("has counts that do not add up to its rows", field="sketch")
    return sketch


def _read(data: bytes, rows: int, features: int) -> Sketch:
    shapes = (("<f8", EDGES_MAX), ("u1", 1), ("<i8", BINS), ("<f8", 1), ("<f8", 1))
    if len(data) != sum(np.dtype(form).itemsize * features * width for form, width in shapes):
        raise Refused(f"{len(data)} bytes are no sketch of {features} features", field="sketch")
    arrays, at = [], 0
    for form, width in shapes:
        array = np.frombuffer(data, form, features * width, at)
        arrays.append(array.reshape(features, width) if width > 1 else array)
        at += array.nbytes
    edges, categorical, counts, sums, squares = arrays
    return Sketch(Grid(edges, categorical.astype(bool)), rows, counts, sums, squares)
