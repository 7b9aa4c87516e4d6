"""`ergonaut vectors upsert`, `import` and `export`: vectors from files and into them.

Files are JSON lines ({"id", "vector", "payload"}), NumPy's `.npy` with one vector a row, or Parquet with the columns id, vector
and payload, of JSON; without the last all further names and columns are fields of payloads. Beside an .npy, ids stand in
`NAME.ids.jsonl` and payloads in `NAME.payloads.jsonl`, where there are any. Bits are packed into bytes, or truths.
"""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.cli.output import ask, err, print_json, tell, telling_errors
from ergonaut.cli.vectors_options import Element, Fields, FilterText, JsonFlag, Metric, Name, fields_told, filter_told
from ergonaut.cli.vectors_rows import check_form, count_of, parts_of, writing
from ergonaut.client import AsyncClient
from ergonaut.client.vectors import Ask, Filter
from ergonaut.client.vectors.arrays import encoded, numpy
from ergonaut.errors import ErgonautError, Refused

File = Annotated[Path, typer.Argument(help="A .jsonl, .npy or .parquet file.")]


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
        width = _dimension_of(next(parts_of(file)).vectors, element)

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
        check_form(file)
        wanted = filter_told(only)
        count = ask(lambda client: _exported(client, name, file, wanted, quiet=as_json))
        told = {"file": str(file), "count": count}
        print_json(told) if as_json else tell(f"{file}: {count:,} vectors")


def queries_of(file: Path, most: int, *, option: str) -> Any:
    """The vectors of a file, the first so many, as a matrix. Raises Refused."""
    np = numpy()
    rows: list[Any] = []
    for part in parts_of(file):
        told = encoded(part.vectors, where=option)
        rows.append(np.asarray(part.vectors) if told.element == pb.ELEMENT_BINARY else told.rows)
        if rows[-1].shape[1] != rows[0].shape[1]:
            raise Refused(f"{file} has vectors of {rows[0].shape[1]} and of {rows[-1].shape[1]} numbers", field=option)
        if sum(map(len, rows)) >= most:
            break
    return np.concatenate(rows)[:most]


def _dimension_of(vectors: Any, element: str) -> int:
    """How many dimensions a collection needs that is to keep these. Raises Refused."""
    rows = encoded(vectors, where="vectors")
    if rows.element == pb.ELEMENT_BINARY:
        if element != "binary":
            raise Refused("holds truths, which are bits; make a collection of them with --element binary", field="file")
        return len(vectors[0])
    return int(rows.rows.shape[1]) * (8 if element == "binary" else 1)


async def fitting(client: AsyncClient, name: str, vectors: Any) -> Any:
    """Vectors in a form in which a collection takes them. Raises Refused."""
    return _fitting(vectors, (await client.vectors.describe(name)).collection.element)


def _fitting(vectors: Any, kept: "pb.Element.ValueType") -> Any:
    """For bits truths are packed, and whole numbers, as which JSON has bytes, are bytes; other numbers may be of any size."""
    told = encoded(vectors, where="vectors")
    if told.element == pb.ELEMENT_BINARY:
        return numpy().asarray(vectors)
    if kept != pb.ELEMENT_BINARY:
        return told.rows if told.element == kept else told.rows.astype("f4", copy=False)
    if told.element == pb.ELEMENT_UINT8:
        return told.rows
    with numpy().errstate(invalid="ignore"):
        packed = told.rows.astype("u1")
    if (packed != told.rows).any():
        raise Refused("holds a number that is no byte of packed bits, 0 to 255", field="vectors")
    return packed


async def _written(client: AsyncClient, name: str, file: Path, *, quiet: bool) -> int:
    count = 0
    kept = (await client.vectors.describe(name)).collection.element
    try:
        with _progress(quiet=quiet) as progress:
            task = progress.add_task(f"writing to {name}", total=count_of(file))
            parts = (part._replace(vectors=_fitting(part.vectors, kept)) for part in parts_of(file))
            async for written in client.vectors.write_many(name, parts):
                count += written.count
                progress.update(task, completed=count)
    except ErgonautError as error:
        if not count:
            raise
        # Places in a batch are told from its first vector, which is the first that was not acknowledged.
        raise type(error)(f"{error}; behind the first {count:,} vectors of {file}, which are written") from error
    except (TypeError, ValueError) as error:
        # Infinity, half a pair of UTF-16, bytes: what files can hold and messages cannot.
        told = f"{file} holds what cannot be sent, behind its first {count:,} vectors: {error}"
        raise Refused(told, field="file") from error
    except asyncio.CancelledError:
        err.print(f"at least {count:,} vectors are written to {name}; the same command goes on", markup=False)
        raise
    return count


async def _exported(client: AsyncClient, name: str, file: Path, only: Filter | None, *, quiet: bool) -> int:
    how = Ask(filter=only, payloads=True, vectors=True)
    total = await client.vectors.count(name, how)
    count = 0
    try:
        with _progress(quiet=quiet) as progress, writing(file) as writer:
            task = progress.add_task(f"reading {name}", total=total)
            async for page in client.vectors.pages(name, ask=how):
                writer.write(page)
                count += len(page.ids)
                progress.update(task, completed=count)
    except OSError as error:
        raise Refused(f"{file} cannot be written: {error.strerror or error}", field="file") from error
    return count


def _progress(*, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True)


def _tell(count: int, name: str, *, as_json: bool) -> None:
    print_json({"collection": name, "count": count}) if as_json else tell(f"{count:,} vectors written to {name}")
