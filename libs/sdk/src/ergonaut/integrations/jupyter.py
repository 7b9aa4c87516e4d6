"""The notebook's magic: `%load_ext ergonaut`, then `%%track name` over a cell tells what the cell used.

The line over the cell becomes the cell's first statement, and IPython's word that the cell has ended ends the run. So the cell
runs as it would have: its error is the cell's error, `await` works, and its last value is shown.
"""

import re
import shlex
from typing import Any

from ergonaut.errors import ErgonautError
from ergonaut.tracking import Run, Tracking, track
from ergonaut.tracking.exporting import needed

_USAGE = "use: %%track [--project PROJECT] [--zone ZONE] [NAME]"
_FIRST_LINE = re.compile(r"%%track(?:\s(?P<line>.*))?$")


def add_magic(shell: Any) -> None:
    """Give an IPython shell the cell magic `%%track`; a second time changes nothing."""
    if _as_first_statement in shell.input_transformers_cleanup:
        return
    cells = _Cells()
    shell.input_transformers_cleanup.append(_as_first_statement)
    shell.events.register("pre_run_cell", cells.begun)
    shell.events.register("post_run_cell", cells.ended)

    def track_line_or_cell(line: str, cell: str | None = None) -> None:
        """Measure the cell: %%track [--project PROJECT] [--zone ZONE] [NAME]; as a line, from there to the cell's end."""
        if cell is None:
            cells.track(line)
        else:
            shell.run_cell(f"%%track {line}\n{cell}")

    shell.register_magic_function(track_line_or_cell, magic_kind="line_cell", magic_name="track")


def _as_first_statement(lines: list[str]) -> list[str]:
    """A cell under `%%track`, as it is run; it may begin with another cell's magic, such as `%%bash`."""
    first = _FIRST_LINE.match(lines[0].rstrip()) if lines else None
    if first is None:
        return lines
    cell_magic = needed("IPython.core.inputtransformer2").cell_magic
    return [f"get_ipython().run_line_magic('track', {(first['line'] or '').strip()!r})\n", *cell_magic(lines[1:])]


# It has none, but so IPython's terminal still sees a cell's magic while it is typed, and waits for the line that ends it.
_as_first_statement.has_side_effects = True  # type: ignore[attr-defined]


class _Cells:
    """The cells that run, innermost last, each with the runs that were begun in it."""

    def __init__(self) -> None:
        self._cells: list[list[tuple[Tracking, Run]]] = []

    def begun(self, _info: Any) -> None:
        """IPython's word that a cell begins."""
        self._cells.append([])

    def track(self, line: str) -> None:
        """Begin a run that ends with the cell; `ergonaut.track()` within the cell joins it. Raises IPython's UsageError."""
        try:
            tracking = track(**_wishes(line))
            run = tracking.__enter__()
        except (ErgonautError, ValueError) as error:
            raise needed("IPython.core.error").UsageError(f"ergonaut: {error}; {_USAGE}") from None
        if not self._cells:
            # The extension was loaded in this very cell.
            self._cells.append([])
        self._cells[-1].append((tracking, run))

    def ended(self, result: Any) -> None:
        """IPython's word that a cell has ended, and how; without a result it was interrupted."""
        error = (result.error_before_exec or result.error_in_exec) if result is not None else KeyboardInterrupt()
        for tracking, run in reversed(self._cells.pop() if self._cells else []):
            tracking.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
            if run.summary is not None:
                print(run.summary.sentence())  # noqa: T201 - a cell is answered on its output


def _wishes(line: str) -> Any:
    wishes, words = {}, iter(shlex.split(line))
    for word in words:
        if word in ("--project", "--zone"):
            value = next(words, None)
            if value is None:
                raise ValueError(f"{word} has no value")
            wishes[word.removeprefix("--")] = value
        elif word.startswith("-") or "name" in wishes:
            raise ValueError(f"{word!r} is not understood")
        else:
            wishes["name"] = word
    return {"name": "cell"} | wishes
