"""The engine of faiss behind the port of indexes."""

import importlib.util

import numpy as np
import pytest

from ergonaut.errors import Refused
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.port import Asked, Kind, Plan
from ergonaut_vectors.domain.indexes.product import ProductBuilder
from ergonaut_vectors.domain.space import Space

SPACE = Space(16)
PLAN = Plan(Kind.PRODUCT, {"engine": "faiss", "lists": 32, "parts": 8, "bits": 4})
INSTALLED = importlib.util.find_spec("faiss") is not None


def rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((10_050, 16)).astype(np.float32)


@pytest.mark.skipif(INSTALLED, reason="faiss is installed")
def test_an_engine_that_is_not_installed_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="faiss is not installed"):
        ProductBuilder().build(SPACE, rows(), PLAN)


@pytest.mark.skipif(not INSTALLED, reason="faiss is not installed (the extra `faiss`)")
def test_faiss_finds_nearly_all_and_keeps_filters_and_its_file() -> None:
    index = ProductBuilder().build(SPACE, rows(), PLAN).index
    index = ProductBuilder().open(SPACE, index.rows, index.arrays, index.parameters)
    queries, mask = rows()[:20] + np.float32(0.1), np.random.default_rng(1).random(10_112) < 0.5
    mask[10_050:] = False
    words = np.packbits(mask, bitorder="little").view(np.uint64)
    for asked in (Asked(10, effort=16), Asked(10, effort=16, allowed=words)):
        found, exactly = index.search(queries, asked), scanned(SPACE, index.rows, queries, asked)
        assert (found.distances <= exactly.distances[:, -1:]).mean() >= 0.9
        assert asked.allowed is None or mask[found.rows].all()
