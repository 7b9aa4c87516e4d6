"""`ergonaut vectors` against a real door: every command, files in and out, and errors in one sentence."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import typer
from typer.testing import CliRunner

from ergonaut.cli import vectors
from ergonaut.cli.vectors_reading import MULTI_MAX
from ergonaut_vectors.domain.answers.finding import QUERY_VECTORS_MAX
from ergonaut_vectors.domain.payload.groups import GROUP_SIZE_MAX
from ergonaut_vectors.domain.schema import (
    CANDIDATES_MAX,
    DIMENSION_MAX,
    LIMIT_MAX,
    RECALL_DEFAULT,
    REPLICAS_MAX,
    SHARDS_MAX,
)

from .catalogues import House, house_of

Run = Callable[..., Awaitable[Any]]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with house_of(tmp_path) as made:
        yield made


@pytest.fixture
def run(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command; gives what it printed as JSON, or with `code` its words."""
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ERGONAUT_VECTORS_ADDRESS", house.connection.services["vectors"])
    monkeypatch.setenv("ERGONAUT_API_KEY", house.connection.headers["authorization"].removeprefix("Bearer "))

    async def ran(*arguments: object, code: int | None = None) -> Any:
        line = ["vectors", *map(str, arguments), *(["--json"] if code is None else [])]
        done = await asyncio.to_thread(CliRunner().invoke, commands(), line)
        assert done.exit_code == (code or 0), done.output
        return json.loads(done.stdout) if code is None else done.output

    return ran


@pytest.fixture
async def pages(run: Run, tmp_path: Path) -> Path:
    """A collection of three pages, from a file."""
    file = tmp_path / "pages.jsonl"
    lines = [
        {"id": "a", "vector": [0, 0], "payload": {"text": "a red house", "year": 2024}},
        {"id": "b", "vector": [1, 0], "payload": {"text": "a blue house", "year": 2025}},
        {"id": "c", "vector": [3, 0]},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    await run("create", "pages", 2, "--field", "text=text:english", "--index", "hnsw", "--recall", 0.9)
    assert await run("upsert", "pages", file) == {"collection": "pages", "count": 3}
    return file


async def test_a_collection_is_made_listed_told_of_and_dropped(run: Run, pages: Path) -> None:
    listed = await run("list")
    assert [(each["name"], each["count"]) for each in listed["collections"]] == [("pages", "3")]
    assert "3 vectors" in await run("list", code=0)
    changed = await run("index", "pages", "--index", "ivf", "--small")
    assert (changed["index"]["kind"], changed["index"]["small"]) == ("INDEX_KIND_IVF", True)
    told = await run("stats", "pages")
    assert told["collection"]["fields"]["text"] == {"type": "text", "language": "english"}
    assert told["shards"][0]["count"] == "3"
    for_people = await run("stats", "pages", code=0)
    assert "ivf" in for_people
    assert re.search(r"year +integer +2", for_people)
    assert await run("drop", "pages") == {"dropped": "pages"}
    assert "there is no collection 'pages'" in await run("stats", "pages", code=66)


async def test_vectors_are_found_by_a_vector_by_words_and_by_example(run: Run, pages: Path) -> None:
    assert [each["id"] for each in await run("search", "pages", "--vector", "0.9,0", "-k", 2)] == ["b", "a"]
    only = json.dumps({"field": "year", "range": {"lt": 2025}})
    assert [each["id"] for each in await run("search", "pages", "--vector", "0.9,0", "--filter", only)] == ["a"]
    assert [each["id"] for each in await run("search", "pages", "--text", "blue houses", "-k", 1)] == ["b"]
    assert [each["id"] for each in await run("search", "pages", "--like", "b", "-k", 1)] == ["a"]
    assert "blue house" in await run("search", "pages", "--text", "blue", "--vector", "0,0", code=0)


@pytest.fixture
async def passages(run: Run, tmp_path: Path) -> Path:
    """A collection of two documents of two passages each."""
    file = tmp_path / "passages.jsonl"
    lines = [
        {"id": f"{document}-{at}", "vector": vector, "payload": {"document": document, "at": at}}
        for document, vectors in {"one": [[0, 0], [9, 9]], "two": [[1, 0], [0, 2]]}.items()
        for at, vector in enumerate(vectors)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    await run("import", "passages", file, "--field", "document=keyword")
    return file


async def test_groups_are_found_by_one_vector_and_by_several(run: Run, passages: Path, tmp_path: Path) -> None:
    near = ("search", "passages", "--vector", "0.9,0", "--group-by", "document")
    found = await run(*near, "--group-size", 2)
    assert [(each["value"], [one["id"] for one in each["found"]]) for each in found] == [
        ("two", ["two-0", "two-1"]),
        ("one", ["one-0", "one-1"]),
    ]
    assert [each["value"] for each in await run(*near, "-k", 1)] == ["two"]
    assert re.search(r"two +two-0 +0.01 ", await run(*near, code=0))
    np.save(tmp_path / "queries.npy", np.array([[0, 0], [9, 8]], np.float32))
    several = ("search", "passages", "--multi", tmp_path / "queries.npy", "--by", "document")
    assert [(each["value"], each["score"]) for each in await run(*several)] == [("one", -1.0), ("two", -118.0)]
    assert re.search(r"document +score +id +distance", await run(*several, code=0))
    np.save(tmp_path / "queries.npy", np.zeros((65, 2), np.float32))
    assert "queries.npy has more than 64 vectors, the most of one query" in await run(*several, code=65)


async def test_the_first_and_the_last_by_a_field_are_given(run: Run, passages: Path) -> None:
    by_document = ("get", "passages", "-k", 2, "--order-by", "document")
    assert {each["payload"]["document"] for each in await run(*by_document)} == {"one"}
    assert {each["payload"]["document"] for each in await run(*by_document, "--descending")} == {"two"}


async def test_vectors_are_read_counted_and_removed(run: Run, pages: Path) -> None:
    assert (await run("get", "pages", "b"))[0]["vector"] == [1.0, 0.0]
    assert [each["id"] for each in await run("get", "pages", "-k", 2)] == ["a", "b"]
    assert "pages has no nobody" in await run("get", "pages", "a", "nobody", code=66)
    assert await run("count", "pages", "--by", "year") == [{"value": 2024, "count": 1}, {"value": 2025, "count": 1}]
    only = json.dumps({"field": "year", "exists": True})
    assert await run("count", "pages", "--filter", only) == {"count": 2}
    assert (await run("delete", "pages", "--filter", only))["count"] == 2
    assert await run("count", "pages") == {"count": 1}


@pytest.mark.parametrize("form", ["jsonl", "npy", "parquet"])
@pytest.mark.parametrize("element", ["float32", "uint8", "binary"])
async def test_what_is_exported_is_imported_again(
    run: Run, house: House, tmp_path: Path, form: str, element: str
) -> None:
    await house.vectors.create("first", 16, metric="hamming" if element == "binary" else "l2", element=element)
    rows = np.random.default_rng(1).integers(0, 2, (20, 16))
    sent = rows.astype(bool) if element == "binary" else rows.astype(element)
    names, payloads = [f"n{number}" for number in range(20)], [{"number": number} for number in range(20)]
    await house.vectors.write("first", names, sent, payloads)
    file = tmp_path / f"first.{form}"
    assert await run("export", "first", file) == {"file": str(file), "count": 20}
    more = ["--metric", "hamming"] if element == "binary" else []
    assert await run("import", "second", file, "--element", element, *more) == {"collection": "second", "count": 20}
    first, second = await house.vectors.get("first", names), await house.vectors.get("second", names)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert (first.ids, first.payloads) == (second.ids, second.payloads)


async def test_columns_of_a_file_are_fields_of_payloads(run: Run, tmp_path: Path) -> None:
    columns = {
        "id": [1, 2],
        "vector": [[0.0, 1.0], [1.0, 0.0]],
        "year": [2024, None],
        "at": [datetime(2026, 1, 31, 12, tzinfo=UTC)] * 2,
        "tags": [["new"], []],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "some.parquet")
    await run("import", "some", tmp_path / "some.parquet", "--field", "tags=keyword")
    found = {each["id"]: each["payload"] for each in await run("get", "some")}
    at = "2026-01-31T12:00:00+00:00"
    assert found == {"1": {"year": 2024, "at": at, "tags": ["new"]}, "2": {"at": at, "tags": []}}


async def test_what_cannot_be_written_is_told_with_its_place_in_the_file(run: Run, tmp_path: Path) -> None:
    rows = np.ones((3000, 4), np.float32)
    rows[2500, 0] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    told = await run("import", "some", tmp_path / "rows.npy", code=65)
    assert "rows.vectors[452]: holds a number that is not finite; behind the first 2,048 vectors of" in told
    assert await run("count", "some") == {"count": 2048}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"id": "a", "vector": [1, 2]}, {"id": "b", "vector": [1]}], "has 2 numbers in its first row and 1 in row 1"),
        ([{"id": "a", "vector": "near"}], "vectors: holds texts, which are no numbers"),
        ([{"id": "a", "vector": [None, 1]}], "vectors: holds nulls, objects or other things, which are no numbers"),
        ([{"id": "a", "vector": []}], "rows.vectors: has 0 bytes (4 to a number); the collection needs 2"),
        (
            [{"id": "a", "vector": [1, 2], "payload": {"text": "x" * 2**20}}],
            "has more than 1,048,576 characters, and",
        ),
        ([{"_id": "a", "embedding": [1, 2]}], 'wrong.jsonl is not {"id": ...'),
    ],
)
async def test_a_file_that_is_no_vectors_is_told_what_is_wrong(
    run: Run, pages: Path, tmp_path: Path, lines: list[object], message: str
) -> None:
    file = tmp_path / "wrong.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert message in await run("upsert", "pages", file, code=65)


async def test_where_nothing_is_found_a_field_that_nothing_has_is_named(run: Run, pages: Path) -> None:
    told = await run("search", "pages", "--text", "house", "--in", "txet", code=0)
    assert "no payload of pages has a field txet; they have text, year" in told
    only = json.dumps({"and": [{"field": "yeer", "eq": 1}, {"not": {"field": "text", "eq": "x"}}]})
    assert "has a field yeer" in await run("search", "pages", "--like", "a", "--filter", only, code=0)


async def test_distances_have_their_points_below_each_other(run: Run, pages: Path) -> None:
    found = await run("search", "pages", "--vector", "0.9,0", code=0)
    assert re.findall(r"^([abc]) +(\S+)", found, re.MULTILINE) == [("b", "0.01"), ("a", "0.81"), ("c", "4.41")]
    whole = await run("search", "pages", "--vector", "0,0", code=0)
    assert re.findall(r"^([abc]) +(\S+)", whole, re.MULTILINE) == [("a", "0"), ("b", "1"), ("c", "9")]


async def test_where_nothing_is_found_that_is_said(run: Run, pages: Path) -> None:
    none = json.dumps({"field": "year", "eq": 1999})
    for arguments in (
        ("search", "pages", "--vector", "1,2", "--filter", none),
        ("search", "pages", "--vector", "1,2", "--by", "year", "--filter", none),
        ("get", "pages", "--filter", none),
        ("count", "pages", "--by", "year", "--filter", none),
    ):
        assert await run(*arguments, code=0) == "nothing is found\n"
        assert await run(*arguments) == []
    told = await run("get", "pages", "--order-by", "yeer", code=0)
    assert "no payload of pages has a field yeer" in told
    assert "yeer" not in await run("get", "pages", "--order-by", "year", code=0)


async def test_ids_that_are_removed_need_not_have_been_there(run: Run, pages: Path) -> None:
    assert await run("delete", "pages", "nobody", code=0) == "1 id is no longer in pages\n"
    assert await run("delete", "pages", "a", "b", code=0) == "2 ids are no longer in pages\n"


async def test_the_shape_of_a_collection_is_told(run: Run) -> None:
    told = await run("create", "wide", 768, "--metric", "cosine", "--shards", 2, "--index", "hnsw", "--small", code=0)
    assert told == ("wide: 0 vectors of 768 numbers, float32 by cosine, index hnsw for recall 0.95, small, 2 shards\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "pages", "--vector", "1,2", "-k", 0),
        ("search", "pages", "--vector", "1,2", "-k", 10**14),
        ("search", "pages", "--vector", "1,2", "--effort", -1),
        ("search", "pages", "--vector", "1,2", "--by", "year", "--group-size", 0),
        ("get", "pages", "-k", -3),
        ("count", "pages", "--by", "year", "--limit", 0),
        ("create", "new", 0),
        ("create", "new", 3, "--recall", 2),
        ("create", "new", 3, "--shards", 0),
        ("create", "new", 3, "--replicas", 9),
        ("index", "pages", "--recall", 0.1),
        ("bench", "pages", "-k", 0),
    ],
)
async def test_a_number_beyond_its_bounds_is_refused_with_them(
    run: Run, pages: Path, arguments: tuple[Any, ...]
) -> None:
    told = re.sub(r"[│\s]+", " ", await run(*arguments, code=2))
    assert " than or equal to " in told


@pytest.mark.parametrize(
    ("command", "option", "most"),
    [
        ("create", "dimension", DIMENSION_MAX),
        ("create", "shards", SHARDS_MAX),
        ("create", "replicas", REPLICAS_MAX),
        ("search", "limit", LIMIT_MAX),
        ("search", "effort", CANDIDATES_MAX),
        ("search", "group_size", GROUP_SIZE_MAX),
        ("get", "limit", LIMIT_MAX),
        ("count", "limit", LIMIT_MAX),
        ("bench", "limit", LIMIT_MAX),
        ("bench", "efforts", CANDIDATES_MAX),
    ],
)
def test_a_command_takes_as_much_as_the_service(command: str, option: str, most: int) -> None:
    assert param_of(command, option).max == most


def test_a_query_has_as_many_vectors_as_the_service_takes() -> None:
    assert MULTI_MAX == QUERY_VECTORS_MAX


def test_the_wish_that_is_not_told_is_the_services() -> None:
    assert param_of("create", "recall").default == RECALL_DEFAULT


async def test_the_benchmark_tells_recall_and_speed(run: Run, pages: Path) -> None:
    (told,) = await run("bench", "pages", "-k", 2, "--count", 3)
    assert told["recall"] == 1.0
    assert told["latency_ms_p99"] >= told["latency_ms_p50"] > 0
    assert "recall@2" in await run("bench", "pages", "--queries", pages, "-k", 2, "--effort", 50, code=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search", "pages"), "--vector: must be told, or --like, or --text"),
        (("search", "pages", "--vector", "1,2", "--like", "a"), "--vector: goes together with --text alone"),
        (("search", "pages", "--unlike", "a"), "--unlike: needs --like"),
        (("search", "pages", "--multi", "none.npy"), "--group-by: is missing"),
        (("search", "pages", "--multi", "none.npy", "--by", "text"), "file: none.npy cannot be read"),
        (("search", "pages", "--text", "a", "--by", "text"), "--group-by: goes with --vector or --multi alone"),
        (("search", "pages", "--vector", "1,2", "--group-size", 2), "--group-size: goes with --vector and --group-by"),
        (("search", "pages", "--vector", "a,b"), "--vector: must be numbers with commas"),
        (("search", "pages", "--vector", "@none.json"), "--vector: none.json cannot be read: No such file"),
        (("search", "pages", "--vector", "@/dev/null"), "--vector: must be numbers with commas, or @FILE"),
        (("search", "pages", "--vector", "nan,1"), "vectors[0]: holds a number that is not finite"),
        (("search", "pages", "--vector", "1,2,3"), "has 3 numbers; the collection needs 2"),
        (("search", "pages", "--vector", "1,2", "--filter", '{"must": []}'), "has 'must'; known are and, or, not"),
        (
            ("search", "pages", "--vector", "1,2", "--filter", '{"field": "year", "eq": {"a": 1}}'),
            "options.filter.eq: must be a text, a number, true or false",
        ),
        (("search", "pages", "--vector", "1,2", "--filter", "[]"), "--filter: must be an object"),
        (("search", "pages", "--vector", "1,2", "--filter", "{"), "--filter: is no JSON"),
        (("create", "new", 3, "--metric", "far"), "metric: 'far' is unknown; known are l2, cosine"),
        (("create", "new", 3, "--field", "text"), "--field: 'text' is not NAME=TYPE"),
        (("upsert", "pages", "pages.csv"), "file: pages.csv must end with .jsonl, .npy or .parquet"),
        (("upsert", "pages", "none.jsonl"), "file: none.jsonl cannot be read: No such file"),
        (("restore", "pages", "new"), "--snapshot: must be told, or --at"),
        (("restore", "pages", "new", "--at", "monday"), "--at: 'monday' is no time"),
        (("snapshot", "pages"), "keeps no snapshots"),
    ],
)
async def test_what_is_wrong_is_told_in_one_sentence(
    run: Run, pages: Path, arguments: tuple[object, ...], message: str
) -> None:
    assert message in await run(*arguments, code=65)


def param_of(command: str, option: str) -> Any:
    told: Any = typer.main.get_command(commands())
    return next(each for each in told.commands["vectors"].commands[command].params if each.name == option)


def commands() -> typer.Typer:
    app = typer.Typer()
    vectors.register(app)
    app.command("other")(lambda: None)
    return app
