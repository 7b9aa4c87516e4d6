"""IVF over 8-bit, 1-bit and product codes: kernels against plain NumPy, and what every index promises."""

import numpy as np
import pytest

from ergonaut_vectors.domain.compute.cpu import clusters, nibbles
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.flat import FlatIndex
from ergonaut_vectors.domain.indexes.lists import ListsBuilder
from ergonaut_vectors.domain.indexes.port import Asked, Builder, Index, Kind, Plan, Stopped
from ergonaut_vectors.domain.indexes.product import ProductBuilder
from ergonaut_vectors.domain.space import Element, Metric, Rows, Space, Words

COUNT = 2500
SPACES = [
    Space(24, Metric.L2),
    Space(24, Metric.COSINE),
    Space(24, Metric.INNER_PRODUCT),
    Space(24, Metric.L2, Element.FLOAT16),
    Space(24, Metric.L2, Element.UINT8),
    Space(24, Metric.COSINE, Element.INT8),
    Space(64, Metric.HAMMING, Element.BINARY),
]
PLANS = {
    "8-bit lists": (ListsBuilder(), Plan(Kind.LISTS, {"lists": 40})),
    "1-bit lists": (ListsBuilder(), Plan(Kind.LISTS, {"lists": 40, "codes": "bit"})),
    "4-bit parts": (ProductBuilder(), Plan(Kind.PRODUCT, {"lists": 40, "parts": 12})),
    "8-bit parts": (ProductBuilder(), Plan(Kind.PRODUCT, {"lists": 40, "bits": 8, "parts": 8, "rotation": "opq"})),
}


def clustered(space: Space, count: int, seed: int) -> Rows:
    """Rows in clumps, as those of models are."""
    clumps, chance = np.random.default_rng(7).standard_normal((30, space.dimension)), np.random.default_rng(seed)
    made = clumps[chance.integers(0, 30, count)] + 0.5 * chance.standard_normal((count, space.dimension))
    if space.element is Element.BINARY:
        return np.packbits(made > 0, axis=1, bitorder="little")
    if space.element in (Element.INT8, Element.UINT8):
        return (made * 20 + (128 if space.element is Element.UINT8 else 0)).clip(-128, 255).astype(space.dtype)
    if space.metric is Metric.COSINE:
        made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(space.dtype)


def built(space: Space, name: str) -> tuple[Rows, Index, Builder]:
    """Rows and an index over them, which has put them into its own order."""
    builder, plan = PLANS[name]
    rows = clustered(space, COUNT, 0)
    made = builder.build(space, rows, plan)
    assert made.order is not None
    assert sorted(made.order.tolist()) == list(range(COUNT))
    assert np.array_equal(made.index.rows, rows[made.order])
    return rows, made.index, builder


def words_of(mask: np.ndarray) -> Words:
    """A mask as words."""
    padded = np.zeros(-(-len(mask) // 64) * 64, np.bool_)
    padded[: len(mask)] = mask
    return np.packbits(padded, bitorder="little").view(np.uint64)


def recall(index: Index, queries: Rows, asked: Asked) -> float:
    """Of distances, as equal ones may be of any row."""
    found = index.search(queries, asked)
    exactly = scanned(index.space, index.rows, queries, asked)
    return float((found.distances <= exactly.distances[:, -1:] + 1e-5).mean())


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_lists_find_nearly_all_that_comparing_finds(space: Space, name: str) -> None:
    _, index, builder = built(space, name)
    queries = clustered(space, 20, 1)
    assert recall(index, queries, Asked(10, effort=20)) >= 0.9
    again = builder.open(space, index.rows, index.arrays, index.parameters)
    assert again.search(queries, Asked(10)).rows.tolist() == index.search(queries, Asked(10)).rows.tolist()


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("fraction", [0.0, 0.002, 0.1, 0.6, 1.0])
def test_filters_are_kept_and_always_enough_rows_given(name: str, fraction: float) -> None:
    space = SPACES[0]
    _, index, _ = built(space, name)
    mask = np.random.default_rng(3).random(COUNT) < fraction
    queries = clustered(space, 10, 1)
    asked = Asked(10, effort=10, allowed=words_of(mask))
    found = index.search(queries, asked)
    given = found.rows[found.rows >= 0]
    assert mask[given].all()
    assert ((found.rows >= 0).sum(axis=1) == min(10, mask.sum())).all()
    assert all(len(set(row)) == len(row) for row in found.rows[:, : min(10, mask.sum())].tolist())
    assert recall(index, queries, asked) >= 0.9


@pytest.mark.parametrize("name", PLANS)
def test_rows_far_from_every_query_are_found_where_only_they_are_allowed(name: str) -> None:
    space = SPACES[0]
    _, index, _ = built(space, name)
    query = clustered(space, 1, 1)
    far = np.argsort(np.square(np.asarray(index.rows) - query).sum(axis=1))[COUNT // 2 :]
    mask = np.zeros(COUNT, np.bool_)
    mask[far] = True
    assert recall(index, query, Asked(10, effort=4, allowed=words_of(mask))) >= 0.9
    assert (index.search(query, Asked(1200, effort=1)).rows >= 0).all()


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("metric", [Metric.L2, Metric.INNER_PRODUCT])
def test_what_all_rows_have_in_common_costs_no_recall(name: str, metric: Metric) -> None:
    builder, plan = PLANS[name]
    space, common = Space(24, metric), np.float32(100)
    rows, queries = clustered(space, COUNT, 0) + common, clustered(space, 20, 1)
    if metric is Metric.L2:
        queries += common
    index = builder.build(space, rows, plan).index
    found, truth = (index.search(queries, Asked(10, 40)), scanned(space, index.rows, queries, Asked(10)))
    both = [set(some) & set(best) for some, best in zip(found.rows.tolist(), truth.rows.tolist(), strict=True)]
    assert sum(map(len, both)) >= 0.95 * truth.rows.size
    # The farther half of all is compared with whole, which has to be exact about codes of what rows do not have in common.
    mask = np.zeros(COUNT, np.bool_)
    mask[scanned(space, index.rows, queries[:1], Asked(COUNT)).rows[0, COUNT // 2 :]] = True
    asked = Asked(10, 4, words_of(mask))
    assert (
        index.search(queries[:1], asked).rows.tolist() == scanned(space, index.rows, queries[:1], asked).rows.tolist()
    )


@pytest.mark.parametrize("name", PLANS)
def test_bytes_that_are_all_large_are_found(name: str) -> None:
    builder, plan = PLANS[name]
    space = Space(24, Metric.L2, Element.UINT8)
    rows, queries = (200 + clustered(space, count, seed) // 5 for count, seed in ((COUNT, 0), (20, 1)))
    assert recall(builder.build(space, rows, plan).index, queries, Asked(10, 20)) >= 0.95


@pytest.mark.parametrize("name", PLANS)
def test_the_same_rows_plan_and_seed_give_the_same_index(name: str) -> None:
    first, second = (built(SPACES[0], name)[1] for _ in range(2))
    assert all(np.array_equal(first.arrays[each], second.arrays[each]) for each in first.arrays)


@pytest.mark.parametrize("name", PLANS)
def test_a_build_that_is_called_off_stops(name: str) -> None:
    builder, plan = PLANS[name]
    with pytest.raises(Stopped):
        builder.build(SPACES[0], clustered(SPACES[0], COUNT, 0), plan, lambda fraction: fraction < 0.5)


@pytest.mark.parametrize("name", PLANS)
def test_few_rows_get_no_lists(name: str) -> None:
    builder, plan = PLANS[name]
    rows = clustered(SPACES[0], 100, 0)
    index = builder.build(SPACES[0], rows, plan).index
    assert isinstance(index, FlatIndex)
    assert isinstance(builder.open(SPACES[0], rows, index.arrays, index.parameters), FlatIndex)


@pytest.mark.parametrize("name", PLANS)
def test_rows_that_are_all_the_same_are_found(name: str) -> None:
    builder, plan = PLANS[name]
    index = builder.build(SPACES[0], np.ones((2000, 24), np.float32), plan).index
    assert index.search(np.ones((1, 24), np.float32), Asked(10)).distances.tolist() == [[0.0] * 10]


def test_sums_of_look_ups_in_registers_are_those_of_plain_ones() -> None:
    chance = np.random.default_rng(0)
    for parts in (2, 32, 258):
        codes = chance.integers(0, 16, (70, parts), dtype=np.uint8)
        packed = np.zeros((3, parts // 2, 32), np.uint8)
        nibbles.pack(codes, packed)
        tables = chance.integers(0, 128, (parts, 16), dtype=np.uint8)
        expected = np.zeros(96, np.int64)
        expected[:70] = tables[np.arange(parts), codes].sum(axis=1, dtype=np.int64)
        for block in range(3):
            fast, plain = np.empty(32, np.uint16), np.empty(32, np.uint16)
            nibbles.block_sums(packed, block, tables, fast)
            nibbles.plain_block_sums(packed, block, tables, plain)
            rows = min(32, 70 - 32 * block)
            assert fast[:rows].tolist() == plain[:rows].tolist() == expected[32 * block :][:rows].tolist()


def test_each_part_is_given_its_nearest_centre() -> None:
    chance = np.random.default_rng(0)
    rows, centres = (chance.standard_normal(shape).astype(np.float32) for shape in ((50, 12), (3, 4, 16)))
    codes = np.empty((50, 3), np.uint8)
    clusters.encode_parts(rows, centres, codes)
    far = np.square(rows.reshape(50, 3, 4)[:, :, :, None] - centres[None]).sum(axis=2)
    assert codes.tolist() == far.argmin(axis=2).tolist()
