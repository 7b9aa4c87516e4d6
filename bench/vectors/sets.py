"""The vectors that engines are compared on: real ones where ERGONAUT_BENCH_DATA has them, and generated ones. Used by `run.py`.

In the folder `vectors` of ERGONAUT_BENCH_DATA each set is NAME_base_TYPE.npy, NAME_query_TYPE.npy and NAME_gtK.npy, the K nearest
of each query, nearest first. Rows of bytes are compared by L2; rows of floats of length one by inner product, others by L2.
Without that folder, generated sets stand in, told so by their names.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from environments import CACHE
from telling import progress

Array = np.ndarray[Any, np.dtype[Any]]

TRUTH = 100
"""How many of the nearest are known of each query."""

QUERIES = 1_000
CLUSTERS = 400
RANK = 20
"""Dimensions that a cluster spreads in; real embeddings, too, spread in few of theirs."""

SPREAD_OUTSIDE = 0.2
"""The share of queries that lie farther out than the rows do."""

BLOCK_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Set:
    """One set, prepared in a folder: `base_float32.npy`, `query_float32.npy`, `truth.npy`, and the bytes where it is of bytes."""

    name: str
    folder: Path
    count: int
    dimension: int
    metric: str
    """`l2` or `ip`."""
    element: str
    """`uint8` or `float32`: what its numbers are."""

    def base(self) -> Array:
        """The rows as float32, mapped."""
        rows: Array = np.load(self.folder / "base_float32.npy", mmap_mode="r")
        return rows

    def queries(self) -> Array:
        """The queries as float32."""
        rows: Array = np.load(self.folder / "query_float32.npy")
        return rows


def real_sets(work: Path) -> Iterator[Set]:
    """Every set of ERGONAUT_BENCH_DATA."""
    given = os.environ.get("ERGONAUT_BENCH_DATA")
    for path in sorted((Path(given) / "vectors").glob("*_base_*.npy")) if given else []:
        name = path.name.split("_base_")[0]
        queries, truths = next(path.parent.glob(f"{name}_query_*.npy")), next(path.parent.glob(f"{name}_gt*.npy"))
        yield _prepared(work, name, np.load(path), np.load(queries), np.load(truths))


def generated_set(work: Path, count: int, dimension: int, *, of_bytes: bool = False) -> Set:
    """A set made of overlapping clusters of few dimensions, the same each time; kept for the next run."""
    name = f"generated-{count}x{dimension}{'-bytes' if of_bytes else ''}"
    kept = CACHE / "sets" / name
    if not (kept / "truth.npy").exists():
        progress(f"generating {name}")
        kept.mkdir(parents=True, exist_ok=True)
        base, queries = _clustered(count, dimension)
        if of_bytes:
            low, high = np.quantile(base[:BLOCK_ROWS], [0.001, 0.999])
            base, queries = ((np.clip((x - low) / (high - low), 0, 1) * 255).astype(np.uint8) for x in (base, queries))
        np.save(kept / "base.npy", base)
        np.save(kept / "queries.npy", queries)
        np.save(kept / "truth.npy", exact(base, queries, TRUTH))
    loaded = (np.load(kept / f"{part}.npy", mmap_mode="r") for part in ("base", "queries", "truth"))
    base, queries, truth = loaded
    return _prepared(work, name, base, queries, truth)


def _prepared(work: Path, name: str, base: Array, queries: Array, truth: Array) -> Set:
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    element = "uint8" if base.dtype == np.uint8 else "float32"
    wide, asked = base.astype(np.float32), queries.astype(np.float32)
    lengths = np.linalg.norm(wide[:TRUTH], axis=1)
    metric = "ip" if element == "float32" and np.allclose(lengths, 1, atol=0.01) else "l2"
    if metric == "ip":
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    if element == "uint8":
        np.save(folder / "base_uint8.npy", base)
        np.save(folder / "query_uint8.npy", queries)
    np.save(folder / "base_float32.npy", wide)
    np.save(folder / "query_float32.npy", asked)
    np.save(folder / "truth.npy", truth)
    return Set(name, folder, len(base), base.shape[1], metric, element)


def _clustered(count: int, dimension: int) -> tuple[Array, Array]:
    """Rows and queries about centres that themselves lie in few dimensions; clusters differ in size and spread."""
    dice = np.random.default_rng(0)
    mix = dice.standard_normal((2 * RANK, dimension), np.float32) / np.float32(np.sqrt(2 * RANK))
    centres = dice.standard_normal((CLUSTERS, 2 * RANK), np.float32) @ mix
    ways = dice.standard_normal((CLUSTERS, RANK, dimension), np.float32) / np.float32(np.sqrt(dimension))
    scales = (dice.uniform(1.0, 4.0, CLUSTERS) / np.sqrt(RANK)).astype(np.float32)
    shares = 1.0 / (np.arange(CLUSTERS) + 5.0)
    shares /= shares.sum()

    def drawn(rows: int, spread: Array) -> Array:
        cluster = dice.choice(CLUSTERS, rows, p=shares)
        made = dice.standard_normal((rows, dimension), np.float32) * np.float32(0.32 / np.sqrt(dimension))
        for each in range(CLUSTERS):
            at = np.flatnonzero(cluster == each)
            inner = dice.standard_normal((len(at), RANK), np.float32) * (scales[each] * spread[at, None])
            made[at] += centres[each] + inner @ ways[each]
        return made

    outside = np.where(dice.random(QUERIES) < SPREAD_OUTSIDE, 2.0, 1.0).astype(np.float32)
    return drawn(count, np.ones(count, np.float32)), drawn(QUERIES, outside)


def exact(base: Array, queries: Array, limit: int, metric: str = "l2", allowed: Array | None = None) -> Array:
    """The nearest of each query by comparing with all rows, or with the allowed ones; -1 behind the last."""
    best = np.full((len(queries), limit), -1, np.int32)
    far = np.full((len(queries), limit), np.inf, np.float32)
    asked = queries.astype(np.float32)
    for first in range(0, len(base), BLOCK_ROWS):
        rows = base[first : first + BLOCK_ROWS].astype(np.float32)
        distances = -(asked @ rows.T)
        if metric == "l2":
            distances = 2 * distances + np.square(rows).sum(axis=1)
        if allowed is not None:
            distances[..., ~allowed[first : first + BLOCK_ROWS]] = np.inf
        ids = np.broadcast_to(np.arange(first, first + len(rows), dtype=np.int32), distances.shape)
        both, names = np.concatenate([far, distances], axis=1), np.concatenate([best, ids], axis=1)
        kept = np.argpartition(both, limit - 1, axis=1)[:, :limit]
        far, best = np.take_along_axis(both, kept, 1), np.take_along_axis(names, kept, 1)
    order = np.argsort(far, axis=1, kind="stable")
    best, far = np.take_along_axis(best, order, 1), np.take_along_axis(far, order, 1)
    return np.where(np.isfinite(far), best, -1).astype(np.int32)
