"""Candidates by codes of parts are the rows that are nearest by what the codes stand for; the pool they are collected in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut_vectors.domain.compute.cpu.codes import dot
from ergonaut_vectors.domain.compute.cpu.pool import cut, entry_of, far_of, row_of, taken
from ergonaut_vectors.domain.indexes.coarse import probed
from ergonaut_vectors.domain.indexes.listed import ListedIndex, Lookup
from ergonaut_vectors.domain.indexes.parts import PartCodes
from ergonaut_vectors.domain.indexes.port import Kind, Plan
from ergonaut_vectors.domain.indexes.prepared import ALL_ROWS, empty_answer
from ergonaut_vectors.domain.indexes.product import ProductBuilder, decoded, in_groups
from ergonaut_vectors.domain.space import Space

DISTANCES = st.lists(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=1, max_size=200)


@settings(deadline=None)
@given(DISTANCES, st.integers(1, 220))
def test_a_pool_gives_what_sorting_gives(distances: list[float], kept: int) -> None:
    pool = np.array([entry_of(np.float32(far), row) for row, far in enumerate(distances)], np.int64)
    assert [row_of(entry) for entry in pool] == list(range(len(pool)))
    assert [far_of(entry) for entry in pool] == distances
    farthest = cut(pool.copy(), len(pool), min(kept, len(pool)))
    assert farthest == sorted(distances)[min(kept, len(pool)) - 1]
    rows = np.empty(kept, np.int32)
    taken(pool, len(pool), rows)
    found = rows[rows >= 0]
    assert sorted(distances[row] for row in found) == sorted(distances)[:kept]
    assert (len(set(found.tolist())), (rows[len(found) :] == -1).all()) == (min(kept, len(pool)), True)


@pytest.mark.parametrize("dimension", [1, 31, 32, 100])
def test_products_of_codes_and_steps_are_those_of_numpy(dimension: int) -> None:
    chance = np.random.default_rng(dimension)
    codes, steps = chance.integers(-127, 128, (3, dimension)), chance.integers(-900, 900, dimension)
    found = [dot(codes.astype(np.int8), row, steps.astype(np.int16)) for row in range(3)]
    assert found == (codes @ steps).tolist()


def test_centres_that_share_a_high_half_lie_together() -> None:
    centres = np.random.default_rng(0).standard_normal((3, 2, 256)).astype(np.float32)
    made = in_groups(centres)
    assert np.array_equal(np.sort(made, axis=2), np.sort(centres, axis=2))
    spread = made.reshape(3, 2, 16, 16).var(axis=3).mean()
    assert spread < 0.2 * centres.var()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rotation", ["none", "opq"])
def test_candidates_are_the_nearest_by_what_codes_stand_for(bits: int, rotation: str) -> None:
    chance, space = np.random.default_rng(0), Space(10)
    rows, queries = (chance.standard_normal((count, 10)).astype(np.float32) for count in (1_500, 3))
    plan = Plan(Kind.PRODUCT, {"lists": 8, "parts": 6, "bits": bits, "rotation": rotation})
    index = ProductBuilder().build(space, rows, plan).index
    assert isinstance(index, ListedIndex)
    listed, arrays = index.listed, index.arrays
    assert isinstance(listed.sort, PartCodes)
    probes = probed(0, listed.coarse, queries, 8)
    found = empty_answer(len(queries), 300)
    lookup = Lookup(queries, queries, probes, len(rows) + 1, ALL_ROWS)
    listed.sort.candidates(lookup, listed.coarse, found)

    packed = arrays["packed"].transpose(0, 2, 1).reshape(-1, 3)[: len(rows)]
    codes = np.stack([packed & 15, packed >> 4], axis=2).reshape(len(rows), 6)
    if bits == 8:
        codes = codes << 4 | np.stack([arrays["lows"] & 15, arrays["lows"] >> 4], axis=2).reshape(len(rows), 6)
    rests = decoded(codes, arrays["centres"])
    turned = np.pad(queries, ((0, 0), (0, 2))) if rotation == "none" else queries @ arrays["rotation"]
    shares = np.empty((len(queries), len(rows)), np.float32)
    for at, (first, after) in enumerate(zip(arrays["list_offsets"][:-1], arrays["list_offsets"][1:], strict=True)):
        for query in range(len(queries)):
            shares[query, first:after] = probes.shares[query, probes.lists[query] == at]
    far = arrays["bases"][: len(rows)] + shares - 2 * turned @ rests.T
    for query in range(len(queries)):
        nearest = set(np.argsort(far[query])[:300].tolist())
        assert len(nearest & set(found.rows[query].tolist())) >= (300 if bits == 8 else 285)
