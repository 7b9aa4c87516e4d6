"""Lists of rows around centres: how they are found, and which of them are near a query. For `lists.py` and `product.py`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.clusters import Labels, add_up
from ergonaut_vectors.domain.compute.cpu.codes import quantise_floats
from ergonaut_vectors.domain.compute.cpu.lists import Coarse, Probes, probe
from ergonaut_vectors.domain.compute.cpu.scan import INNER, L2
from ergonaut_vectors.domain.indexes.port import Parameters, Progress, Stopped
from ergonaut_vectors.domain.space import Element, Floats, Metric, Rows, Space

BLOCK_ROWS = 4096
"""Rows that are widened and multiplied at once: 8 MB of products of 512 lists, which the cache still has when they are read."""

SAMPLE_PER_LIST = 40
"""Rows a list of which the centres are found; more changes recall by less than a point."""

COARSE_ARRAYS = ("coarse_values", "coarse_factors", "list_offsets")
"""The names of what lists are, as an index keeps them."""

EFFORT_PART = 32
"""Of the lists one in so many is looked into where nobody says, and no check has found what is needed."""

ROUNDS = 8
"""Of Lloyd's algorithm; the next eight change recall by less than half a point."""


def wide(space: Space, rows: Rows) -> Floats:
    """Rows as floats among which L2 or the inner product orders as the space's metric does."""
    if space.element is Element.BINARY:
        return np.unpackbits(rows, axis=1, count=space.dimension, bitorder="little").astype(np.float32)
    floats = rows.astype(np.float32)
    if space.metric is Metric.COSINE and space.element in (Element.UINT8, Element.INT8):
        floats /= np.maximum(np.linalg.norm(floats, axis=1, keepdims=True), np.float32(1e-12))
    return np.ascontiguousarray(floats)


def query_wide(space: Space, queries: Rows, origin: Floats) -> Floats:
    """Queries as they lie beside wide rows about an origin; to products the origin adds the same everywhere, so it stays."""
    floats = wide(space, queries)
    return floats if wide_loop(space) == INNER else cast(Floats, floats - origin)


def wide_loop(space: Space) -> int:
    """The metric among wide rows."""
    return INNER if space.metric is Metric.INNER_PRODUCT else L2


def blocks(count: int, size: int = BLOCK_ROWS) -> Iterator[slice]:
    """Runs of rows."""
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def assigned(rows: Floats, centres: Floats) -> tuple[Labels, Floats]:
    """The nearest centre of each of some wide rows, and half the squared distance from it, less half the row's squared length."""
    labels, gaps = np.empty(len(rows), np.int32), np.empty(len(rows), np.float32)
    halves = cast(Floats, np.square(centres).sum(axis=1) / np.float32(2))
    for part in blocks(len(rows)):
        near = rows[part] @ centres.T
        near -= halves
        labels[part] = near.argmax(axis=1)
        gaps[part] = -np.take_along_axis(near, labels[part, None], axis=1)[:, 0]
    return labels, gaps


def centres_of(sample: Floats, lists: int, seed: int) -> Floats:
    """Centres of so many lists, found among a sample of rows."""
    chance = np.random.default_rng(seed)
    centres = sample[chance.choice(len(sample), lists, replace=False)].copy()
    for _ in range(ROUNDS):
        labels, gaps = assigned(sample, centres)
        sums, counts = np.zeros_like(centres), np.zeros(lists, np.int64)
        add_up(sample, labels, sums, counts)
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None].astype(np.float32)
        empty = np.flatnonzero(~filled)
        # A centre that lost all its rows goes to where rows are worst served.
        centres[empty] = sample[np.argsort(-gaps, kind="stable")[: len(empty)]]
    return centres


def lists_parameters(told: Parameters, count: int, kept: float) -> dict[str, Any]:
    """What indexes by lists are all told: how many lists, how many are looked into, how many candidates are compared exactly."""
    lists = min(int(told.get("lists", 0)) or lists_for(count), count)
    effort = int(told.get("effort", 0)) or max(1, lists // EFFORT_PART)
    return {"lists": lists, "effort": effort, "kept": float(told.get("kept", 0)) or kept}


def lists_for(count: int) -> int:
    """How many lists rows are divided into by default: what a query compares with centres and with rows is then about equal."""
    return max(1, min(count // 40, int(4 * np.sqrt(count))))


@dataclass(frozen=True, slots=True, eq=False)
class Divided:
    """How the rows of a segment are divided into lists."""

    space: Space
    origin: Floats
    """The mean of rows. What all have in common tells none from another, and would take most of the steps of codes."""
    centres: Floats
    """About the origin."""
    offsets: npt.NDArray[np.int32]
    order: npt.NDArray[np.int64]
    """The rows by list, and in each list as they were."""

    def wide(self, rows: Rows) -> Floats:
        """Wide rows about the origin."""
        return cast(Floats, wide(self.space, rows) - self.origin)

    def arrays(self) -> dict[str, Any]:
        """What an index keeps of this; centres as 8-bit codes, by which the nearest are found."""
        values, factors = np.empty(self.centres.shape, np.int8), np.empty((len(self.centres), 3), np.float32)
        quantise_floats(self.centres, values, factors)
        coarse = Coarse(values, factors, self.offsets)
        return {"origin": self.origin, **dict(zip(COARSE_ARRAYS, coarse, strict=True))}


def sampled(space: Space, rows: Rows, count: int, seed: int) -> Floats:
    """Wide rows by chance; all where there are no more."""
    if len(rows) <= count:
        return wide(space, rows)
    return wide(space, rows[np.sort(np.random.default_rng(seed).choice(len(rows), count, replace=False))])


def divided(space: Space, rows: Rows, lists: int, seed: int, progress: Progress | None) -> Divided:
    """Lists of rows around centres."""
    tell(progress, 0.0)
    sample = sampled(space, rows, lists * SAMPLE_PER_LIST, seed)
    origin = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample -= origin
    centres = centres_of(sample, lists, seed)
    labels = np.empty(len(rows), np.int32)
    for part in blocks(len(rows)):
        labels[part], _ = assigned(cast(Floats, wide(space, rows[part]) - origin), centres)
        tell(progress, 0.3 + 0.3 * part.stop / len(rows))
    offsets = np.zeros(lists + 1, np.int32)
    np.cumsum(np.bincount(labels, minlength=lists), out=offsets[1:])
    return Divided(space, origin, centres, offsets, np.argsort(labels, kind="stable"))


def tell(progress: Progress | None, fraction: float) -> None:
    """Tell how far a build is; raises Stopped where it is to end."""
    if progress is not None and not progress(fraction):
        raise Stopped


def probed(loop: int, coarse: Coarse, queries: Floats, reach: int) -> Probes:
    """The nearest lists to each query, so many."""
    shape = (len(queries), reach)
    probes = Probes(np.empty(shape, np.int32), np.empty(shape, np.float32))
    probe(loop, coarse, queries, probes)
    return probes
