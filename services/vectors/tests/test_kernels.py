"""The compiled kernels against their plain twins, on vectors of small whole numbers, for which every sum is exact."""

import numpy as np
import pytest

from ergonaut_vectors.domain import kernels, plain
from ergonaut_vectors.domain.growing import GrowingGraph, level_of, new_scratch
from ergonaut_vectors.domain.schema import Metric, Schema

METRICS = pytest.mark.parametrize("metric", list(Metric))


def whole_numbers(count: int, dimension: int = 5, *, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(-6, 7, (count, dimension)).astype(np.float32)


def grown(metric: Metric, count: int, *, dead: int = 0) -> GrowingGraph:
    """A graph of whole numbers, in which one vector in three stands twice and the first `dead` have died at position 2."""
    schema = Schema(
        "small", 5, Metric.L2 if metric is Metric.L2 else Metric.INNER_PRODUCT, links=4, candidates_build=12
    )
    store = GrowingGraph(schema)
    vectors = whole_numbers(count)
    vectors[::3] = vectors[1::3][: len(vectors[::3])]
    store.add(store.prepared(vectors), 1)
    for slot in range(dead):
        store.end(slot, 2)
    return store


def unlinked(graph: kernels.Graph) -> kernels.Graph:
    return graph._replace(links=np.full_like(graph.links, kernels.NONE), upper=np.full_like(graph.upper, kernels.NONE))


def nothing(queries: int, limit: int) -> kernels.Found:
    return kernels.Found(np.full((queries, limit), 77, np.int32), np.zeros((queries, limit), np.float32))


def ranked(found: kernels.Found, row: int) -> plain.Ranked:
    pairs = zip(found.distances[row].tolist(), found.slots[row].tolist(), strict=True)
    return [(far, slot) for far, slot in pairs if slot != kernels.NONE]


@METRICS
def test_the_distance_is_that_of_the_plain_twin(metric: Metric) -> None:
    graph = grown(metric, 30).graph
    for one, other in zip(graph.vectors[:15], graph.vectors[15:30], strict=True):
        assert kernels.distance(graph.metric, one, other) == plain.distance(graph, one, other)


@METRICS
def test_insertion_makes_the_same_links_as_the_plain_twin(metric: Metric) -> None:
    store = grown(metric, 200)
    twin = unlinked(store.graph)
    entry = plain.insert_slots(twin, (0, 200), kernels.NONE, 12)
    assert entry == store.view(1).entry
    assert store.graph.level[:200].max() >= 2
    np.testing.assert_array_equal(store.graph.links, twin.links)
    np.testing.assert_array_equal(store.graph.upper, twin.upper)


@METRICS
@pytest.mark.parametrize("dead", [0, 60, 150])
@pytest.mark.parametrize("position", [1, 2])
def test_a_search_along_the_graph_finds_what_the_plain_twin_finds(metric: Metric, dead: int, position: int) -> None:
    store = grown(metric, 200, dead=dead)
    queries = store.prepared(whole_numbers(20, seed=8))
    found = nothing(20, 5)
    view = store.view(position)
    kernels.search_graph(store.graph, new_scratch(256, 8 * 9 + 1, 9), queries, view, 9, found)
    for row, query in enumerate(queries):
        assert ranked(found, row) == plain.search_graph(store.graph, query, view, 9, 5)


@METRICS
@pytest.mark.parametrize("count", [0, 3, 120])
def test_the_exact_search_finds_what_the_plain_twin_finds(metric: Metric, count: int) -> None:
    store = grown(metric, count, dead=count // 3)
    queries = store.prepared(whole_numbers(20, seed=9))
    found = nothing(20, 5)
    kernels.search_all(store.graph, queries, store.view(2), found)
    for row, query in enumerate(queries):
        assert ranked(found, row) == plain.search_all(store.graph, query, store.view(2), 5)


@METRICS
def test_a_walk_leaves_the_pool_of_the_plain_twin(metric: Metric) -> None:
    store = grown(metric, 200, dead=100)
    scratch = new_scratch(256, 8 * 7 + 1, 9)
    for query in store.prepared(whole_numbers(10, seed=10)):
        size = kernels.walk(store.graph, scratch, query, 3, (0, 7, 2))
        pool = list(zip(scratch.pool_distance[:size].tolist(), scratch.pool_slot[:size].tolist(), strict=True))
        assert pool == plain.walk(store.graph, query, 3, (0, 7, 2))


def test_marks_of_earlier_walks_do_not_count_when_the_epochs_run_out() -> None:
    store = grown(Metric.L2, 102)
    query = store.prepared(whole_numbers(1, seed=11))
    fresh, worn = new_scratch(128, 73, 9), new_scratch(128, 73, 9)
    worn.epoch[0] = 0xFFFFFFFE
    worn.seen[:] = 2
    first, second = nothing(1, 5), nothing(1, 5)
    kernels.search_graph(store.graph, fresh, query, store.view(1), 9, first)
    kernels.search_graph(store.graph, worn, query, store.view(1), 9, second)
    np.testing.assert_array_equal(first.slots, second.slots)
    assert worn.epoch[0] < 100


def test_levels_thin_out_by_the_number_of_links_and_are_the_same_each_time() -> None:
    levels = np.array([level_of(slot, 16) for slot in range(50_000)])
    assert (levels >= 1).mean() == pytest.approx(1 / 16, rel=0.05)
    assert (levels >= 2).mean() == pytest.approx(1 / 256, rel=0.2)
    assert [level_of(slot, 16) for slot in range(100)] == levels[:100].tolist()
