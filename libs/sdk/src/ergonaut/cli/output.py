"""How the CLI speaks: tables for people, JSON for programs, one clear sentence for errors. Colour only on a terminal."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ergonaut.errors import Broken, Conflict, ErgonautError, NotAllowed, NotFound, Refused, Unavailable

FILE_WIDTH = 160
"""Columns where the output goes to a file or a program; a terminal tells its own."""


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = FILE_WIDTH
    return console


out = _console(stderr=False)
err = _console(stderr=True)

# As in sysexits.h, so that scripts can tell a wrong request from a system that is away.
_EXIT_CODES: tuple[tuple[type[ErgonautError], int], ...] = (
    (NotAllowed, 77),
    (Refused, 65),
    (NotFound, 66),
    (Conflict, 73),
    (Unavailable, 69),
    (Broken, 70),
)
EXIT_JOB_FAILED = 1
EXIT_INTERRUPTED = 130

JSON_OPTION = typer.Option("--json", help="Print JSON for programs instead of tables for people.")


@contextlib.contextmanager
def telling_errors() -> Iterator[None]:
    """End the command with one clear sentence and an exit code when something fails within the block."""
    try:
        yield
    except ErgonautError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}")
        code = next(code for kind, code in _EXIT_CODES if isinstance(error, kind))
        raise typer.Exit(code) from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        err.print(f"[bold red]error:[/] {escape(problems)}")
        raise typer.Exit(65) from error
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def print_json(value: Any) -> None:
    """Print a value, or protobuf messages within it, as JSON on stdout."""
    sys.stdout.write(json.dumps(_jsonable(value), indent=2) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print rows under headings; `right` names the columns of figures."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Message):
        return MessageToDict(value, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value
