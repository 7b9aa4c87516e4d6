"""Files that `ergonaut vectors` reads and writes, before a real door: what NumPy and pyarrow make of them, and what they may not
hold."""

import json
import resource
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from . import test_cli_vectors as cli
from .catalogues import House

house, run = cli.house, cli.run

COUNT = 2500
"""Vectors of several batches, the last of which is not full."""


async def written(house: House, element: str) -> np.ndarray[Any, Any]:
    """A collection of so many vectors, and their rows as they are kept."""
    metric = "hamming" if element == "binary" else "l2"
    await house.vectors.create("first", 16, metric=metric, element=element)
    rows = np.random.default_rng(1).integers(0, 100, (COUNT, 16))
    sent = rows % 2 == 0 if element == "binary" else rows.astype(element)
    payloads = [{"at": at, "named": "naïve\u2028“”"} if at % 3 else {} for at in range(COUNT)]
    await house.vectors.write("first", [f"n{at}" for at in range(COUNT)], sent, payloads)
    return np.packbits(sent, axis=1, bitorder="little") if element == "binary" else sent


@pytest.mark.parametrize("element", ["float32", "float16", "int8", "binary"])
async def test_numpy_and_pyarrow_read_what_is_exported_and_it_is_imported_again(
    run: cli.Run, house: House, tmp_path: Path, element: str
) -> None:
    rows = await written(house, element)
    for form in ("npy", "parquet", "jsonl"):
        assert (await run("export", "first", tmp_path / f"all.{form}"))["count"] == COUNT
        more = ["--metric", "hamming"] if element == "binary" else []
        assert (await run("import", form, tmp_path / f"all.{form}", "--element", element, *more))["count"] == COUNT
        names = [f"n{at}" for at in range(COUNT - 1024, COUNT)]
        first, again = await house.vectors.get("first", names), await house.vectors.get(form, names)
        np.testing.assert_array_equal(first.vectors, again.vectors)
        assert (first.ids, first.payloads) == (again.ids, again.payloads)
    matrix = np.load(tmp_path / "all.npy")
    ids = [json.loads(line) for line in (tmp_path / "all.ids.jsonl").read_text().split("\n")[:-1]]
    assert matrix.dtype == rows.dtype
    np.testing.assert_array_equal(matrix, rows[[int(name[1:]) for name in ids]])
    table = pyarrow.parquet.read_table(tmp_path / "all.parquet")
    np.testing.assert_array_equal(
        np.stack(table["vector"].to_numpy()), rows[[int(i[1:]) for i in table["id"].to_pylist()]]
    )
    told = dict(zip(table["id"].to_pylist(), map(json.loads, table["payload"].to_pylist()), strict=True))
    assert (told["n0"], told["n1"]) == ({}, {"at": 1, "named": "naïve\u2028“”"})
    assert sorted(each.name for each in tmp_path.glob("all.*")) == [
        "all.ids.jsonl", "all.jsonl", "all.npy", "all.parquet", "all.payloads.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["jsonl", "npy", "parquet"])
async def test_what_is_exported_of_an_empty_collection_is_a_file_without_vectors(
    run: cli.Run, house: House, tmp_path: Path, form: str
) -> None:
    await house.vectors.create("empty", 4)
    file = tmp_path / f"empty.{form}"
    assert (await run("export", "empty", file))["count"] == 0
    assert f"{file} has no vectors" in await run("import", "again", file, code=65)
    assert f"{file} has no vectors" in await run("upsert", "empty", file, code=65)


def with_files_of_at_most(size_bytes: int) -> Callable[[], None]:
    """Let no file of this process grow further, as on a full disk; gives what ends that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("form", ["jsonl", "npy", "parquet"])
async def test_an_export_that_finds_no_room_leaves_what_was_there(
    run: cli.Run, house: House, tmp_path: Path, form: str
) -> None:
    await written(house, "float32")
    folder = tmp_path / "exports"
    folder.mkdir()
    file = folder / f"all.{form}"
    only = json.dumps({"field": "at", "range": {"lt": 100}})
    assert (await run("export", "first", file, "--filter", only))["count"] == 66
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    ended = with_files_of_at_most(40_000)
    try:
        told = await run("export", "first", file, code=65)
    finally:
        ended()
    assert f"{file} cannot be written" in told
    assert "File too large" in told
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


async def test_an_export_onto_a_folder_changes_nothing_beside_it(run: cli.Run, house: House, tmp_path: Path) -> None:
    await written(house, "float32")
    (tmp_path / "all.npy").mkdir()
    (tmp_path / "all.ids.jsonl").write_text('"kept"\n')
    assert "all.npy cannot be written" in await run("export", "first", tmp_path / "all.npy", code=65)
    assert (tmp_path / "all.ids.jsonl").read_text() == '"kept"\n'
    assert not list(tmp_path.glob("all.payloads*"))


async def test_truths_in_a_file_are_bits(run: cli.Run, house: House, tmp_path: Path) -> None:
    truths = np.random.default_rng(2).random((20, 24)) < 0.5
    np.save(tmp_path / "bits.npy", truths)
    lines = [json.dumps({"id": str(at), "vector": row.tolist()}) for at, row in enumerate(truths)]
    (tmp_path / "bits.jsonl").write_text("\n".join(lines))
    pyarrow.parquet.write_table(
        pyarrow.table({"id": [str(at) for at in range(20)], "vector": truths.tolist()}), tmp_path / "bits.parquet"
    )
    for form in ("npy", "jsonl", "parquet"):
        file = tmp_path / f"bits.{form}"
        assert "--element binary" in await run("import", form, file, code=65)
        await run("import", form, file, "--element", "binary", "--metric", "hamming")
        kept = await house.vectors.get(form, [str(at) for at in range(20)])
        np.testing.assert_array_equal(kept.vectors, np.packbits(truths, axis=1, bitorder="little"))
        assert (await house.vectors.describe(form)).collection.dimension == 24


async def test_names_and_columns_beside_id_and_vector_are_fields_whatever_they_hold(
    run: cli.Run, tmp_path: Path
) -> None:
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    columns = {
        "id": [1, 2],
        "vector": [[0.0, 1.0], [1.0, 0.0]],
        "price": [2.5, float("nan")],
        "about": [{"at": at, "of": [at]}, None],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "some.parquet")
    await run("import", "some", tmp_path / "some.parquet")
    found = {each["id"]: each["payload"] for each in await run("get", "some")}
    told = "2026-01-31T12:00:00+00:00"
    assert found == {"1": {"price": 2.5, "about": {"at": told, "of": [told]}}, "2": {}}
    columns = {"id": columns["id"], "vector": columns["vector"], "payload": [{"year": 2026}, None]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "objects.parquet")
    await run("import", "objects", tmp_path / "objects.parquet")
    assert {each["id"]: each["payload"] for each in await run("get", "objects")} == {"1": {"year": 2026}, "2": {}}
    (tmp_path / "some.jsonl").write_text('\ufeff{"id": 7, "vector": [1, 2], "title": "a"}\n\n', encoding="utf-8")
    await run("import", "lines", tmp_path / "some.jsonl")
    assert [(each["id"], each["payload"]) for each in await run("get", "lines")] == [("7", {"title": "a"})]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"vector": [[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]]}, "rows 0 to 2: one vector has 2 numbers and another 1"),
        ({"vector": [[1.0, 2.0], None, [3.0, 4.0]]}, "rows 0 to 2: one has no vector"),
        ({"vector": ["a", "b", "c"]}, "vectors are of the type string; lists of numbers are needed"),
        ({"vector": [[1.0]] * 3, "id": ["a", None, "c"]}, "rows 0 to 2: one has no id"),
        ({"vector": [[1.0]] * 3, "payload": ["{}", "{", ""]}, "cannot be read: Expecting property name"),
        ({"vector": [[1.0]] * 3, "took": [timedelta(1)] * 3}, "holds what cannot be sent, behind its first 0 vectors"),
    ],
)
async def test_a_parquet_file_that_is_no_vectors_is_told_what_is_wrong(
    run: cli.Run, tmp_path: Path, columns: dict[str, Sequence[Any]], message: str
) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a", "b", "c"]} | columns), tmp_path / "wrong.parquet")
    assert message in await run("import", "some", tmp_path / "wrong.parquet", code=65)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"", "a.npy cannot be read: EOF: reading magic string"),
        ("a.npy", b"PK\x03\x04 an archive", "a.npy cannot be read: the magic string is not correct"),
        ("a.parquet", b"no Parquet at all", "a.parquet cannot be read: Parquet magic bytes not found"),
        ("a.jsonl", b'{"id": "a", "vector": [1, 2], "payload": "\xff"}\n', "a.jsonl cannot be read: 'utf-8' codec"),
        ("a.jsonl", b'{"id": null, "vector": [1, 2]}\n', "a.jsonl is not {"),
        ("a.jsonl", b'{"id": "a", "vector": [1, 2], "payload": {"x": NaN}}\n', "a.jsonl holds what cannot be sent"),
        ("a.jsonl", b'{"id": "\\ud800", "vector": [1, 2]}\n', "a.jsonl holds what cannot be sent"),
        ("none.npy", None, "none.npy cannot be read: No such file"),
        ("none.parquet", None, "none.parquet cannot be read"),
    ],
)
async def test_a_file_that_cannot_be_read_is_told_in_one_sentence(
    run: cli.Run, house: House, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    await house.vectors.create("pages", 2)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert message in await run("upsert", "pages", tmp_path / name, code=65)
    if "sent" not in message:
        assert message in await run("bench", "pages", "--queries", tmp_path / name, code=65)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[300, -1]], "vectors: holds a number that is no byte of packed bits, 0 to 255"),
        ([[1.5, 0]], "vectors: holds a number that is no byte of packed bits, 0 to 255"),
        ([[1, 2], [3]], "vectors: has 2 numbers in its first row and 1 in row 1"),
    ],
)
async def test_what_is_no_byte_of_bits_is_not_made_one(
    run: cli.Run, house: House, tmp_path: Path, vectors: list[list[float]], message: str
) -> None:
    await house.vectors.create("bits", 16, metric="hamming", element="binary")
    lines = [json.dumps({"id": str(at), "vector": vector}) for at, vector in enumerate(vectors)]
    (tmp_path / "bits.jsonl").write_text("\n".join(lines))
    assert message in await run("upsert", "bits", tmp_path / "bits.jsonl", code=65)


async def test_what_stands_beside_an_npy_must_fit_it(run: cli.Run, house: House, tmp_path: Path) -> None:
    await house.vectors.create("pages", 2)
    np.save(tmp_path / "a.npy", np.ones((2, 2), np.float32))
    (tmp_path / "a.ids.jsonl").write_text('"x"\n')
    assert "a.ids.jsonl has 1 lines for 2 vectors" in await run("upsert", "pages", tmp_path / "a.npy", code=65)
    (tmp_path / "a.ids.jsonl").write_text('"x"\n"y\n')
    assert "line 2 of" in await run("upsert", "pages", tmp_path / "a.npy", code=65)
    (tmp_path / "a.ids.jsonl").write_text('"x"\n"y"\n')
    assert (await run("upsert", "pages", tmp_path / "a.npy"))["count"] == 2
    assert (await run("get", "pages", "y"))[0]["vector"] == [1.0, 1.0]


async def test_bits_are_searched_by_whole_numbers_and_by_every_file(run: cli.Run, house: House, tmp_path: Path) -> None:
    await house.vectors.create("bits", 16, metric="hamming", element="binary")
    rows = np.array([[1, 2], [255, 0]], np.uint8)
    await house.vectors.write("bits", ["a", "b"], rows, [{"text": name} for name in ("one", "two")])
    found = await run("search", "bits", "--vector", "255,1")
    assert [(each["id"], each["distance"]) for each in found] == [("b", 1.0), ("a", 9.0)]
    assert [each["value"] for each in await run("search", "bits", "--vector", "255,1", "--by", "text")] == [
        "two",
        "one",
    ]
    (found,) = await run("search", "bits", "--text", "two", "--vector", "255,0", "-k", 1)
    assert found["id"] == "b"
    for form in ("jsonl", "npy", "parquet"):
        await run("export", "bits", tmp_path / f"bits.{form}")
        several = await run("search", "bits", "--multi", tmp_path / f"bits.{form}", "--by", "text")
        assert {each["value"] for each in several} == {"one", "two"}
    assert "no byte of packed bits" in await run("search", "bits", "--vector", "1.5,2", code=65)


@pytest.mark.parametrize("kept", ["float32", "float16", "uint8", "int8"])
async def test_numbers_of_any_size_are_written_to_what_can_keep_them(
    run: cli.Run, house: House, tmp_path: Path, kept: str
) -> None:
    rows = np.arange(12).reshape(4, 3)
    for held in ("float64", "float32", "float16", "int64", "uint8", "int8"):
        np.save(tmp_path / f"{held}.npy", rows.astype(held))
        await run("import", held, tmp_path / f"{held}.npy", "--element", kept)
        again = await house.vectors.get(held, ["0", "1", "2", "3"])
        assert again.vectors is not None
        assert again.vectors.dtype == kept
        np.testing.assert_array_equal(again.vectors, rows)


@pytest.mark.parametrize("name", ["whole.jsonl", "truths.npy"])
async def test_bits_are_measured_with_queries_of_a_file(run: cli.Run, house: House, tmp_path: Path, name: str) -> None:
    await house.vectors.create("bits", 16, metric="hamming", element="binary")
    truths = np.random.default_rng(0).integers(0, 2, (20, 16)).astype(bool)
    rows = np.packbits(truths, axis=1, bitorder="little")
    await house.vectors.write("bits", [str(at) for at in range(20)], rows)
    np.save(tmp_path / "truths.npy", truths)
    lines = [json.dumps({"id": str(at), "vector": row}) for at, row in enumerate(rows.tolist())]
    (tmp_path / "whole.jsonl").write_text("\n".join(lines))
    (told,) = await run("bench", "bits", "--queries", tmp_path / name, "-k", 1)
    assert told["recall"] > 0.9
