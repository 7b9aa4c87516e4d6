"""The index: what it finds, what it never finds, and that every state agrees with a dictionary searched exactly."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut_vectors.domain.index import VectorIndex
from ergonaut_vectors.domain.schema import Ask, Deletes, Hit, Metric, Schema, Upserts

METRICS = pytest.mark.parametrize("metric", list(Metric))


def upserts(names: Sequence[str], vectors: np.ndarray, **attributes: str) -> Upserts:
    return Upserts(tuple(names), np.asarray(vectors, np.float32), tuple(attributes for _ in names))


def clustered(count: int, *, seed: int, spread: float = 1.0, dimension: int = 32) -> np.ndarray:
    """Vectors around 60 centres that are the same for every seed."""
    centres = np.random.default_rng(1).normal(size=(60, dimension)) * 3
    random = np.random.default_rng(seed)
    drawn = centres[random.integers(0, 60, count)] + spread * random.normal(size=(count, dimension))
    return drawn.astype(np.float32)


def filled(schema: Schema, vectors: np.ndarray, *, batch: int = 500) -> VectorIndex:
    index = VectorIndex(schema)
    for first in range(0, len(vectors), batch):
        part = vectors[first : first + batch]
        index.apply(upserts([str(first + i) for i in range(len(part))], part), first // batch + 1)
    return index


def recall(index: VectorIndex, queries: np.ndarray, ask: Ask) -> float:
    """The share of the truly nearest that the graph finds."""
    truth = index.search(queries, Ask(ask.limit, exact=True))
    found = index.search(queries, ask)
    shares = [len(ids(a) & ids(b)) / len(b) for a, b in zip(found, truth, strict=True)]
    return float(np.mean(shares))


def ids(hits: list[Hit]) -> set[str]:
    return {hit.id for hit in hits}


@METRICS
@pytest.mark.parametrize("spread", [0.2, 1.0, 3.0])
def test_recall_at_10_is_at_least_95_percent_with_default_candidates(metric: Metric, spread: float) -> None:
    index = filled(Schema("a", 32, metric), clustered(5000, seed=2, spread=spread))
    assert recall(index, clustered(300, seed=3, spread=spread), Ask()) >= 0.95


def test_recall_stays_when_half_of_the_vectors_have_been_replaced() -> None:
    index = filled(Schema("a", 32), clustered(4000, seed=2))
    for first in range(0, 2000, 500):
        names = [str(first + i) for i in range(500)]
        index.apply(upserts(names, clustered(500, seed=50 + first)), 100 + first)
    assert recall(index, clustered(300, seed=3), Ask()) >= 0.95


def test_exact_search_agrees_with_numpy() -> None:
    vectors, queries = clustered(700, seed=4), clustered(20, seed=5)
    index = filled(Schema("a", 32), vectors)
    squared = ((queries[:, None, :].astype(np.float64) - vectors[None]) ** 2).sum(axis=2)
    for hits, row in zip(index.search(queries, Ask(7, exact=True)), squared, strict=True):
        assert [hit.id for hit in hits] == [str(i) for i in np.argsort(row)[:7]]
        np.testing.assert_allclose([hit.distance for hit in hits], np.sort(row)[:7], rtol=1e-5)


def test_each_metric_gives_its_own_distance() -> None:
    def nearest(metric: Metric) -> list[tuple[str, float]]:
        index = VectorIndex(Schema("a", 2, metric))
        index.apply(upserts(["long", "near"], [[10, 0], [1, 1]]), 1)
        return [(hit.id, round(hit.distance, 5)) for hit in index.search(np.array([[2, 1]], np.float32), Ask())[0]]

    assert nearest(Metric.L2) == [("near", 1.0), ("long", 65.0)]
    assert nearest(Metric.INNER_PRODUCT) == [("long", -20.0), ("near", -3.0)]
    assert nearest(Metric.COSINE) == [("near", 0.05132), ("long", 0.10557)]


def test_an_upsert_of_a_known_id_replaces_vector_and_attributes() -> None:
    index = VectorIndex(Schema("a", 2))
    index.apply(upserts(["x"], [[0, 0]], label="old"), 1)
    index.apply(upserts(["x"], [[5, 5]], label="new"), 2)
    assert index.search(np.zeros((1, 2), np.float32), Ask()) == [[Hit("x", 50.0, {"label": "new"})]]
    assert index.count == 1


def test_the_same_upsert_again_leaves_no_dead_slot() -> None:
    index = filled(Schema("a", 32), clustered(100, seed=2))
    before = index._seen.view.used
    assert index.apply(upserts([str(i) for i in range(100)], clustered(100, seed=2)), 9)
    assert (index._seen.view.used, index.position) == (before, 9)


def test_a_batch_that_was_applied_is_not_applied_again() -> None:
    index = VectorIndex(Schema("a", 2))
    assert index.apply(upserts(["x"], [[0, 0]]), 3)
    assert index.apply(Deletes(("x",)), 4)
    assert not index.apply(upserts(["x"], [[0, 0]]), 3)
    assert (index.count, index.position) == (0, 4)


@pytest.mark.parametrize("exact", [False, True])
def test_a_deleted_vector_is_never_found_even_when_only_it_is_near(exact: bool) -> None:
    vectors = clustered(3000, seed=6)
    index = filled(Schema("a", 32), vectors)
    near = np.argsort(((vectors - vectors[0]) ** 2).sum(axis=1))[:900]
    index.apply(Deletes(tuple(str(i) for i in near)), 100)
    hits = index.search(vectors[:1], Ask(20, 64, exact))[0]
    assert len(hits) == 20
    assert not ids(hits) & {str(i) for i in near}


def test_as_many_are_found_as_there_are_when_nearly_all_are_deleted() -> None:
    vectors = clustered(2000, seed=6)
    index = filled(Schema("a", 32), vectors)
    index.apply(Deletes(tuple(str(i) for i in range(1000))), 100)
    index.apply(Deletes(tuple(str(i) for i in range(1000, 1995))), 101)
    assert ids(index.search(vectors[:1], Ask(10, 10))[0]) == {"1995", "1996", "1997", "1998", "1999"}


def test_the_graph_is_built_anew_when_most_of_it_is_dead() -> None:
    index = filled(Schema("a", 32), clustered(3000, seed=6))
    index.apply(Deletes(tuple(str(i) for i in range(1600))), 100)
    assert index._seen.view.used == 1400
    assert recall(index, clustered(100, seed=3), Ask()) >= 0.95
    index.apply(upserts(["0"], clustered(1, seed=6)), 101)
    assert index.search(clustered(1, seed=6), Ask(1))[0][0].id == "0"


def test_many_equal_vectors_can_all_be_found() -> None:
    vectors = clustered(2000, seed=7)
    vectors[500:900] = vectors[500]
    index = filled(Schema("a", 32), vectors)
    assert ids(index.search(vectors[500:501], Ask(400, 800))[0]) == {str(i) for i in range(500, 900)}


def test_nothing_is_found_in_an_empty_collection() -> None:
    assert VectorIndex(Schema("a", 2)).search(np.zeros((2, 2), np.float32), Ask()) == [[], []]


def test_searches_beside_the_writer_see_whole_batches_only() -> None:
    """Each batch moves all 64 ids to a new place and labels them with its number; a mixture would show two labels."""
    index, places = VectorIndex(Schema("a", 8)), np.random.default_rng(8).normal(size=(64, 8)).astype(np.float32)
    names = [str(i) for i in range(64)]
    index.apply(upserts(names, places, batch="0"), 1)
    torn: list[set[str]] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            for exact in (False, True):
                hits = index.search(places[:1], Ask(100, 100, exact))[0]
                seen = {hit.attributes["batch"] for hit in hits}
                if len(hits) != 64 or len(seen) != 1:
                    torn.append(seen)

    searcher = threading.Thread(target=search)
    searcher.start()
    for number in range(1, 150):
        index.apply(upserts(names, places + number / 100, batch=str(number)), number + 1)
    done.set()
    searcher.join()
    assert torn == []


NAMES = st.sampled_from([f"id-{i}" for i in range(12)])
VECTORS = st.lists(st.integers(-4, 4), min_size=3, max_size=3).filter(any)
STEPS = st.lists(
    st.one_of(
        st.dictionaries(NAMES, VECTORS, min_size=1, max_size=6),
        st.frozensets(NAMES, min_size=1, max_size=6),
    ),
    max_size=25,
)


@METRICS
@given(steps=STEPS, query=VECTORS)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_sequence_of_writes_agrees_with_a_dictionary(metric: Metric, steps: list, query: list[int]) -> None:
    index, truth = VectorIndex(Schema("a", 3, metric, links=4, candidates_build=16)), dict[str, list[int]]()
    for position, step in enumerate(steps, 1):
        if isinstance(step, dict):
            truth |= step
            index.apply(upserts(list(step), list(step.values())), position)
        else:
            truth = {name: vector for name, vector in truth.items() if name not in step}
            index.apply(Deletes(tuple(step)), position)
    queries = np.array([query], np.float32)
    expected = sorted(far(metric, np.array(query), np.array(vector)) for vector in truth.values())
    for exact in (True, False):
        hits = index.search(queries, Ask(20, 64, exact))[0]
        assert ids(hits) == set(truth)
        np.testing.assert_allclose([hit.distance for hit in hits], expected, atol=1e-5)


def far(metric: Metric, one: np.ndarray, other: np.ndarray) -> float:
    if metric is Metric.L2:
        return float(((one - other) ** 2).sum())
    if metric is Metric.INNER_PRODUCT:
        return -float(one @ other)
    return 1 - float(one @ other) / float(np.linalg.norm(one) * np.linalg.norm(other))
