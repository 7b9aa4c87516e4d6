"""A shard: that every state agrees with a dictionary searched exactly, through seals, merges, restarts, and for many threads."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ergonaut_vectors.adapters.segment_files import SegmentFiles
from ergonaut_vectors.domain.payload.filters import Not, OneOf
from ergonaut_vectors.domain.segments.shard import Checkpoint, Shard
from ergonaut_vectors.domain.segments.view import Cursor, Question, View
from ergonaut_vectors.domain.segments.work import Done, Policy, Work, done
from ergonaut_vectors.domain.segments.writes import Changes, Deletes, Upserts
from ergonaut_vectors.domain.space import Element, Metric, Space

SPACE = Space(4)
SMALL = Policy(head_rows_max=4, merged_together=2, dead_fraction_max=0.3, replay_max=12, tidied_head_rows_min=2)


def written(names: Sequence[str], rows: Any, *payloads: dict[str, Any], space: Space = SPACE) -> Upserts:
    return Upserts(tuple(names), np.asarray(rows, space.dtype), payloads)


def content(view: View) -> dict[str, tuple[bytes, dict[str, Any], int]]:
    """All of a view, by id."""
    stored = view.scroll(Cursor(), 10_000)
    vectors = view.vectors([each.place for each in stored])
    return {
        each.id: (row.tobytes(), view.payload(each.place), each.sequence)
        for each, row in zip(stored, vectors, strict=True)
    }


def finish(shard: Shard, *, idle: bool = False) -> None:
    while work := shard.plan_work(idle=idle):
        assert shard.install(done(work))


def test_an_upsert_of_a_known_id_replaces_vector_and_payload() -> None:
    shard = Shard(SPACE)
    shard.apply(written(["x"], [[0, 0, 0, 0]], {"label": "old"}), 1)
    shard.apply(written(["x"], [[5, 5, 0, 0]], {"label": "new"}), 2)
    hits = shard.view.search(np.zeros((1, 4), np.float32), Question())[0]
    assert [(hit.id, hit.distance, shard.view.payload(hit.place)) for hit in hits] == [("x", 50.0, {"label": "new"})]


def test_what_was_applied_is_not_applied_again() -> None:
    shard = Shard(SPACE)
    assert shard.apply(written(["x"], [[1, 0, 0, 0]]), 3, "mark")
    assert not shard.apply(Deletes(("x",)), 3)
    assert (shard.view.count, shard.position, shard.view.mark) == (1, 3, "mark")


def test_the_same_upsert_again_leaves_nothing_behind() -> None:
    shard = Shard(SPACE)
    shard.apply(written(["x"], [[1, 2, 3, 4]], {"a": [1, None]}), 1)
    before = shard.view
    shard.apply(written(["x"], [[1, 2, 3, 4]], {"a": [1, None]}), 2)
    assert (shard.head_rows, shard.view.digest, shard.position) == (1, before.digest, 2)


def test_of_an_id_twice_in_a_batch_the_last_counts() -> None:
    shard = Shard(SPACE)
    shard.apply(written(["x", "y", "x"], [[1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0]]), 1)
    assert {name: np.frombuffer(row, np.float32)[0] for name, (row, *_) in content(shard.view).items()} == {
        "x": 3,
        "y": 2,
    }


def test_a_change_writes_a_payload_and_leaves_the_vector() -> None:
    shard = Shard(SPACE)
    shard.apply(written(["x", "y"], [[1, 0, 0, 0], [2, 0, 0, 0]], {"a": 1, "b": 2}, {}), 1)
    shard.apply(Changes(("x", "nobody"), ({"b": 3}, {}), merged=True), 2)
    shard.apply(Changes(("y",), ({"c": 4},)), 3)
    view = shard.view
    assert [view.payload(each.place) for each in view.get(["x", "y"]) if each] == [{"a": 1, "b": 3}, {"c": 4}]
    assert view.get(["nobody"]) == [None]


def test_a_view_stays_as_it_was_whatever_is_written_later() -> None:
    shard = Shard(SPACE, policy=SMALL)
    shard.apply(written(list("abc"), np.eye(3, 4)), 1)
    view, before = shard.view, content(shard.view)
    for position in range(2, 40):
        shard.apply(written(list("abc"), np.eye(3, 4) * position), position)
        finish(shard)
    assert content(view) == before
    assert {hit.id for hit in view.search(np.zeros((1, 4), np.float32), Question())[0]} == set("abc")


def test_deaths_during_work_are_carried_over() -> None:
    shard = Shard(SPACE, policy=SMALL)
    shard.apply(written(list("abcd"), np.eye(4)), 1)
    work = shard.plan_work()
    assert work is not None
    result = done(work)
    shard.apply(Deletes(("a",)), 2)
    shard.apply(written(["b"], [[9, 9, 9, 9]]), 3)
    assert shard.install(result)
    assert set(content(shard.view)) == set("bcd")
    assert set(content(shard.checkpoint().view)) == set("abcd")
    assert shard.checkpoint().view.position == 1


def test_work_that_was_abandoned_is_not_installed_and_is_planned_again() -> None:
    shard = Shard(SPACE, policy=SMALL)
    shard.apply(written(list("abcd"), np.eye(4)), 1)
    work = shard.plan_work()
    assert work is not None
    shard.apply(written(["a", "e"], np.ones((2, 4))), 2)
    before = content(shard.view)
    shard.abandon(work)
    assert not shard.install(done(work))
    assert content(shard.view) == before
    finish(shard)
    assert content(shard.view) == before == content(shard.checkpoint().view)


def test_deletes_alone_move_the_checkpoint_on() -> None:
    shard = Shard(SPACE, policy=SMALL)
    shard.apply(written(list("abcdefgh"), np.ones((8, 4))), 1)
    finish(shard)
    for position, name in enumerate("abcdefgh" * 2, 2):
        shard.apply(Deletes((name,)), position)
        finish(shard)
    assert shard.position - shard.checkpoint().view.position < SMALL.replay_max
    assert shard.view.parts == ()


def test_a_scroll_gives_every_vector_once_in_the_order_of_writing() -> None:
    shard = Shard(SPACE, policy=SMALL)
    for position in range(1, 30):
        names = [f"{position}-{i}" for i in range(position % 5 + 1)]
        shard.apply(written(names, np.ones((len(names), 4)), *({"even": position % 2 == 0} for _ in names)), position)
        finish(shard)
    for wanted, all_of_them in ((None, content(shard.view)), (Not(OneOf("even", (True,))), None)):
        cursor, seen = Cursor(), []
        while page := shard.view.scroll(cursor, 3, wanted):
            seen += page
            cursor = Cursor(page[-1].sequence, page[-1].id)
        keys = [(each.sequence, each.id) for each in seen]
        assert keys == sorted(keys)
        assert len(keys) == len(set(keys)) == shard.view.counted(wanted)
        assert all_of_them is None or {each.id for each in seen} == set(all_of_them)


def test_segments_become_one_while_nobody_writes_but_for_small_ones_beside_a_large_one() -> None:
    policy = Policy(head_rows_max=100, merged_together=4, tidied_head_rows_min=10, tidied_ratio_max=8)
    shard = Shard(SPACE, policy=policy)
    for position, count in enumerate((100, 100, 60, 20), 1):
        shard.apply(written([f"{position}-{i}" for i in range(count)], np.ones((count, 4))), position)
        finish(shard)
    assert [part.count for part in shard.view.parts] == [100, 100, 80]
    finish(shard, idle=True)
    assert [part.count for part in shard.view.parts] == [280]
    shard.apply(written([f"5-{i}" for i in range(30)], np.ones((30, 4))), 5)
    finish(shard, idle=True)
    assert [part.count for part in shard.view.parts] == [280, 30]


def test_large_segments_become_one_while_nobody_writes_however_small_another_is_beside_them() -> None:
    shard = Shard(SPACE, policy=Policy(head_rows_max=10, tidied_head_rows_min=10, tidied_ratio_max=8))
    for position, count in enumerate((300, 300, 20), 1):
        shard.apply(written([f"{position}-{i}" for i in range(count)], np.ones((count, 4))), position)
        finish(shard)
    finish(shard, idle=True)
    assert [part.count for part in shard.view.parts] == [620]


def test_as_many_segments_as_came_meanwhile_become_one() -> None:
    shard = Shard(SPACE, policy=Policy(head_rows_max=4, merged_together=2, segment_rows_max=30))
    for position in range(1, 9):
        shard.apply(written([f"{position}-{i}" for i in range(4)], np.ones((4, 4))), position)
        work = shard.plan_seal()
        assert work is not None
        assert shard.install(done(work))
    finish(shard)
    assert [part.count for part in shard.view.parts] == [28, 4]


@pytest.mark.parametrize(
    ("space", "rows"),
    [
        (Space(4, Metric.COSINE), [[1, 0, 0, 0], [3, 4, 0, 0]]),
        (Space(4, Metric.INNER_PRODUCT, Element.FLOAT16), [[1, 0, 0, 0], [0, 4, 0, 0]]),
        (Space(4, Metric.L2, Element.UINT8), [[1, 0, 0, 0], [200, 4, 0, 0]]),
        (Space(4, Metric.COSINE, Element.INT8), [[1, 0, 0, 0], [-100, 4, 0, 0]]),
        (Space(12, Metric.HAMMING, Element.BINARY), [[1, 0], [255, 15]]),
    ],
)
def test_each_space_finds_a_vector_by_itself_before_and_after_a_seal(space: Space, rows: list[list[int]]) -> None:
    shard = Shard(space)
    shard.apply(written(["one", "two"], rows, space=space), 1)
    for _ in range(2):
        hits = shard.view.search(np.array(rows, space.dtype), Question(1, exact=True))
        assert [[hit.id for hit in each] for each in hits] == [["one"], ["two"]]
        work = shard.plan_seal()
        assert work is None or shard.install(done(work))


NAMES = st.sampled_from([f"id-{i}" for i in range(14)])
ROWS = st.tuples(*[st.integers(-3, 3)] * 4)
COLOURS = st.sampled_from([{}, {"colour": "red"}, {"colour": "blue"}, {"colour": ["red", "blue"]}])
WRITTEN = st.dictionaries(NAMES, st.tuples(ROWS, COLOURS), min_size=1, max_size=6)


class Writes(RuleBasedStateMachine):
    """Writes, work at any moment and restarts, beside a dictionary."""

    @initialize()
    def begin(self) -> None:
        self.shard = Shard(SPACE, policy=SMALL)
        self.truth: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {}
        self.log: list[Upserts | Deletes | Changes] = []
        self.under_way: list[Work] = []

    @rule(batch=WRITTEN)
    def upsert(self, batch: dict[str, tuple[tuple[int, ...], dict[str, Any]]]) -> None:
        self.truth |= batch
        self._apply(written(list(batch), [row for row, _ in batch.values()], *(each for _, each in batch.values())))

    @rule(names=st.frozensets(NAMES, min_size=1, max_size=8))
    def delete(self, names: frozenset[str]) -> None:
        self.truth = {name: each for name, each in self.truth.items() if name not in names}
        self._apply(Deletes(sorted(names)))

    @rule(names=st.frozensets(NAMES, min_size=1, max_size=4), payload=COLOURS, merged=st.booleans())
    def change(self, names: frozenset[str], payload: dict[str, Any], merged: bool) -> None:
        for name in names & set(self.truth):
            row, before = self.truth[name]
            self.truth[name] = row, (before | payload if merged else payload)
        self._apply(Changes(sorted(names), [payload] * len(names), merged))

    @rule(idle=st.booleans())
    def plan(self, idle: bool) -> None:
        while work := self.shard.plan_work(idle=idle):
            self.under_way.append(work)

    @precondition(lambda self: self.under_way)
    @rule(at=st.integers(0, 1), fails=st.booleans())
    def finish(self, at: int, fails: bool) -> None:
        work = self.under_way.pop(at % len(self.under_way))
        if fails:
            self.shard.abandon(work)
        else:
            assert self.shard.install(self.kept(done(work)))

    def kept(self, result: Done) -> Done:
        return result

    def reopened(self) -> Checkpoint:
        return self.shard.checkpoint()

    @rule()
    def restart(self) -> None:
        digest, self.under_way = self.shard.view.digest, []
        self.shard = Shard.open(SPACE, None, self.reopened(), SMALL)
        for position in range(self.shard.position, len(self.log)):
            self.shard.apply(self.log[position], position + 1)
        assert self.shard.view.digest == digest

    @invariant()
    def agrees(self) -> None:
        view = self.shard.view
        assert content(view).keys() == self.truth.keys()
        assert {name: payload for name, (_, payload, _) in content(view).items()} == {
            name: payload for name, (_, payload) in self.truth.items()
        }
        assert view.count == len(self.truth)

    @rule(query=ROWS, limit=st.integers(1, 20), filtered=st.booleans(), exact=st.booleans())
    def search(self, query: tuple[int, ...], limit: int, filtered: bool, exact: bool) -> None:
        wanted = OneOf("colour", ("red",)) if filtered else None
        matches = [
            sum((a - b) ** 2 for a, b in zip(query, row, strict=True))
            for row, payload in self.truth.values()
            if not filtered or "red" in payload.get("colour", ())
        ]
        hits = self.shard.view.search(np.array([query], np.float32), Question(limit, exact=exact, filter=wanted))[0]
        assert [hit.distance for hit in hits] == sorted(matches)[:limit]
        assert self.shard.view.counted(wanted) == len(matches)
        assert len({hit.id for hit in hits}) == len(hits)

    def _apply(self, write: Upserts | Deletes | Changes) -> None:
        self.log.append(write)
        assert self.shard.apply(write, len(self.log))


Writes.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
TestWrites = Writes.TestCase


class WritesInFiles(Writes):
    """The same with every segment mapped from its file, and restarts from what was saved before the process died."""

    @initialize()
    def begin(self) -> None:
        super().begin()
        self.folder = TemporaryDirectory()
        self.files = SegmentFiles(Path(self.folder.name))

    def teardown(self) -> None:
        self.folder.cleanup()

    def kept(self, result: Done) -> Done:
        return self.files.kept(result)

    @rule()
    def save(self) -> None:
        self.files.save(self.shard.checkpoint(), b"mark")

    def reopened(self) -> Checkpoint:
        self.files = SegmentFiles(Path(self.folder.name))
        self.files.sweep()
        return self.files.load() or Shard(SPACE).checkpoint()


WritesInFiles.TestCase.settings = settings(max_examples=15, stateful_step_count=40, deadline=None, derandomize=True)
TestWritesInFiles = WritesInFiles.TestCase


def test_readers_beside_the_writer_and_its_work_see_whole_batches_only() -> None:
    """Each batch moves all 64 ids to a new place and labels them with its number; a mixture would show two labels."""
    shard, torn, ended = Shard(SPACE, policy=Policy(head_rows_max=256, merged_together=3)), [], threading.Event()
    names, places = [str(i) for i in range(64)], np.random.default_rng(8).normal(size=(64, 4)).astype(np.float32)
    shard.apply(written(names, places, *[{"batch": 1}] * 64), 1)

    def read() -> None:
        while not ended.is_set():
            view = shard.view
            hits = view.search(places[:1], Question(100))[0]
            labels = {view.payload(hit.place)["batch"] for hit in hits}
            stored = [each for each in view.get(names) if each]
            filtered = view.counted(OneOf("batch", (view.position,)))
            if len(hits) != 64 or labels != {view.position} or filtered != 64:
                torn.append((len(hits), labels, view.position, filtered))
            if {each.sequence for each in stored} != {view.position} or len(stored) != 64:
                torn.append(stored)

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        for position in range(2, 200):
            shard.apply(written(names, places + position / 100, *[{"batch": position}] * 64), position)
            finish(shard)
        ended.set()
        for reader in readers:
            reader.result()
    assert torn == []
