"""The whole contract by the client through a real door, over real shards: arrays in and out, filters, groups, words, pages."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.client.vectors import Ask, Vectors, Words, index_of
from ergonaut.errors import NotFound, Refused, Unavailable
from ergonaut_vectors.domain.quotas import Quota

from .catalogues import House, house_of

IDS = [f"p{number}" for number in range(100)]
GRID = np.array([(number % 10, number // 10) for number in range(100)], np.float32)
PAYLOADS = [
    {"column": number % 10, "row": f"r{number // 10}", "text": f"{'odd' if number % 2 else 'even'} number {number}"}
    for number in range(100)
]
FIELDS = {"text": "text", "row": "keyword"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    quota = Quota(collections=3, vectors=300, vector_bytes=10_000, calls_per_second=50)
    async with house_of(tmp_path, quota) as made:
        yield made


@pytest.fixture(params=[1, 3], ids=["one shard", "three shards"])
async def grid(house: House, request: pytest.FixtureRequest) -> Vectors:
    """A hundred points on a grid, with payloads."""
    await house.vectors.create("grid", 2, fields=FIELDS, wish=pb.Collection(shards=request.param))
    await house.vectors.write("grid", IDS, GRID, PAYLOADS)
    return house.vectors


async def test_the_nearest_come_as_arrays_with_what_was_asked_for(grid: Vectors) -> None:
    found = await grid.nearest(
        "grid", GRID[[55, 11]] + 0.1, 3, Ask(payloads=True, payload_fields=["row"], vectors=True)
    )
    assert [row[0] for row in found.ids] == ["p55", "p11"]
    assert found.distances.shape == (2, 3)
    np.testing.assert_allclose(found.distances[:, 0], [0.02, 0.02], rtol=1e-4)
    assert not found.distances.flags.owndata
    assert found.payloads is not None
    assert found.payloads[0][0] == {"row": "r5"}
    assert found.vectors is not None
    np.testing.assert_array_equal(found.vectors[0][0], GRID[55])


async def test_a_batch_that_threads_share_is_answered_in_its_order(grid: Vectors) -> None:
    found = await grid.nearest("grid", GRID, 1)
    assert [row[0] for row in found.ids] == IDS


async def test_a_filter_leaves_as_many_as_match(grid: Vectors) -> None:
    ask = Ask(filter={"and": [{"field": "column", "in": [3, 4]}, {"field": "row", "eq": "r9"}]})
    found = await grid.nearest("grid", GRID[0], 10, ask)
    assert found.ids == [["p93", "p94"]]
    assert await grid.count("grid", ask) == 2


async def test_vectors_are_read_by_id_in_the_order_asked_for(grid: Vectors) -> None:
    found = await grid.get("grid", ["p7", "unknown", "p3"])
    assert found.ids == ["p7", "p3"]
    np.testing.assert_array_equal(found.vectors, GRID[[7, 3]])
    assert found.payloads == [PAYLOADS[7], PAYLOADS[3]]


@pytest.mark.parametrize("order_by", ["", "column"])
async def test_pages_give_everything_once(grid: Vectors, order_by: str) -> None:
    ask = Ask(filter={"not": {"field": "column", "eq": 0}}, payloads=True)
    pages = [page async for page in grid.pages("grid", size=17, order_by=order_by, descending=bool(order_by), ask=ask)]
    names = [name for page in pages for name in page.ids]
    assert sorted(names) == sorted(name for name, payload in zip(IDS, PAYLOADS, strict=True) if payload["column"])
    if order_by:
        columns = [payload["column"] for page in pages for payload in page.payloads]
        assert columns == sorted(columns, reverse=True)


async def test_groups_are_as_many_and_as_large_as_asked(grid: Vectors) -> None:
    groups = await grid.groups("grid", GRID[0], "row", limit=2, size=2, ask=Ask(payloads=True))
    assert [(group.value, [each.id for each in group.found]) for group in groups] == [
        ("r0", ["p0", "p1"]),
        ("r1", ["p10", "p11"]),
    ]
    assert groups[0].found[1].payload == PAYLOADS[1]


@pytest.mark.parametrize("strategy", ["mean", "best"])
async def test_examples_find_their_like_but_not_themselves(grid: Vectors, strategy: str) -> None:
    found = await grid.like("grid", ["p44", "p46"], ["p99"], limit=3, strategy=strategy)
    assert len(found) == 3
    assert not {"p44", "p46", "p99"} & {each.id for each in found}
    with pytest.raises(NotFound, match=r"positive\[0\]: there is no vector 'gone'"):
        await grid.like("grid", ["gone"])


@pytest.mark.parametrize("fusion", ["reciprocal-rank", "weighted"])
async def test_words_and_nearness_are_joined(grid: Vectors, fusion: str) -> None:
    words = Words("number 42", "text", fusion)
    assert (await grid.hybrid("grid", words, limit=3))[0].id == "p42"
    found = await grid.hybrid("grid", words, GRID[42], limit=5, ask=Ask(payloads=True))
    assert found[0].id == "p42"
    assert found[0].payload == PAYLOADS[42]
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


async def test_what_has_several_vectors_is_found_by_several(grid: Vectors) -> None:
    things = await grid.multi("grid", GRID[[30, 39]], "row", limit=2)
    assert [(thing.value, thing.score) for thing in things] == [("r3", 0.0), ("r2", -2.0)]
    assert {each.id for each in things[0].found} == {"p30", "p39"}


async def test_every_kind_of_search_gives_vectors_where_they_are_asked_for(grid: Vectors) -> None:
    ask = Ask(vectors=True)
    found = [
        (await grid.like("grid", ["p44"], limit=1, ask=ask))[0],
        (await grid.hybrid("grid", Words("number 42", "text"), limit=1, ask=ask))[0],
        (await grid.groups("grid", GRID[55], "row", limit=1, ask=ask))[0].found[0],
        (await grid.multi("grid", GRID[[30]], "row", limit=1, ask=ask))[0].found[0],
    ]
    for each in found:
        np.testing.assert_array_equal(each.vector, GRID[IDS.index(each.id)])


async def test_fields_are_told_with_their_types_and_how_many_have_them(grid: Vectors) -> None:
    await grid.update_payloads("grid", {"p5": {"column": 2.5, "tags": ["new", "red"]}, "p6": {}})
    await grid.delete("grid", ["p7"])
    told = await grid.describe("grid")
    assert [(each.name, each.type, each.count) for each in told.fields] == [
        ("column", "float", 1),
        ("column", "integer", 97),
        ("row", "keyword", 97),
        ("tags", "keyword", 1),
        ("text", "text", 97),
    ]
    assert not told.has_more_fields


async def test_values_are_counted(grid: Vectors) -> None:
    ask = Ask(filter={"field": "column", "range": {"lt": 3}})
    assert await grid.values("grid", "column", limit=2, ask=ask) == [(0, 10), (1, 10)]


async def test_payloads_change_while_vectors_stay(grid: Vectors) -> None:
    written = await grid.update_payloads("grid", {"p5": {"seen": True}}, merged=True)
    assert written.sequences
    assert (await grid.get("grid", ["p5"])).payloads == [{**PAYLOADS[5], "seen": True}]


async def test_what_matches_is_removed(grid: Vectors) -> None:
    written = await grid.delete("grid", filter={"field": "column", "eq": 4})
    assert written.count == 10
    assert await grid.count("grid") == 90
    await grid.delete("grid", ["p0", "unknown"])
    assert (await grid.get("grid", ["p0"])).ids == []


@pytest.mark.parametrize("call_seconds", [0.0, 60.0])
async def test_many_batches_are_answered_in_order_over_one_call_or_several(
    house: House, monkeypatch: pytest.MonkeyPatch, call_seconds: float
) -> None:
    monkeypatch.setattr("ergonaut.client.vectors.writing.CALL_SECONDS", call_seconds)
    await house.vectors.create("grid", 2)
    parts = [(IDS[first : first + 10], GRID[first : first + 10]) for first in range(0, 100, 10)]
    sequences = [written.sequence async for written in house.vectors.write_many("grid", parts)]
    assert sequences == list(range(1, 11))
    assert await house.vectors.count("grid") == 100


async def test_a_batch_that_fails_ends_its_call_and_says_why(house: House) -> None:
    await house.vectors.create("grid", 2)
    written = house.vectors.write_many("grid", [(["a"], [[1, 2]]), (["b"], [[1, 2, 3]])])
    with pytest.raises(Refused, match=r"rows\.vectors: has 3 numbers"):
        [answer async for answer in written]
    assert (await house.vectors.get("grid", ["a"])).ids == ["a"]


@pytest.mark.parametrize("element", ["float16", "uint8", "int8", "binary"])
async def test_every_element_comes_back_as_it_was_sent(house: House, element: str) -> None:
    metric = "hamming" if element == "binary" else "l2"
    sent = np.eye(16)[:4] * 3 > 0 if element == "binary" else (np.eye(16)[:4] * 3).astype(element)
    await house.vectors.create("some", 16, metric=metric, element=element)
    await house.vectors.write("some", ["a", "b", "c", "d"], sent)
    found = await house.vectors.nearest("some", sent, 1, Ask(vectors=True))
    assert found.ids == [["a"], ["b"], ["c"], ["d"]]
    assert found.vectors is not None
    expected = np.packbits(sent, axis=1, bitorder="little") if element == "binary" else sent
    np.testing.assert_array_equal(np.concatenate(found.vectors), expected)


async def test_a_collection_tells_of_itself_and_takes_another_wish(house: House) -> None:
    await house.vectors.create("some", 2, metric="cosine", element="float16", fields=FIELDS)
    changed = await house.vectors.set_index("some", index_of(kind="ivf", recall=0.9, small=True))
    assert (changed.index.kind, round(changed.index.recall, 4), changed.index.small) == (pb.INDEX_KIND_IVF, 0.9, True)
    await house.vectors.write("some", ["a"], [[1, 0]])
    told = await house.vectors.describe("some")
    assert told.collection.fields["text"].type == "text"
    assert (told.shards[0].sequence, told.shards[0].count, told.shards[0].head_count) == (1, 1, 1)


async def test_a_partial_answer_names_what_is_missing(house: House) -> None:
    await house.vectors.create("grid", 2, wish=pb.Collection(shards=2))
    await house.vectors.write("grid", IDS, GRID)
    house.catalogue.collections["acme", "grid"].away.add(1)
    found = await house.vectors.nearest("grid", GRID[0], 100, Ask(partial=True))
    assert (len(found.ids[0]), found.shards_missing) == (50, [1])


@pytest.mark.parametrize(
    ("payloads", "vectors", "message"),
    [
        ([{"text": 3}], [[1, 2]], "rows.payloads[0].text: is 3, but the field is declared text"),
        ([{}], [[1, np.nan]], "rows.vectors[0]: holds a number that is not finite"),
        ([{}], [[1, 1e30]], "rows.vectors[0]: holds a number beyond -1e+16 to 1e+16"),
    ],
)
async def test_bad_input_names_its_place(house: House, payloads: list, vectors: list, message: str) -> None:
    await house.vectors.create("some", 2, fields=FIELDS)
    with pytest.raises(Refused) as refused:
        await house.vectors.write("some", ["a"], vectors, payloads)
    assert message in str(refused.value)


async def test_rows_of_another_width_are_no_vectors_however_many_bytes_they_are_together(grid: Vectors) -> None:
    with pytest.raises(
        Refused, match="vectors: has 1 numbers for each of 2 vectors; the collection needs 2 for a vector"
    ):
        await grid.nearest("grid", [[1.0], [2.0]])
    with pytest.raises(Refused, match="vectors: has 3 numbers; the collection needs 2 for a vector"):
        await grid.nearest("grid", [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (Ask(filter={"field": "a"}), "options.filter: must have exactly one of eq"),
        (Ask(effort=5000), "options.effort: is 5000, but must be 1 to 4096"),
        (Ask(sequence_min=3), "reading.sequence_min: is of one log, but the collection has 2"),
    ],
)
async def test_a_bad_question_names_its_place(house: House, ask: Ask, message: str) -> None:
    await house.vectors.create("some", 2, wish=pb.Collection(shards=2))
    with pytest.raises(Refused) as refused:
        await house.vectors.nearest("some", [[1, 2]], 3, ask)
    assert message in str(refused.value)


async def test_a_place_of_another_order_begins_no_page(grid: Vectors) -> None:
    stub = grid._stub
    page = await stub.ListPoints(pb.ListPointsRequest(collection="grid", limit=3))
    for after in (page.next, "[]", "nonsense", json.dumps([0, True, 3])):
        with pytest.raises(Exception, match="after: is not what the page before told"):
            await stub.ListPoints(pb.ListPointsRequest(collection="grid", limit=3, order_by="column", after=after))


async def test_a_tenant_has_no_more_than_it_may(house: House) -> None:
    await house.vectors.create("a", 2)
    with pytest.raises(Refused, match="0 vectors are there and 301 more would pass the 300"):
        await house.vectors.write("a", [str(number) for number in range(301)], np.ones((301, 2)))
    for name in ("b", "c", "a"):
        await house.vectors.create(name, 2)
    with pytest.raises(Refused, match="3 collections are there and 1 more would pass the 3"):
        await house.vectors.create("d", 2)
    used = await house.vectors.usage()
    assert (used.used.collections, used.allowed.vectors) == (3, 300)


async def test_a_tenant_that_calls_too_often_is_told_when_to_come_back(house: House) -> None:
    for _ in range(100):
        await house.vectors.collections()
    with pytest.raises(Unavailable, match=r"more than 50 times a second; try again in 0\.02 s"):
        await house.vectors.collections()
    house.now = 0.5
    assert (await house.vectors.usage()).used.calls_per_second == pytest.approx(38, abs=1)


async def test_without_a_store_there_are_no_snapshots(house: House) -> None:
    with pytest.raises(Refused, match="keeps no snapshots"):
        await house.vectors.snapshot("a")
