"""Compares the kernels of CUDA with NumPy; run by `test_cuda.py` in a process in which numba simulates a GPU, or has one."""

import sys

import numpy as np

from ergonaut_vectors.domain.compute.cuda.place import gpu
from ergonaut_vectors.domain.compute.plain import PlainCompute
from ergonaut_vectors.domain.compute.port import chosen
from ergonaut_vectors.domain.indexes.port import Asked, Found
from ergonaut_vectors.domain.space import Element, Metric, Rows, Space

SPACES = [Space(9), Space(9, Metric.COSINE), Space(9, Metric.INNER_PRODUCT), Space(16, Metric.HAMMING, Element.BINARY)]


def rows_in(space: Space, count: int, seed: int) -> Rows:
    """Rows by chance."""
    made = np.random.default_rng(seed).standard_normal((count, space.dimension))
    if space.element is Element.BINARY:
        return np.packbits(made > 0, axis=1, bitorder="little")
    if space.metric is Metric.COSINE:
        made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float32)


def assert_same(one: Found, other: Found) -> None:
    """The same distances; rows may differ where distances are equal but for rounding."""
    np.testing.assert_allclose(one.distances, other.distances, rtol=1e-4, atol=1e-4)
    assert (one.rows >= 0).tolist() == (other.rows >= 0).tolist()


def main() -> None:
    """Compare all."""
    compute = chosen(gpu, PlainCompute)
    assert compute.name == "cuda", "no GPU and no simulator of one"
    for space in SPACES:
        rows, queries = rows_in(space, 37, 0), rows_in(space, 3, 1)
        mask = np.random.default_rng(2).random(64) < 0.5
        mask[37:] = False
        words = np.packbits(mask, bitorder="little").view(np.uint64)
        there, plain = compute.held(space, rows), PlainCompute().held(space, rows)
        runs = np.array([[[0, 5], [20, 30]], [[7, 7], [30, 37]], [[0, 37], [0, 0]]])
        for asked in (Asked(5), Asked(40), Asked(5, allowed=words)):
            assert_same(there.nearest(queries, asked), plain.nearest(queries, asked))
            assert_same(there.nearest_in_runs(queries, runs, asked), plain.nearest_in_runs(queries, runs, asked))
    sys.stdout.write(f"compared {len(SPACES)} spaces\n")


if __name__ == "__main__":
    main()
