"""The graph as an index: against exact search, in every space, with and without filters, from its arrays, by several threads."""

import numpy as np
import pytest

from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.graph import GraphBuilder, GraphIndex, warm_up
from ergonaut_vectors.domain.indexes.port import NONE, Asked, Kind, Plan, Stopped
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.space import Element, Metric, Rows, Space

COUNT, EFFORT = 1500, 60
PLAIN = Space(40)

SPACES = [
    PLAIN,
    Space(40, Metric.COSINE),
    Space(40, Metric.INNER_PRODUCT),
    Space(48, Metric.L2, Element.FLOAT16),
    Space(40, Metric.L2, Element.UINT8),
    Space(40, Metric.COSINE, Element.UINT8),
    Space(40, Metric.L2, Element.INT8),
    Space(40, Metric.INNER_PRODUCT, Element.INT8),
    Space(100, Metric.HAMMING, Element.BINARY),
]


def rows_in(space: Space, count: int = COUNT, seed: int = 1) -> Rows:
    """Rows around some centres, as real ones lie."""
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(20, space.dimension))
    rows = centres[chance.integers(0, 20, count)] + 0.7 * chance.normal(size=(count, space.dimension))
    if space.element is Element.BINARY:
        return np.packbits(rows > 0, axis=1, bitorder="little")
    if space.metric is Metric.COSINE and space.element is Element.FLOAT32:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    if space.element in (Element.UINT8, Element.INT8):
        least = 0 if space.element is Element.UINT8 else -128
        rows = np.clip(np.rint(rows * 45 + 128 + least), least, least + 255)
    return np.ascontiguousarray(rows, dtype=space.dtype)


def recall(index: GraphIndex, queries: Rows, asked: Asked) -> float:
    """The part of the nearest that is found; distances must be those of the rows, told in order."""
    truth, found = scanned(index.space, index.rows, queries, asked), index.search(queries, asked)
    assert ((found.rows == NONE) == (truth.rows == NONE)).all()
    finite = np.where(np.isfinite(found.distances), found.distances, np.float32(1e30))
    assert (np.diff(finite, axis=1) >= 0).all()
    for query, rows, distances in zip(queries, found.rows, found.distances, strict=True):
        kept = rows != NONE
        assert len(set(rows[kept].tolist())) == kept.sum()
        exact = scanned(index.space, index.rows, query[None], Asked(len(index.rows)))
        told = dict(zip(exact.rows[0].tolist(), exact.distances[0].tolist(), strict=True))
        assert distances[kept] == pytest.approx([told[row] for row in rows[kept].tolist()], rel=1e-4, abs=1e-4)
    # Equal distances may be told of either row.
    worst = np.where(np.isfinite(truth.distances), truth.distances, -np.inf).max(axis=1)
    near = (found.distances <= worst[:, None] * (1 + np.sign(worst[:, None]) * 1e-5) + 1e-5) & (found.rows != NONE)
    return float(near.sum() / (truth.rows != NONE).sum())


@pytest.fixture(scope="module")
def plain() -> GraphIndex:
    index = GraphBuilder().build(PLAIN, rows_in(PLAIN), Plan(Kind.GRAPH)).index
    assert isinstance(index, GraphIndex)
    return index


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.element}-{space.metric}")
def test_nearly_all_of_the_nearest_are_found_in_every_space(space: Space) -> None:
    rows = rows_in(space)
    built = GraphBuilder().build(space, rows, Plan(Kind.GRAPH))
    assert built.order is not None
    assert (rows[built.order] == built.index.rows).all()
    assert isinstance(built.index, GraphIndex)
    assert recall(built.index, rows_in(space, 30, seed=2), Asked(10, EFFORT)) > 0.95


@pytest.mark.parametrize("space", [space for space in SPACES if space.metric is not Metric.HAMMING], ids=str)
def test_rows_that_stay_on_disk_are_found_by_their_codes_alone(space: Space) -> None:
    rows = rows_in(space)
    built = GraphBuilder().build(space, rows, Plan(Kind.GRAPH, {"rows_compared": False})).index
    queries, asked = rows_in(space, 30, seed=2), Asked(10, EFFORT)
    truth = scanned(space, built.rows, queries, asked)
    gone = np.full_like(built.rows, 77)
    index = GraphBuilder().open(space, gone, built.arrays, built.parameters)
    found = index.search(queries, asked)
    near = [len(set(a) & set(b)) / 10 for a, b in zip(found.rows.tolist(), truth.rows.tolist(), strict=True)]
    assert np.mean(near) > 0.9
    assert found.distances == pytest.approx(truth.distances, rel=0.03, abs=0.03)
    mask = np.zeros(COUNT, np.bool_)
    mask[truth.rows[0, :7]] = True
    few = index.search(queries[:1], Asked(10, EFFORT, bits.of_mask(mask))).rows[0]
    assert set(few[few != NONE].tolist()) == set(truth.rows[0, :7].tolist())


@pytest.mark.parametrize("part", [0.5, 0.1, 0.02, 0.002, 0.0])
@pytest.mark.parametrize("lie", ["anywhere", "near", "far"])
def test_under_a_filter_as_many_are_found_as_match_wherever_they_lie(plain: GraphIndex, part: float, lie: str) -> None:
    queries = rows_in(PLAIN, 10, seed=3)
    queries[:] = queries[0] + 0.1 * queries
    order = scanned(PLAIN, plain.rows, queries[:1], Asked(COUNT)).rows[0]
    matching = int(part * COUNT)
    chosen = {"anywhere": np.random.default_rng(4).permutation(order), "near": order, "far": order[::-1]}[lie][
        :matching
    ]
    mask = np.zeros(COUNT, np.bool_)
    mask[chosen] = True
    asked = Asked(10, 20, bits.of_mask(mask), matching)
    found = plain.search(queries, asked).rows
    assert ((found != NONE).sum(axis=1) == min(10, matching)).all()
    assert mask[found[found != NONE]].all()
    if matching:
        assert recall(plain, queries, asked) >= 0.95


def test_after_half_of_the_rows_died_none_of_them_is_told_and_the_others_are_found_as_well(plain: GraphIndex) -> None:
    queries = rows_in(PLAIN, 60, seed=5)
    mask = np.random.default_rng(6).random(COUNT) < 0.5
    before = recall(plain, queries, Asked(10, 40))
    after = recall(plain, queries, Asked(10, 40, bits.of_mask(mask)))
    assert after >= before - 0.01
    assert mask[plain.search(queries, Asked(10, 40, bits.of_mask(mask))).rows].all()


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_that_share_a_batch_answer_what_one_does(plain: GraphIndex, threads: int) -> None:
    queries = rows_in(PLAIN, 203, seed=9)
    for several, one in zip(
        plain.search(queries, Asked(7, threads=threads)), plain.search(queries, Asked(7)), strict=True
    ):
        assert (several == one).all()


def test_a_graph_is_its_arrays_and_parameters(plain: GraphIndex) -> None:
    arrays = {name: array.copy() for name, array in plain.arrays.items()}
    opened = GraphBuilder().open(PLAIN, plain.rows, arrays, dict(plain.parameters))
    queries = rows_in(PLAIN, 20, seed=8)
    for told, kept in zip(opened.search(queries, Asked(7)), plain.search(queries, Asked(7)), strict=True):
        assert (told == kept).all()


def test_the_same_rows_and_seed_give_the_same_graph(plain: GraphIndex) -> None:
    again = GraphBuilder().build(PLAIN, rows_in(PLAIN), Plan(Kind.GRAPH)).index
    assert all((array == again.arrays[name]).all() for name, array in plain.arrays.items())


def test_threads_that_build_together_build_a_graph_as_good() -> None:
    rows = rows_in(PLAIN, 6000)
    index = GraphBuilder().build(PLAIN, rows, Plan(Kind.GRAPH, threads=3)).index
    assert isinstance(index, GraphIndex)
    links = index.arrays["links"]
    assert (links < len(rows)).all()
    assert all(len(set(row[row != NONE].tolist())) == (row != NONE).sum() for row in links)
    assert not (links == np.arange(len(rows))[:, None]).any()
    assert recall(index, rows_in(PLAIN, 30, seed=9), Asked(10, EFFORT)) > 0.95


@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_few_rows_are_a_graph_too(count: int) -> None:
    index = GraphBuilder().build(PLAIN, rows_in(PLAIN, count), Plan(Kind.GRAPH)).index
    found = index.search(rows_in(PLAIN, 3, seed=2), Asked(20))
    assert ((found.rows != NONE).sum(axis=1) == count).all()


def test_equal_rows_are_all_found() -> None:
    rows = np.repeat(rows_in(PLAIN, 2), 300, axis=0)
    index = GraphBuilder().build(PLAIN, rows, Plan(Kind.GRAPH)).index
    found = index.search(rows[:1], Asked(50))
    assert (found.rows != NONE).all()
    assert found.distances == pytest.approx(0.0)


def test_more_may_be_asked_for_than_a_walk_keeps(plain: GraphIndex) -> None:
    found = plain.search(rows_in(PLAIN, 2, seed=2), Asked(COUNT + 5, 8))
    assert ((found.rows != NONE).sum(axis=1) == COUNT).all()


def test_a_build_can_be_called_off() -> None:
    with pytest.raises(Stopped):
        GraphBuilder().build(PLAIN, rows_in(PLAIN, 100), Plan(Kind.GRAPH), lambda _: False)


def test_kernels_of_a_space_can_be_had_before_there_is_a_graph() -> None:
    warm_up(PLAIN)
