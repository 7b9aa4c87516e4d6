"""Rows of vectors in files, read and written batch by batch: JSON lines, NumPy's `.npy` and Parquet. `vectors_files.py` says what
stands where in each, and calls this.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from ergonaut.client.vectors import Points
from ergonaut.client.vectors.arrays import numpy
from ergonaut.errors import Refused
from ergonaut.integrations.figures import written_whole

ROWS_AT_ONCE = 1024
"""Rows of one batch: as many as the service takes, read and sent while the next ones are read."""

LINE_CHARACTERS_MAX = 1024 * 1024
"""A line of JSON holds one vector; a longer one is some other file."""


class Part(NamedTuple):
    """Rows of a file."""

    ids: list[str]
    vectors: Any
    payloads: list[dict[str, Any]]


def parts_of(file: Path) -> Iterator[Part]:
    """The rows of a file, batch by batch, one at least. Raises Refused."""
    check_form(file)
    read = {".jsonl": _from_lines, ".parquet": _from_parquet, ".npy": _from_npy}[file.suffix]
    is_empty = True
    with _telling(file):
        for part in read(file):
            yield part
            is_empty = False
    if is_empty:
        raise Refused(f"{file} has no vectors", field="file")


def count_of(file: Path) -> int | None:
    """How many vectors a file has, where that can be told without reading it. Raises Refused."""
    with _telling(file):
        if file.suffix == ".npy":
            return len(_matrix_in(file))
        return int(_pyarrow().read_metadata(file).num_rows) if file.suffix == ".parquet" else None


@contextlib.contextmanager
def writing(file: Path) -> "Iterator[Lines | Parquet | Npy]":
    """What takes pages and makes the file of them; it appears when the block ends, and where that fails nothing does."""
    files = [file]
    if file.suffix == ".npy":
        files += [_beside(file, "ids.jsonl"), _beside(file, "payloads.jsonl")]
    with contextlib.ExitStack() as stack:
        # Left last first, so that the file itself takes its place when what stands beside it has.
        drafts = [stack.enter_context(written_whole(each)) for each in files]
        writers: dict[str, Any] = {".jsonl": Lines, ".parquet": Parquet, ".npy": Npy}
        with writers[file.suffix](*drafts) as writer:
            yield writer
        if len(files) > 1:
            # Who is killed while names change leaves no vectors beside the ids of others.
            file.unlink(missing_ok=True)


def check_form(file: Path) -> None:
    """Raise Refused unless a file's name says in which form it is."""
    if file.suffix not in (".jsonl", ".npy", ".parquet"):
        raise Refused(f"{file} must end with .jsonl, .npy or .parquet", field="file")


@contextlib.contextmanager
def _telling(file: Path) -> Iterator[None]:
    """Say of which file it is that libraries and the system complain; they raise ValueError of whatever is no such file."""
    try:
        yield
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror or error}", field="file") from error
    except ValueError as error:
        raise Refused(f"{file} cannot be read: {error}", field="file") from error


def _from_lines(file: Path) -> Iterator[Part]:
    lines = _lines(file)
    while some := list(islice(lines, ROWS_AT_ONCE)):
        told = [_row(value, f"line {number} of {file}") for number, value in some]
        yield Part(
            [str(each["id"]) for each in told], [each["vector"] for each in told], [_payload_in(each) for each in told]
        )


def _lines(file: Path) -> Iterator[tuple[int, Any]]:
    """The value of each line and its number; lines of white space alone say nothing."""
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(iter(partial(lines.readline, LINE_CHARACTERS_MAX + 1), ""), 1):
            if len(line) > LINE_CHARACTERS_MAX:
                most = f"{LINE_CHARACTERS_MAX:,} characters, and holds no vector"
                raise Refused(f"line {number} of {file} has more than {most}", field="file")
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError as error:
                    raise Refused(f"line {number} of {file} is no JSON: {error}", field="file") from error


def _row(told: Any, where: str) -> dict[str, Any]:
    if not isinstance(told, dict) or not {"id", "vector"} <= told.keys() or told["id"] is None:
        raise Refused(f'{where} is not {{"id": ..., "vector": [...], "payload": {{...}}}}', field="file")
    return told


def _payload_in(told: dict[str, Any]) -> dict[str, Any]:
    if "payload" in told:
        return told["payload"] or {}
    return {name: value for name, value in told.items() if name not in ("id", "vector")}


def _from_npy(file: Path) -> Iterator[Part]:
    rows = _matrix_in(file)
    told, payloads = _told_beside(file, "ids.jsonl", len(rows)), _told_beside(file, "payloads.jsonl", len(rows))
    ids = iter(range(len(rows))) if told is None else told
    for first in range(0, len(rows), ROWS_AT_ONCE):
        names = [str(name) for name in islice(ids, ROWS_AT_ONCE)]
        yield Part(names, rows[first : first + ROWS_AT_ONCE], list(islice(payloads or (), ROWS_AT_ONCE)))


def _matrix_in(file: Path) -> Any:
    rows = numpy().lib.format.open_memmap(file, mode="r")
    if rows.ndim != 2:
        raise Refused(f"{file} has {rows.ndim} dimensions; one row for each vector is needed", field="file")
    return rows


def _told_beside(file: Path, ending: str, count: int) -> Iterator[Any] | None:
    """What stands beside an .npy, a line for each of its rows; read as it is asked for, since it may be large."""
    path = _beside(file, ending)
    if not path.exists():
        return None
    told = sum(1 for _ in _lines(path))
    if told != count:
        raise Refused(f"{path} has {told} lines for {count} vectors", field="file")
    return (value for _, value in _lines(path))


def _from_parquet(file: Path) -> Iterator[Part]:
    with _pyarrow().ParquetFile(file) as reader:
        if not {"id", "vector"} <= set(reader.schema_arrow.names):
            raise Refused(f"{file} has the columns {reader.schema_arrow.names}; id and vector are needed", field="file")
        first = 0
        for batch in reader.iter_batches(batch_size=ROWS_AT_ONCE):
            if batch.num_rows:
                where = f"{file}, rows {first:,} to {first + batch.num_rows - 1:,}"
                if batch.column("id").null_count:
                    raise Refused(f"{where}: one has no id", field="file")
                ids = [str(name) for name in batch.column("id").to_pylist()]
                yield Part(ids, _vectors_in(batch.column("vector"), where), _payloads_of(batch))
                first += batch.num_rows


def _vectors_in(column: Any, where: str) -> Any:
    """The matrix of a column of lists, all of which must have as many numbers."""
    import pyarrow.compute

    kinds = pyarrow.types
    if not any(is_such(column.type) for is_such in (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list)):
        raise Refused(f"{where}: vectors are of the type {column.type}; lists of numbers are needed", field="file")
    if column.null_count:
        raise Refused(f"{where}: one has no vector", field="file")
    widths = pyarrow.compute.list_value_length(column).unique().to_pylist()
    if len(widths) > 1:
        raise Refused(f"{where}: one vector has {widths[0]} numbers and another {widths[1]}", field="file")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return numpy().ascontiguousarray(flat.reshape(len(column), -1))


def _payloads_of(batch: Any) -> list[dict[str, Any]]:
    """What the columns beside id and vector say of each row; times as RFC 3339 has them."""
    if "payload" in batch.schema.names:
        told = batch.column("payload").to_pylist()
        return [json.loads(each) if each and isinstance(each, str | bytes) else _fields(each or {}) for each in told]
    rows = batch.drop_columns(["id", "vector"]).to_pylist() if batch.num_columns > 2 else []
    return [_fields(row) for row in rows]


def _fields(row: Any) -> Any:
    """A row's values under their names, without those that are missing."""
    told = _as_json(row)
    return {name: value for name, value in told.items() if value is not None} if isinstance(told, dict) else told


def _as_json(value: Any) -> Any:
    """A value as JSON has it, which knows of no time and of nothing that is not a number."""
    if isinstance(value, dict):
        return {name: _as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, float) and math.isnan(value):
        return None
    return str(value) if isinstance(value, date | time | Decimal | UUID) else value


class Lines:
    """Writes JSON lines."""

    def __init__(self, draft: Path) -> None:
        self._file = draft.open("w", encoding="utf-8")

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, page: Points) -> None:
        """Write a page of points."""
        vectors = page.vectors.tolist() if page.vectors is not None else []
        for name, vector, payload in zip(page.ids, vectors, page.payloads, strict=True):
            self._file.write(_line({"id": name, "vector": vector, "payload": payload}))


class Parquet:
    """Writes Parquet, a row group for each page."""

    def __init__(self, draft: Path) -> None:
        self._parquet = _pyarrow()
        self._draft = draft
        self._writer: Any = None

    def __enter__(self) -> "Parquet":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._writer is None and kind is None:
            self.write(Points([], numpy().empty((0, 1), "f4")))
        if self._writer is not None:
            self._writer.close()

    def write(self, page: Points) -> None:
        """Write a page of points."""
        import pyarrow

        assert page.vectors is not None, "vectors were asked for"
        width = page.vectors.shape[1]
        flat = pyarrow.array(page.vectors.reshape(-1))
        payloads = [json.dumps(each, ensure_ascii=False) for each in page.payloads]
        table = pyarrow.table(
            {
                "id": pyarrow.array(page.ids, pyarrow.string()),
                "vector": pyarrow.FixedSizeListArray.from_arrays(flat, width),
                "payload": pyarrow.array(payloads, pyarrow.string()),
            }
        )
        if self._writer is None:
            self._writer = self._parquet.ParquetWriter(self._draft, table.schema)
        self._writer.write_table(table)


class Npy:
    """Writes .npy, with ids and payloads beside it. It begins with the number of rows, which is told at the end."""

    def __init__(self, draft: Path, ids: Path, payloads: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._file = self._stack.enter_context(draft.open("wb"))
        self._ids, self._payloads = (
            self._stack.enter_context(each.open("w", encoding="utf-8")) for each in (ids, payloads)
        )
        self._empty = numpy().empty((0, 0), numpy().float32)
        self._count = 0

    def __enter__(self) -> "Npy":
        self._begin()
        self._rows_at = self._file.tell()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            if kind is None:
                self._file.seek(0)
                self._begin()
                assert self._file.tell() == self._rows_at, "the first rows were written over"

    def write(self, page: Points) -> None:
        """Write a page of points."""
        assert page.vectors is not None, "vectors were asked for"
        self._empty = page.vectors[:0]
        self._count += len(page.ids)
        self._file.write(page.vectors.tobytes())
        self._ids.writelines(map(_line, page.ids))
        self._payloads.writelines(map(_line, page.payloads))

    def _begin(self) -> None:
        """Say how many rows follow, and of what; NumPy leaves room there for any number, so that what follows stays."""
        written = numpy().lib.format
        kind, shape = written.dtype_to_descr(self._empty.dtype), (self._count, self._empty.shape[1])
        written.write_array_header_1_0(self._file, {"descr": kind, "fortran_order": False, "shape": shape})


def _line(told: Any) -> str:
    return json.dumps(told, ensure_ascii=False) + "\n"


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(f"{file.stem}.{ending}")


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise Refused("Parquet needs pyarrow: pip install 'ergonaut[parquet]'", field="file") from error
    return pyarrow.parquet
