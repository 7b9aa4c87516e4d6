"""Computing on a GPU: its kernels in numba's simulator, NumPy where there is none, and both against the CPU's kernels."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ergonaut.errors import Unavailable
from ergonaut_vectors.domain.compute.plain import PlainCompute
from ergonaut_vectors.domain.compute.port import Held
from ergonaut_vectors.domain.indexes.away import Place, compute_with, place_of
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.flat import flat_over
from ergonaut_vectors.domain.indexes.port import Asked
from ergonaut_vectors.domain.space import Element, Metric, Rows, Space

SIMULATED = Path(__file__).parent / "cuda_simulated.py"


def test_kernels_of_cuda_find_what_numpy_finds() -> None:
    # The simulator must be asked for before numba is imported, and would slow down every other test.
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    told = subprocess.run(
        [sys.executable, str(SIMULATED)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout == "compared 4 spaces\n"


@pytest.mark.parametrize("metric", list(Metric))
def test_numpy_finds_what_the_kernels_of_the_cpu_find(metric: Metric) -> None:
    space = Space(16, metric, Element.BINARY if metric is Metric.HAMMING else Element.INT8)
    kind = np.iinfo(space.dtype)
    rows = np.random.default_rng(0).integers(kind.min, kind.max, (200, space.width), dtype=space.dtype)
    found, exactly = (
        PlainCompute().held(space, rows).nearest(rows[:5], Asked(7)),
        scanned(space, rows, rows[:5], Asked(7)),
    )
    np.testing.assert_allclose(found.distances, exactly.distances, rtol=1e-4, atol=1e-4)


def test_a_gpu_that_is_wanted_and_not_there_is_told() -> None:
    assert place_of("cpu", print) is None
    if place_of("auto", print) is None:
        with pytest.raises(Unavailable, match=r"install ergonaut-vectors\[cuda\]"):
            place_of("cuda", print)


class Full(PlainCompute):
    """A GPU whose memory is taken."""

    def held(self, space: Space, rows: Rows) -> Held:
        raise MemoryError("CUDA_ERROR_OUT_OF_MEMORY")


def test_what_fails_on_a_gpu_is_told_once_and_done_by_the_cpu() -> None:
    failures: list[str] = []
    rows = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    space = Space(16, Metric.L2, Element.FLOAT32)
    compute_with(Place(Full(), pairs_min=1, when_failed=lambda error: failures.append(str(error))))
    try:
        index = flat_over(space, rows)
        for _ in range(2):
            assert index.search(rows[:5], Asked(1)).rows[:, 0].tolist() == [0, 1, 2, 3, 4]
    finally:
        compute_with(None)
    assert failures == ["CUDA_ERROR_OUT_OF_MEMORY"]
