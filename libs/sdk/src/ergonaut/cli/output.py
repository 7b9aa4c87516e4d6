"""How the CLI speaks: tables for people, JSON for programs, one clear sentence for errors. Colour only on a terminal."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from pydantic import ValidationError
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from ergonaut.client import AsyncClient, Connection
from ergonaut.errors import Broken, Conflict, ErgonautError, NotAllowed, NotFound, Refused, Unavailable
from ergonaut.faults import in_words

FILE_WIDTH = 160
"""Columns where the output goes to a file or a program; a terminal tells its own."""

WORD_WIDTH_MAX = 40
"""Characters of a word that a table keeps whole: an id is to be copied in one piece; what is longer is seldom one."""


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
CSV_OPTION = typer.Option("--csv", help="Print CSV instead of tables for people.")
HTML_OPTION = typer.Option("--html", metavar="FILE", help="Also write one self-contained HTML file, with plots.")
CsvFlag = Annotated[bool, CSV_OPTION]
HtmlFile = Annotated[Path | None, HTML_OPTION]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """In which forms a report was asked for. Raises Refused where two of them would have to be printed at once."""

    html: Path | None = None
    as_csv: bool = False
    as_json: bool = False

    def __post_init__(self) -> None:
        if self.as_csv and self.as_json:
            raise Refused("cannot be printed together with --json; choose one", field="--csv")

    @property
    def is_printed_for_programs(self) -> bool:
        """Whether what is printed is for programs, so that nothing else may be printed."""
        return self.as_csv or self.as_json

    def tell(
        self,
        *,
        terminal: Callable[[], RenderableType],
        csv: Callable[[], str],
        json: Callable[[], str],
        html: Callable[[], str] = str,
    ) -> None:
        """Write the page where one was asked for, and print one of the other forms. Each is made only where it is told.

        A command without --html needs no page.
        """
        if self.html is not None:
            write_file(self.html, html(), option="--html")
        if self.as_json:
            sys.stdout.write(json())
        elif self.as_csv:
            sys.stdout.write(csv())
        else:
            out.print(terminal())
        if self.html is not None and not self.is_printed_for_programs:
            out.print(f"written: {self.html}", markup=False, soft_wrap=True)


@contextlib.contextmanager
def telling_errors() -> Iterator[None]:
    """End the command with one clear sentence and an exit code when something fails within the block."""
    try:
        yield
    except ErgonautError as error:
        _tell_error(str(error))
        code = next(code for kind, code in _EXIT_CODES if isinstance(error, kind))
        raise typer.Exit(code) from error
    except ValidationError as error:
        _tell_error(in_words(error))
        raise typer.Exit(65) from error
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def tell(text: str) -> None:
    """Print a sentence: between words a terminal's lines end, in a file or a program's hands it stays one line."""
    out.print(text, markup=False, soft_wrap=not out.is_terminal)


def _tell_error(text: str) -> None:
    err.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=not err.is_terminal)


def ask(question: Callable[[AsyncClient], Awaitable[T]], *, as_operator: bool = False) -> T:
    """What the system answers to a question, by the key of this machine's user or of whoever runs the platform here."""

    async def answered() -> T:
        async with AsyncClient(Connection.from_environment(as_operator=as_operator)) as client:
            return await question(client)

    return asyncio.run(answered())


def write_file(path: Path, text: str, *, option: str) -> None:
    """Write a file that an option names. Raises Refused where that cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}", field=option) from error


def print_json(value: Any) -> None:
    """Print a value, or protobuf messages within it, as JSON on stdout."""
    sys.stdout.write(json_text(value))


def json_text(value: Any) -> str:
    """A value, or protobuf messages within it, as JSON."""
    return json.dumps(_jsonable(value), indent=2) + "\n"


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print rows under headings; `right` names the columns of figures.

    On a terminal too narrow for them each row is told by itself, a line for each column, rather than with torn words.
    """
    if out.is_terminal and _narrowest(columns, rows, right) > out.width:
        out.print(_stacked(title, columns, rows))
    else:
        out.print(table_for(title, columns, rows, right=right))


def table_for(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """Rows under headings. Every text is put in as text, never as markup."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        is_figures = column in right
        table.add_column(column, justify="right" if is_figures else "left", overflow="fold", no_wrap=is_figures)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _narrowest(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> int:
    """How few characters a table can be wide without a figure, a heading or a name being torn."""

    def width(at: int, column: str) -> int:
        texts = [row[at] for row in rows]
        words = texts if column in right else [word for text in texts for word in text.split()]
        return max(cell_len(column), min(WORD_WIDTH_MAX, max(map(cell_len, words), default=0)))

    return sum(width(at, column) for at, column in enumerate(columns)) + 2 * (len(columns) - 1)


def _stacked(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Rows below each other, each with its headings beside it; what is empty is left out."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for number, row in enumerate(rows):
        if number:
            table.add_row()
        for column, text in zip(columns, row, strict=True):
            if text:
                table.add_row(column, escape(text))
    return table


def _jsonable(value: Any) -> Any:
    if isinstance(value, Message):
        return MessageToDict(value, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value
