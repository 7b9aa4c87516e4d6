"""Distances of codes and the sorted pool of a walk, against plain ones."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut_vectors.domain.compute.cpu.code_gaps import BITS, PRODUCTS, SQUARES, code_gap
from ergonaut_vectors.domain.compute.cpu.graph_walk import put


@settings(deadline=None)
@given(blocks=st.integers(1, 13), seed=st.integers(0, 10_000))
def test_gaps_of_codes_are_what_numpy_makes_of_them(blocks: int, seed: int) -> None:
    one, other = np.random.default_rng(seed).integers(-128, 128, (2, blocks * 32)).astype(np.int8)
    wide, other_wide = one.astype(np.int64), other.astype(np.int64)
    plain = {
        SQUARES: np.square(wide - other_wide).sum(),
        PRODUCTS: -(wide * other_wide).sum(),
        BITS: np.bitwise_count((one ^ other).view(np.uint8)).sum(),
    }
    for form, gap in plain.items():
        assert code_gap(form, one.ctypes.data, other.ctypes.data, len(one)) == gap


@settings(deadline=None)
@given(keys=st.lists(st.integers(-(2**40), 2**40), max_size=60), width=st.integers(1, 20))
def test_a_pool_keeps_the_smallest_in_order(keys: list[int], width: int) -> None:
    held, size = np.zeros(width + 1, np.int64), 0
    for key in keys:
        before = held[:size].tolist()
        place, size = put(held.ctypes.data, size, width, key)
        assert place == width or held[place] == key
        assert place < width or held[:size].tolist() == before
    assert held[:size].tolist() == sorted(keys)[:width]
