"""Indexes of a shard's segments: chosen by size and wish, checked, tuned and built anew, while answers stay right."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from ergonaut_vectors.adapters.segment_files import SegmentFiles
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.port import Arrays, Asked, Built, Found, Kind, Parameters, Plan, Progress
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.filters import OneOf
from ergonaut_vectors.domain.schema import IndexWish
from ergonaut_vectors.domain.segments.builders import BUILDERS
from ergonaut_vectors.domain.segments.planning import parts_to_merge, plan_for
from ergonaut_vectors.domain.segments.recall import QUERIES, beside
from ergonaut_vectors.domain.segments.segment import Segment
from ergonaut_vectors.domain.segments.shard import Shard
from ergonaut_vectors.domain.segments.view import Cursor, Question
from ergonaut_vectors.domain.segments.work import Job, Policy, done
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts
from ergonaut_vectors.domain.space import Element, Metric, Rows, Space

SPACE = Space(4)
POLICY = Policy(head_rows_max=100, graph_rows_min=150, merged_together=2)


@dataclass(frozen=True)
class Lazy:
    """An index that looks at the first rows only, `effort` in each hundred, and wants its rows backwards."""

    space: Space
    rows: Rows
    effort: int = 50
    kind: Kind = Kind.GRAPH

    @property
    def arrays(self) -> Arrays:
        return {"backwards": np.arange(len(self.rows))[::-1].copy()}

    @property
    def parameters(self) -> Parameters:
        return {"effort": self.effort}

    def search(self, queries: Rows, asked: Asked) -> Found:
        count = len(self.rows)
        allowed = bits.all_of(count) if asked.allowed is None else asked.allowed
        seen = bits.of_rows(np.arange(min(count, count * (asked.effort or self.effort) // 100)), count) & allowed
        enough = bits.counted(seen) >= min(asked.limit, bits.counted(allowed))
        return scanned(self.space, self.rows, queries, replace(asked, allowed=seen if enough else allowed))


class LazyBuilder:
    def build(self, space: Space, rows: Rows, plan: Plan, progress: Progress | None = None) -> Built:
        order = np.arange(len(rows))[::-1].copy()
        return Built(Lazy(space, rows[order]), order)

    def open(self, space: Space, rows: Rows, arrays: Arrays, parameters: Parameters) -> Lazy:
        assert (arrays["backwards"] == np.arange(len(rows))[::-1]).all()
        return Lazy(space, rows, int(parameters["effort"]))


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILDERS, Kind.GRAPH, LazyBuilder)


def filled(count: int, policy: Policy = POLICY) -> Shard:
    shard, rows = Shard(SPACE, policy=policy), np.random.default_rng(4).normal(size=(count, 4)).astype(np.float32)
    for position, first in enumerate(range(0, count, 50), 1):
        part = rows[first : first + 50]
        shard.apply(Upserts([str(first + i) for i in range(len(part))], part, [{"at": position}] * len(part)), position)
    return shard


def finish(shard: Shard) -> list[Job]:
    jobs = []
    while work := shard.plan_work(idle=True):
        jobs.append(work.job)
        assert shard.install(done(work))
    return jobs


def kinds(shard: Shard) -> list[Kind]:
    return [part.store.index.kind for part in shard.view.parts if isinstance(part.store, Segment)]


@pytest.mark.usefixtures("lazy")
def test_a_few_rows_are_compared_one_by_one_and_many_get_a_graph() -> None:
    few, many = filled(100), filled(300)
    assert (finish(few), kinds(few)) == ([Job.SEAL], [Kind.FLAT])
    assert (finish(many), kinds(many)) == ([Job.SEAL, Job.MERGE, Job.CHECK], [Kind.GRAPH])


@pytest.mark.usefixtures("lazy")
def test_a_head_becomes_a_segment_quickly_and_gets_its_index_while_nobody_writes() -> None:
    shard = filled(300)
    seal = shard.plan_work()
    assert seal is not None
    shard.install(done(seal))
    assert (shard.plan_work(), kinds(shard)) == (None, [Kind.FLAT])
    assert (finish(shard), kinds(shard)) == ([Job.MERGE, Job.CHECK], [Kind.GRAPH])


def test_a_shard_that_has_grown_gets_another_index_while_it_is_read_and_written() -> None:
    shard, random = filled(100), np.random.default_rng(9)
    assert (finish(shard), kinds(shard)) == ([Job.SEAL], [Kind.FLAT])
    rows = random.normal(size=(900, 4)).astype(np.float32)
    shard.apply(Upserts([f"more-{at}" for at in range(900)], rows), 100)
    jobs, written = [], 0
    with ThreadPoolExecutor(1) as beside_us:
        while work := shard.plan_work(idle=True):
            jobs.append(work.job)
            doing, is_over = beside_us.submit(done, work), False
            while not is_over:
                is_over = doing.done()
                # No more than a head has room for, or there would always be more to do.
                if written < POLICY.head_rows_max // 2:
                    written += 1
                    fresh = np.full((1, 4), 10.0 + written, np.float32)
                    shard.apply(Upserts([f"fresh-{written}"], fresh), 100 + written)
                    assert shard.view.search(fresh, Question(1))[0][0].id == f"fresh-{written}"
                at = int(random.integers(900))
                assert f"more-{at}" in {hit.id for hit in shard.view.search(rows[at : at + 1], Question())[0]}
            assert shard.install(doing.result())
    assert {Job.SEAL, Job.MERGE, Job.CHECK} <= set(jobs)
    assert kinds(shard).count(Kind.GRAPH) == 1
    assert shard.view.count == 1_000 + written


@pytest.mark.usefixtures("lazy")
def test_rows_keep_their_ids_payloads_and_sequences_in_the_order_that_an_index_wants() -> None:
    shard = filled(300)
    before = {each.id: (each.sequence, shard.view.payload(each.place)) for each in shard.view.scroll(Cursor(), 300)}
    finish(shard)
    view = shard.view
    assert {each.id: (each.sequence, view.payload(each.place)) for each in view.scroll(Cursor(), 300)} == before
    for name in ("0", "123", "299"):
        stored = view.get([name])[0]
        assert stored is not None
        assert view.search(view.vectors([stored.place]), Question(1, exact=True))[0][0].id == name


@pytest.mark.usefixtures("lazy")
def test_an_index_that_finds_too_little_is_told_to_look_harder() -> None:
    shard = filled(300)
    finish(shard)
    seen = shard.view.parts[0].tuned
    assert seen is not None
    assert 64 < seen.effort <= 96
    assert seen.recall >= seen.wanted == 0.95
    queries = np.random.default_rng(5).normal(size=(50, 4)).astype(np.float32)
    found, truth = shard.view.search(queries, Question()), shard.view.search(queries, Question(exact=True))
    shares = [len({a.id for a in some} & {b.id for b in every}) / 10 for some, every in zip(found, truth, strict=True)]
    assert np.mean(shares) >= 0.93


@pytest.mark.usefixtures("lazy")
def test_what_was_found_out_about_an_index_outlasts_a_restart(tmp_path: Path) -> None:
    shard, files = filled(300), SegmentFiles(tmp_path)
    while work := shard.plan_work(idle=True):
        shard.install(files.kept(done(work)))
    files.save(shard.checkpoint(), b"")
    checkpoint = SegmentFiles(tmp_path).load()
    assert checkpoint is not None
    again = Shard.open(SPACE, None, checkpoint, POLICY)
    assert again.view.parts[0].tuned == shard.view.parts[0].tuned
    assert again.plan_work() is None


@pytest.mark.usefixtures("lazy")
def test_another_wish_is_worked_towards_in_the_background() -> None:
    shard = filled(300)
    finish(shard)
    shard.policy = replace(POLICY, wish=IndexWish(recall=0.5))
    assert finish(shard) == [Job.CHECK]
    shard.policy = replace(POLICY, wish=IndexWish(Kind.FLAT))
    assert (finish(shard), kinds(shard)) == ([Job.MERGE], [Kind.FLAT])


def test_a_graph_whose_rows_are_to_stay_on_disk_is_made_of_one_that_reads_them() -> None:
    shard = filled(300, replace(POLICY, wish=IndexWish(Kind.GRAPH)))
    finish(shard)
    small = IndexWish(Kind.GRAPH, small=True)
    shard.policy = replace(POLICY, wish=small, links=8)
    assert finish(shard)[0] is Job.MERGE
    store = shard.view.parts[0].store
    assert isinstance(store, Segment)
    assert (store.index.parameters["rows_compared"], store.index.parameters["links"]) == (False, 8)
    assert finish(shard) == []


@pytest.mark.usefixtures("lazy")
def test_an_index_is_checked_again_when_rows_have_died_and_built_anew_when_many_have() -> None:
    shard = filled(300)
    finish(shard)
    shard.apply(Deletes([str(i) for i in range(0, 300, 8)]), 100)
    shard.plan_seal()
    assert finish(shard) == [Job.CHECK]
    shard.apply(Deletes([str(i) for i in range(1, 300, 8)]), 101)
    assert finish(shard) == [Job.MERGE, Job.CHECK]
    assert shard.view.parts[0].store.count == shard.view.count == 224


@pytest.mark.usefixtures("lazy")
def test_a_check_whose_segment_was_merged_away_meanwhile_changes_nothing() -> None:
    shard = filled(300)
    seal = shard.plan_seal()
    assert seal is not None
    shard.install(done(seal))
    index = shard.plan_work(idle=True)
    assert index is not None
    shard.install(done(index))
    check = shard.plan_work()
    assert check is not None
    assert check.job is Job.CHECK
    result = done(check)
    shard.apply(Deletes([str(i) for i in range(100)]), 100)
    merge = shard.plan_work()
    assert merge is not None
    assert merge.job is Job.MERGE
    shard.install(done(merge))
    assert shard.install(result)
    assert shard.view.parts[0].tuned is None
    assert shard.view.count == 200


def test_a_plan_follows_size_wish_and_space() -> None:
    space, policy = Space(128), Policy()
    assert plan_for(policy, space, 5_000).kind is Kind.FLAT
    assert plan_for(policy, space, 500_000).kind is Kind.GRAPH
    assert (
        plan_for(Policy(wish=IndexWish(Kind.PRODUCT)), Space(128, element=Element.UINT8), 50_000).kind is Kind.PRODUCT
    )
    assert plan_for(Policy(wish=IndexWish(small=True)), space, 50_000).parameters["rows_compared"] is False
    assert (
        "rows_compared" not in plan_for(Policy(wish=IndexWish(small=True, recall=0.99)), Space(384), 50_000).parameters
    )
    assert plan_for(Policy(wish=IndexWish(small=True)), Space(128, element=Element.UINT8), 50_000).kind is Kind.LISTS
    told = plan_for(Policy(candidates_build=300), space, 50_000).parameters
    assert (told["links"], told["candidates_build"]) == (16, 300)
    assert plan_for(Policy(links=40), space, 50_000).parameters["links"] == 40


def test_rows_that_are_hard_to_find_get_a_graph_of_more_links() -> None:
    links = []
    for directions in (2, 128):
        random, space = np.random.default_rng(0), Space(128)
        rows = (random.normal(size=(1_200, directions)) @ np.eye(directions, 128)).astype(np.float32)
        policy = Policy(head_rows_max=1_000, graph_rows_min=1_000)
        shard = Shard(space, policy=policy)
        shard.apply(Upserts([str(row) for row in range(len(rows))], rows), 1)
        finish(shard)
        store = shard.view.parts[0].store
        assert isinstance(store, Segment)
        links.append(store.index.parameters["links"])
    assert links[0] < links[1]


@pytest.mark.usefixtures("lazy")
def test_an_index_that_finds_less_since_rows_have_died_is_built_anew() -> None:
    shard = filled(300)
    finish(shard)
    shard.policy = replace(POLICY, wish=IndexWish(recall=0.5), dead_fraction_max=0.9)
    finish(shard)
    shard.apply(Deletes(["7"]), 100)
    shard.plan_seal()
    part = shard.view.parts[0]
    assert part.tuned is not None
    low = replace(part, tuned=replace(part.tuned, recall=0.4))
    assert parts_to_merge(shard.policy, replace(shard.view, parts=(low,))) == [low]
    assert parts_to_merge(shard.policy, shard.view) == ()


@pytest.mark.parametrize(
    "space",
    [Space(96, Metric.HAMMING, Element.BINARY), Space(6, Metric.L2, Element.UINT8), Space(6, Metric.COSINE)],
    ids=lambda space: space.element,
)
def test_queries_beside_rows_are_of_their_space_and_near_them_but_not_they(space: Space) -> None:
    shard, random = Shard(space), np.random.default_rng(1)
    rows = random.integers(0, 8, (300, space.width)).astype(space.dtype)
    shard.apply(Upserts([str(i) for i in range(300)], rows), 1)
    queries = beside(space, shard.view.parts[0], 1)
    assert (queries.shape, queries.dtype) == ((QUERIES, space.width), space.dtype)
    far = shard.view.search(queries, Question(1, exact=True))
    assert np.mean([hits[0].distance > 0 for hits in far]) > 0.5
    if space.metric is Metric.COSINE:
        np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_index_finds_exactly_as_many_as_there_are_and_nothing_that_is_gone(kind: Kind, tmp_path: Path) -> None:
    """1,200 rows: sealed, a third replaced, some deleted, filtered by one in fifty, and come back to from files."""
    policy, files = Policy(head_rows_max=500, merged_together=2, wish=IndexWish(kind)), SegmentFiles(tmp_path)
    space, random = Space(24), np.random.default_rng(6)
    shard, rows = Shard(space, policy=policy), random.normal(size=(1600, 24)).astype(np.float32)
    for position, first in enumerate(range(0, 1600, 40), 1):
        names = [str((first + i) % 1200) for i in range(40)]
        shard.apply(Upserts(names, rows[first : first + 40], [{"of": int(name) % 50} for name in names]), 2 * position)
        shard.apply(Deletes([names[3]]), 2 * position + 1)
        while work := shard.plan_work():
            shard.install(files.kept(done(work)))
    seal = shard.plan_seal()
    assert seal is None or shard.install(files.kept(done(seal)))
    files.save(shard.checkpoint(), b"")
    checkpoint = SegmentFiles(tmp_path).load()
    assert checkpoint is not None
    for view in (shard.view, checkpoint.view):
        for wanted in (None, OneOf("of", (7,))):
            hits = view.search(rows[:3], Question(1200, filter=wanted))
            truth = view.search(rows[:3], Question(1200, exact=True, filter=wanted))
            assert [{hit.id for hit in each} for each in hits] == [{hit.id for hit in each} for each in truth]
            assert len(hits[0]) == view.counted(wanted)
        nearest = view.search(rows[:60], Question(10)), view.search(rows[:60], Question(10, exact=True))
        shares = [len({a.id for a in some} & {b.id for b in every}) / 10 for some, every in zip(*nearest, strict=True)]
        assert np.mean(shares) >= 0.9
