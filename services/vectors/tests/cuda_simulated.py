"""Compares the kernels of CUDA with NumPy; run by `test_cuda.py` in a process in which numba simulates a GPU, or has one."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ergonaut_vectors.domain.compute.cuda.place import gpu
from ergonaut_vectors.domain.compute.plain import PlainCompute
from ergonaut_vectors.domain.compute.port import Compute, Held
from ergonaut_vectors.domain.indexes.away import Place, compute_with
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.port import Asked, Found, Kind
from ergonaut_vectors.domain.payload.filters import OneOf
from ergonaut_vectors.domain.schema import IndexWish
from ergonaut_vectors.domain.segments.segment import Segment
from ergonaut_vectors.domain.segments.shard import Shard
from ergonaut_vectors.domain.segments.view import Question
from ergonaut_vectors.domain.segments.work import Policy, done
from ergonaut_vectors.domain.segments.writes import Upserts
from ergonaut_vectors.domain.space import Element, Metric, Rows, Space


@dataclass(frozen=True)
class _Watched:
    """A place that tells when rows are taken to it."""

    name: str
    held: Callable[[Space, Rows], Held]


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


def assert_what_lies_far_from_0_is_told_apart(compute: Compute) -> None:
    """The nearest are those that exact comparison finds, also where vectors have much in common."""
    for space in (Space(9), Space(9, element=Element.FLOAT16)):
        rows = (rows_in(Space(9), 60, 5) + np.float32(1_000)).astype(space.dtype)
        exactly, runs = scanned(space, rows, rows[:3], Asked(5)), np.tile(np.array([[0, 20], [20, 60]]), (3, 1, 1))
        there = compute.held(space, rows)
        for found in (there.nearest(rows[:3], Asked(5)), there.nearest_in_runs(rows[:3], runs, Asked(5))):
            assert found.rows.tolist() == exactly.rows.tolist(), space
            assert_same(found, exactly)


def assert_shards_answer_the_same(kind: Kind, place: Compute) -> None:
    """A shard answers as it does by the CPU's kernels, with a filter and without, and has asked the place."""
    space, asked_there = Space(9), list[Rows]()
    count = 1_300 if kind is Kind.LISTS else 40  # Fewer are compared whatever the index.
    rows, queries = rows_in(space, count, 3), rows_in(space, 2, 4)
    shard = Shard(space, policy=Policy(head_rows_max=count, wish=IndexWish(kind)))
    shard.apply(Upserts([str(row) for row in range(count)], rows, [{"even": row % 2 == 0} for row in range(count)]), 1)
    while (work := shard.plan_work(idle=True)) is not None:
        shard.install(done(work))
    assert [part.store.index.kind for part in shard.view.parts if isinstance(part.store, Segment)] == [kind]

    def held(space: Space, rows: Rows) -> Held:
        asked_there.append(rows)
        return place.held(space, rows)

    watched = Place(_Watched(place.name, held), pairs_min=1)
    for wanted in (None, OneOf("even", (True,))):
        question = Question(5, effort=1_000, filter=wanted)
        found = []
        for each in (None, watched):
            compute_with(each)
            found.append([[hit.id for hit in hits] for hits in shard.view.search(queries, question)])
        compute_with(None)
        assert found[0] == found[1], kind
        assert len(found[0][0]) == 5
    assert len(asked_there) == 1


def main() -> None:
    """Compare all."""
    compute = gpu()
    assert compute is not None, "no GPU and no simulator of one"
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
    for place in (compute, PlainCompute()):
        assert_what_lies_far_from_0_is_told_apart(place)
        for kind in (Kind.FLAT, Kind.LISTS):
            assert_shards_answer_the_same(kind, place)
    sys.stdout.write(f"compared {len(SPACES)} spaces\n")


if __name__ == "__main__":
    main()
