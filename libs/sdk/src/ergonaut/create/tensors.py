"""Tensors as the inference protocol names them: types, shapes, and values drawn for a first try."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ergonaut.errors import Refused

Array = np.ndarray[Any, np.dtype[Any]]
Feed = Mapping[str, Array]
"""Values by name, for one call of a model."""

DATATYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
"""The protocol's types that the gateway serves, and numpy's."""

FEED_BYTES_MAX = 1 << 30
"""What one drawn call may take: more is a mistake in the shape, or no model for a call over the network."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One input or output: a length, or the name of an axis that callers choose (empty where it has none)."""

    name: str
    datatype: str
    axes: tuple[int | str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape as the protocol tells it, -1 where callers choose."""
        return tuple(axis if isinstance(axis, int) else -1 for axis in self.axes)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def in_words(self) -> str:
        """For people: `x FP32 [batch, 64]`."""
        return f"{self.name} {self.datatype} [{', '.join(str(axis) or '?' for axis in self.axes)}]"


@dataclass(frozen=True, slots=True)
class Draw:
    """How a try chooses: rows along a free first axis, the length of every other free axis, and whether all is zero."""

    rows: int = 2
    length: int = 8
    zeros: bool = False


DRAWS = (Draw(), Draw(rows=1), Draw(zeros=True), Draw(1, 1, zeros=True), Draw(1, 64), Draw(1, 224))
"""Tried in this order until one runs; shapes that only a graph knows, such as an image's, are among the usual ones."""


def drawn(specs: Sequence[Spec], draw: Draw, *, seed: int = 0) -> dict[str, Array]:
    """A call with values drawn by type and shape; the same for the same seed. Raises Refused where it is too large."""
    random = np.random.default_rng(seed)
    feed = {}
    for spec in specs:
        shape = [axis if isinstance(axis, int) else _length(place, draw) for place, axis in enumerate(spec.axes)]
        needed_bytes = int(np.prod([float(each) for each in shape] or [1.0])) * 8
        if needed_bytes > FEED_BYTES_MAX:
            raise Refused(f"the input {spec.in_words()} needs {needed_bytes >> 20} MiB for one call; give --example")
        feed[spec.name] = _values(spec, tuple(shape), draw, random)
    return feed


def _length(place: int, draw: Draw) -> int:
    return draw.rows if place == 0 else draw.length


def _values(spec: Spec, shape: tuple[int, ...], draw: Draw, random: np.random.Generator) -> Array:
    kind = DATATYPES[spec.datatype]
    if spec.datatype == "BYTES":
        return np.full(shape, "" if draw.zeros else "text", dtype=object)
    if draw.zeros:
        return np.zeros(shape, dtype=kind)
    if "mask" in spec.name.lower():
        return np.ones(shape, dtype=kind)
    if spec.datatype == "BOOL":
        return random.integers(0, 2, shape).astype(kind)
    if spec.datatype.startswith("FP"):
        return random.standard_normal(shape).astype(kind)
    # Most integers are places in a table; small ones are in every table.
    return random.integers(0, 10, shape).astype(kind)


def taken(feed: Feed, rows: slice) -> dict[str, Array]:
    """The same call with some of its rows."""
    return {name: value[rows] for name, value in feed.items()}


def row_count(feed: Feed) -> int:
    """How many rows a call has: the length of the first axis that all its inputs share, else 1."""
    lengths = {value.shape[0] if value.ndim else 0 for value in feed.values()}
    return lengths.pop() if len(lengths) == 1 and 0 not in lengths else 1
