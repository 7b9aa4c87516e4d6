"""The notebook's magic: `%load_ext ergonaut`, then `%%track name` over a cell tells what the cell used."""

import shlex
from typing import Any

from ergonaut.errors import ErgonautError
from ergonaut.tracking import track

_USAGE = "use: %%track [--project PROJECT] [--zone ZONE] [NAME]"


def add_magic(shell: Any) -> None:
    """Give an IPython shell the cell magic `%%track`."""

    def track_cell(line: str, cell: str) -> None:
        _tracked(shell, line, cell)

    shell.register_magic_function(track_cell, magic_kind="cell", magic_name="track")


def _tracked(shell: Any, line: str, cell: str) -> None:
    """Run the cell as it would have run, and print one line; `ergonaut.track()` within the cell joins the run."""
    try:
        tracking = track(**_wishes(line))
        run = tracking.__enter__()
    except (ErgonautError, ValueError) as error:
        print(f"ergonaut: {error}; {_USAGE}")  # noqa: T201 - a cell is answered on its output
        return
    result = None
    try:
        result = shell.run_cell(cell, store_history=False)
    finally:
        # The shell has shown the cell's error already; raising it again would show it twice.
        failed = (result.error_before_exec or result.error_in_exec) if result is not None else KeyboardInterrupt()
        tracking.__exit__(type(failed) if failed else None, failed, failed.__traceback__ if failed else None)
    if run.summary is not None:
        print(run.summary.sentence())  # noqa: T201 - see above


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
