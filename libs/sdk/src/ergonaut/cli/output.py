"""How the CLI speaks: tables for people, JSON for programs, one clear sentence for errors. Colour only on a terminal."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ergonaut.client import AsyncClient
from ergonaut.errors import Broken, Conflict, ErgonautError, NotAllowed, NotFound, Refused, Unavailable
from ergonaut.faults import in_words

FILE_WIDTH = 160
"""Columns where the output goes to a file or a program; a terminal tells its own."""


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = FILE_WIDTH
    return console


out = _console(stderr=False)
err = _console(stderr=True)

EXIT_UNAVAILABLE = 69
# As in sysexits.h, so that scripts can tell a wrong request from a system that is away.
_EXIT_CODES: tuple[tuple[type[ErgonautError], int], ...] = (
    (NotAllowed, 77),
    (Refused, 65),
    (NotFound, 66),
    (Conflict, 73),
    (Unavailable, EXIT_UNAVAILABLE),
    (Broken, 70),
)
EXIT_JOB_FAILED = 1
EXIT_INTERRUPTED = 130

T = TypeVar("T")

JSON_OPTION = typer.Option("--json", help="Print JSON for programs instead of tables for people.")


@contextlib.contextmanager
def telling_errors() -> Iterator[None]:
    """End the command with one clear sentence and an exit code when something fails within the block."""
    try:
        yield
    except ErgonautError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        code = next(code for kind, code in _EXIT_CODES if isinstance(error, kind))
        raise typer.Exit(code) from error
    except ValidationError as error:
        err.print(f"[bold red]error:[/] {escape(in_words(error))}", soft_wrap=True)
        raise typer.Exit(65) from error
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def ask(question: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """What the system answers to a question."""

    async def answered() -> T:
        async with AsyncClient() as client:
            return await question(client)

    return asyncio.run(answered())


def write_file(path: Path, text: str, *, option: str) -> None:
    """Write a file that an option names. Raises Refused where that cannot be."""
    try:
        path.write_text(text)
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}", field=option) from error


def print_json(value: Any) -> None:
    """Print a value, or protobuf messages within it, as JSON on stdout."""
    sys.stdout.write(json.dumps(_jsonable(value), indent=2) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print rows under headings; `right` names the columns of figures. Every text is put in as text, never as markup."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Message):
        return MessageToDict(value, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value
