"""`ergonaut vectors upsert`, `import` and `export`: vectors from files and into them.

Files are JSON lines ({"id", "vector", "payload"}), NumPy's `.npy` with one vector a row, or Parquet with the columns id, vector
and payload, of JSON; without the last all further columns are fields of payloads. Beside an .npy, ids stand in `NAME.ids.jsonl`
and payloads in `NAME.payloads.jsonl`, where there are any.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.cli.output import ask, err, out, print_json, telling_errors
from ergonaut.cli.vectors_options import Element, Fields, FilterText, JsonFlag, Metric, Name, fields_told, filter_told
from ergonaut.client import AsyncClient
from ergonaut.client.vectors import Ask, Filter, Points
from ergonaut.client.vectors.arrays import numpy
from ergonaut.errors import ErgonautError, Refused

File = Annotated[Path, typer.Argument(help="A .jsonl, .npy or .parquet file.")]

ROWS_AT_ONCE = 1024
"""Rows of one batch: as many as the service takes, read and sent while the next ones are read."""

LINE_BYTES_MAX = 1024 * 1024
"""A line of JSON holds one vector; a longer one is some other file."""


class Part(NamedTuple):
    """Rows of a file."""

    ids: list[str]
    vectors: Any
    payloads: list[dict[str, Any]]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("upsert")(upsert)
    app.command("import")(import_)
    app.command("export")(export)


def upsert(name: Name, file: File, as_json: JsonFlag = False) -> None:
    """Write the vectors of a file; those whose ids are there are written over.

    Example: ergonaut vectors upsert pages pages.jsonl
    """
    with telling_errors():
        _tell(ask(lambda client: _written(client, name, file, quiet=as_json)), name, as_json=as_json)


def import_(
    name: Name,
    file: File,
    metric: Metric = "l2",
    element: Element = "float32",
    fields: Fields = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a collection of a file, with as many dimensions as its first vector has.

    What ended early is begun again by the same command: what is written already stays as it is.

    Example: ergonaut vectors import pages pages.parquet --metric cosine --field title=text:english
    """
    with telling_errors():
        declared = fields_told(fields or [])
        first = next(parts_of(file), None)
        if first is None:
            raise Refused(f"{file} has no vectors", field="file")
        width = len(first.vectors[0]) * (8 if element == "binary" else 1)

        async def asked(client: AsyncClient) -> int:
            await client.vectors.create(name, width, metric=metric, element=element, fields=declared)
            return await _written(client, name, file, quiet=as_json)

        _tell(ask(asked), name, as_json=as_json)


def export(
    name: Name,
    file: File,
    only: FilterText = "",
    as_json: JsonFlag = False,
) -> None:
    """Write a collection into a file; it appears whole or not at all.

    Example: ergonaut vectors export pages pages.parquet
    """
    with telling_errors():
        _check_form(file)
        wanted = filter_told(only)
        count = ask(lambda client: _exported(client, name, file, wanted, quiet=as_json))
        told = {"file": str(file), "count": count}
        print_json(told) if as_json else out.print(f"{file}: {count:,} vectors", markup=False, soft_wrap=True)


def parts_of(file: Path) -> Iterator[Part]:
    """The rows of a file, batch by batch. Raises Refused."""
    _check_form(file)
    try:
        if file.suffix == ".npy":
            yield from _from_npy(file)
        elif file.suffix == ".parquet":
            yield from _from_parquet(file)
        else:
            yield from _from_lines(file)
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror or error}", field="file") from error


def queries_of(file: Path, most: int, *, option: str) -> Any:
    """The vectors of a file, the first so many, as a matrix. Raises Refused."""
    np = numpy()
    rows: list[Any] = []
    for part in parts_of(file):
        rows.append(np.asarray(part.vectors))
        if sum(map(len, rows)) >= most:
            break
    if not rows:
        raise Refused(f"{file} has no vectors", field=option)
    return np.concatenate(rows)[:most]


async def _written(client: AsyncClient, name: str, file: Path, *, quiet: bool) -> int:
    count = 0
    packed = (await client.vectors.describe(name)).collection.element == pb.ELEMENT_BINARY
    try:
        with _progress(quiet=quiet) as progress:
            task = progress.add_task(f"writing to {name}", total=_rows_of(file))
            parts = (part._replace(vectors=_bytes(part.vectors)) if packed else part for part in parts_of(file))
            async for written in client.vectors.write_many(name, parts):
                count += written.count
                progress.update(task, completed=count)
    except ErgonautError as error:
        if not count:
            raise
        # Places in a batch are told from its first vector, which is the first that was not acknowledged.
        raise type(error)(f"{error}; behind the first {count:,} vectors of {file}, which are written") from error
    except asyncio.CancelledError:
        err.print(f"at least {count:,} vectors are written to {name}; the same command goes on", markup=False)
        raise
    return count


def _rows_of(file: Path) -> int | None:
    """How many vectors a file has, where that can be told without reading it."""
    if file.suffix == ".npy":
        return len(numpy().load(file, mmap_mode="r", allow_pickle=False))
    return int(_pyarrow().read_metadata(file).num_rows) if file.suffix == ".parquet" else None


async def _exported(client: AsyncClient, name: str, file: Path, only: Filter | None, *, quiet: bool) -> int:
    how = Ask(filter=only, payloads=True, vectors=True)
    total = await client.vectors.count(name, how)
    unfinished = file.with_name(f"{file.name}.unfinished")
    count = 0
    try:
        with _progress(quiet=quiet) as progress, _writer(file, unfinished) as writer:
            task = progress.add_task(f"reading {name}", total=total)
            async for page in client.vectors.pages(name, ask=how):
                writer.write(page)
                count += len(page.ids)
                progress.update(task, completed=count)
        unfinished.replace(file)
    except OSError as error:
        raise Refused(f"{file} cannot be written: {error.strerror or error}", field="file") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def _bytes(vectors: Any) -> Any:
    """Packed bits, which JSON has as whole numbers."""
    return numpy().asarray(vectors).astype("u1", copy=False)


class _Lines:
    """Writes JSON lines."""

    def __init__(self, unfinished: Path) -> None:
        self._file = unfinished.open("w", encoding="utf-8")

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, page: Points) -> None:
        vectors = page.vectors.tolist() if page.vectors is not None else []
        for name, vector, payload in zip(page.ids, vectors, page.payloads, strict=True):
            told = {"id": name, "vector": vector, "payload": payload}
            self._file.write(json.dumps(told, ensure_ascii=False) + "\n")


class _Parquet:
    """Writes Parquet, a row group for each page."""

    def __init__(self, unfinished: Path) -> None:
        self._parquet = _pyarrow()
        self._unfinished = unfinished
        self._writer: Any = None

    def __enter__(self) -> "_Parquet":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is None:
            self.write(Points([], numpy().empty((0, 1), "f4")))
        self._writer.close()

    def write(self, page: Points) -> None:
        import pyarrow

        assert page.vectors is not None, "vectors were asked for"
        width = page.vectors.shape[1]
        flat = pyarrow.array(page.vectors.reshape(-1))
        table = pyarrow.table(
            {
                "id": pyarrow.array(page.ids, pyarrow.string()),
                "vector": pyarrow.FixedSizeListArray.from_arrays(flat, width),
                "payload": pyarrow.array(
                    [json.dumps(each, ensure_ascii=False) for each in page.payloads], pyarrow.string()
                ),
            }
        )
        if self._writer is None:
            self._writer = self._parquet.ParquetWriter(self._unfinished, table.schema)
        self._writer.write_table(table)


class _Npy:
    """Writes .npy, with ids and payloads beside it; pages are held until the end, for the file begins with their number."""

    def __init__(self, file: Path, unfinished: Path) -> None:
        self._file = file
        self._unfinished = unfinished
        self._pages: list[Points] = []

    def __enter__(self) -> "_Npy":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return
        np = numpy()
        vectors = [page.vectors for page in self._pages if page.vectors is not None]
        with self._unfinished.open("wb") as file:
            np.save(file, np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32))
        ids = [json.dumps(name, ensure_ascii=False) for page in self._pages for name in page.ids]
        payloads = [json.dumps(each, ensure_ascii=False) for page in self._pages for each in page.payloads]
        _beside(self._file, "ids.jsonl").write_text("".join(f"{line}\n" for line in ids), encoding="utf-8")
        _beside(self._file, "payloads.jsonl").write_text("".join(f"{line}\n" for line in payloads), encoding="utf-8")

    def write(self, page: Points) -> None:
        self._pages.append(page)


def _writer(file: Path, unfinished: Path) -> "_Lines | _Parquet | _Npy":
    if file.suffix == ".npy":
        return _Npy(file, unfinished)
    return _Parquet(unfinished) if file.suffix == ".parquet" else _Lines(unfinished)


def _from_lines(file: Path) -> Iterator[Part]:
    with file.open(encoding="utf-8") as lines:
        number = 0
        while some := list(islice(lines, ROWS_AT_ONCE)):
            told = [_line(line, number + at) for at, line in enumerate(some, 1)]
            number += len(some)
            yield Part(
                [str(each["id"]) for each in told],
                [each["vector"] for each in told],
                [each.get("payload") or {} for each in told],
            )


def _line(line: str, number: int) -> dict[str, Any]:
    if len(line) > LINE_BYTES_MAX:
        raise Refused(f"line {number} has {len(line):,} characters; at most {LINE_BYTES_MAX:,} are taken", field="file")
    try:
        told = json.loads(line)
    except ValueError as error:
        raise Refused(f"line {number} is no JSON: {error}", field="file") from error
    if not isinstance(told, dict) or not {"id", "vector"} <= told.keys():
        raise Refused(f'line {number} is not {{"id": ..., "vector": [...], "payload": {{...}}}}', field="file")
    return told


def _from_npy(file: Path) -> Iterator[Part]:
    np = numpy()
    try:
        rows = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise Refused(f"{file} is no .npy of numbers: {error}", field="file") from error
    if rows.ndim != 2:
        raise Refused(f"{file} has {rows.ndim} dimensions; one row for each vector is needed", field="file")
    ids = _told_beside(file, "ids.jsonl", len(rows)) or [str(number) for number in range(len(rows))]
    payloads = _told_beside(file, "payloads.jsonl", len(rows))
    for first in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        yield Part([str(name) for name in ids[part]], rows[part], list(payloads[part]))


def _from_parquet(file: Path) -> Iterator[Part]:
    parquet = _pyarrow()
    np = numpy()
    reader = parquet.ParquetFile(file)
    if not {"id", "vector"} <= set(reader.schema_arrow.names):
        raise Refused(f"{file} has the columns {reader.schema_arrow.names}; id and vector are needed", field="file")
    for batch in reader.iter_batches(batch_size=ROWS_AT_ONCE):
        if not batch.num_rows:
            continue
        vectors = batch.column("vector").flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
        ids = [str(name) for name in batch.column("id").to_pylist()]
        yield Part(ids, np.ascontiguousarray(vectors), _payloads_of(batch))


def _payloads_of(batch: Any) -> list[dict[str, Any]]:
    """What the columns beside id and vector say of each row; times as RFC 3339 has them."""
    if "payload" in batch.schema.names:
        return [json.loads(text) if text else {} for text in batch.column("payload").to_pylist()]
    rows = batch.drop_columns(["id", "vector"]).to_pylist() if batch.num_columns > 2 else []
    return [{name: _told(value) for name, value in row.items() if value is not None} for row in rows]


def _told(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return str(value) if isinstance(value, date | Decimal) else value


def _told_beside(file: Path, ending: str, count: int) -> Sequence[Any]:
    path = _beside(file, ending)
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        told = [json.loads(line) for line in lines]
    if len(told) != count:
        raise Refused(f"{path} has {len(told)} lines for {count} vectors", field="file")
    return told


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(f"{file.stem}.{ending}")


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise Refused("Parquet needs pyarrow: pip install 'ergonaut[parquet]'", field="file") from error
    return pyarrow.parquet


def _check_form(file: Path) -> None:
    if file.suffix not in (".jsonl", ".npy", ".parquet"):
        raise Refused(f"{file} must end with .jsonl, .npy or .parquet", field="file")


def _progress(*, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True)


def _tell(count: int, name: str, *, as_json: bool) -> None:
    print_json({"collection": name, "count": count}) if as_json else out.print(
        f"{count:,} vectors written to {name}", markup=False
    )
