"""CUDA kernels of scans: tiles of rows and queries in shared memory, and each query's nearest kept by its threads.

Called by `place.py`; imported only where there is a GPU, or numba's simulator of one, with which the tests run them.
"""

from collections.abc import Callable
from typing import Any

import numba
import numba.cuda
import numpy as np

cuda: Any = numba.cuda

TILE = 16
"""Rows and queries of a tile, and the numbers of each that are read at once: 256 threads, 2 KB of shared memory."""

LISTED_THREADS = 32
"""Threads that share the runs of one query: one warp."""


def _jit(function: Callable[..., None]) -> Any:
    """What is launched as `kernel[blocks, threads](...)`; compiled for the GPU at the first launch."""
    return cuda.jit(function)


def _step(function: Callable[..., Any]) -> Any:
    """What threads of kernels call."""
    return cuda.jit(function, device=True)


@_jit
def compared(loop: int, queries: Any, there: Any, out: Any) -> None:
    """What orders allowed rows as their distances from each query do, infinity of the others; loop 0 is L2.

    Differences are squared and added up one by one. Squared lengths less products would say the same of exact numbers; of floats
    they say nothing where vectors lie close to each other and far from 0.
    """
    rows, allowed = there
    asked = cuda.shared.array((TILE, TILE), numba.float32)
    held = cuda.shared.array((TILE, TILE), numba.float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    row, query = cuda.blockIdx.x * TILE + x, cuda.blockIdx.y * TILE + y
    tile_row = cuda.blockIdx.x * TILE + y
    total = np.float32(0.0)
    for first in range(0, rows.shape[1], TILE):
        at = first + x
        asked[y, x] = queries[query, at] if query < queries.shape[0] and at < rows.shape[1] else np.float32(0.0)
        held[y, x] = rows[tile_row, at] if tile_row < rows.shape[0] and at < rows.shape[1] else np.float32(0.0)
        cuda.syncthreads()
        total += _far(loop, asked[y], held[x])
        cuda.syncthreads()
    if query < queries.shape[0] and row < rows.shape[0]:
        out[query, row] = total if allowed[row] else np.float32(np.inf)


@_step
def _far(loop: int, one: Any, other: Any) -> Any:
    """How far two vectors are apart, or what as many numbers of each add to that."""
    total = np.float32(0.0)
    if loop == 0:
        for i in range(one.shape[0]):
            gap = one[i] - other[i]
            total += gap * gap
    else:
        for i in range(one.shape[0]):
            total -= one[i] * other[i]
    return total


@_step
def _put(far: Any, row: Any, size: Any, rows: Any, scores: Any) -> Any:
    """Put a row among the nearest that a thread has, if it is one of them; gives how many these then are."""
    kept = rows.shape[0]
    if far == np.float32(np.inf) or (size == kept and far >= scores[kept - 1]):
        return size
    at = min(size, kept - 1)
    while at > 0 and scores[at - 1] > far:
        scores[at], rows[at] = scores[at - 1], rows[at - 1]
        at -= 1
    scores[at], rows[at] = far, row
    return min(size + 1, kept)


@_jit
def nearest_of_part(scores: Any, best_rows: Any, best_scores: Any) -> None:
    """The nearest of each thread's share of the rows, [queries, threads, kept]; the host joins the shares."""
    query, thread = cuda.blockIdx.x, cuda.threadIdx.x
    size = 0
    for row in range(thread, scores.shape[1], cuda.blockDim.x):
        size = _put(scores[query, row], row, size, best_rows[query, thread], best_scores[query, thread])


@_jit
def nearest_of_runs(loop: int, there: Any, asked: Any, best_rows: Any, best_scores: Any) -> None:
    """The same among runs of rows; `there` is the rows and who is allowed, `asked` the queries and runs."""
    rows, allowed = there
    queries, runs = asked
    query, thread = cuda.blockIdx.x, cuda.threadIdx.x
    size = 0
    for run in range(runs.shape[1]):
        for row in range(runs[query, run, 0] + thread, runs[query, run, 1], cuda.blockDim.x):
            if allowed[row] == 0:
                continue
            far = _far(loop, rows[row], queries[query])
            size = _put(far, row, size, best_rows[query, thread], best_scores[query, thread])
