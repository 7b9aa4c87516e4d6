"""Hands a run's footprint to other tools while it goes on and when it ends; none of them can harm the program.

Only their beginning, in the program's own thread, takes as long as the tool takes, and the end is waited for with a bound.

An exporter is a class with three methods, named in the entry-point group `ergonaut.exporters` or given to `track()`.
"""

import contextlib
import functools
import importlib
import os
import threading
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Protocol, runtime_checkable

from ergonaut.errors import Refused
from ergonaut.tracking.summary import RunSummary

GROUP = "ergonaut.exporters"
VARIABLE = "ERGONAUT_EXPORTERS"
PROGRESS_SECONDS = 10.0
"""How often a footprint is handed on; other tools keep every one, so that each second would fill them with little news."""

FINISH_SECONDS_MAX = 30.0
"""How long the end of a run waits for slow exporters; what they have not done by then is left to their own threads."""


@runtime_checkable
class Exporter(Protocol):
    """Writes footprints somewhere. The first error that it raises is told; after that it is asked only to finish.

    One that could not begin is not asked again at all.
    """

    def begin(self, summary: RunSummary) -> None:
        """A run has begun; called in the program's own thread, so that a run that is active there can be found."""

    def progress(self, summary: RunSummary) -> None:
        """What the run has used so far; called every few seconds in a thread of its own."""

    def finish(self, summary: RunSummary) -> None:
        """What the run has used in the end; called once, in that same thread."""


def exporters_of(given: "Iterable[Exporter | str] | str") -> tuple[Exporter, ...]:
    """Exporters by their names or as they are, and those that ERGONAUT_EXPORTERS names. Raises Refused for unknown names.

    One text names as many as the variable does, such as "csv,mlflow".
    """
    named = _names(os.environ.get(VARIABLE, ""))
    given = _names(given) if isinstance(given, str) else list(given)
    wanted = given + [name for name in dict.fromkeys(named) if name not in given]
    return tuple(_found(each) if isinstance(each, str) else _checked(each) for each in wanted)


def _names(text: str) -> "list[Exporter | str]":
    return [name.strip() for name in text.split(",") if name.strip()]


class LibraryMissing(Refused, ImportError):
    """An integration needs a library that is not installed; the message says how to install it."""


def needed(module: str, extra: str = "") -> ModuleType:
    """A library that an integration cannot do without; small ones come with an extra. Raises LibraryMissing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = f"'ergonaut[{extra}]'" if extra else module.partition(".")[0]
        raise LibraryMissing(f"{module} cannot be imported ({error}); pip install {what}") from error


def _found(name: str) -> Exporter:
    from importlib.metadata import entry_points

    known = {point.name: point for point in entry_points(group=GROUP)}
    if name not in known:
        raise Refused(f"no exporter is called {name!r}; there are {', '.join(sorted(known))}", field=VARIABLE)
    return _checked(known[name].load()())


def _checked(exporter: Exporter) -> Exporter:
    if not isinstance(exporter, Exporter):
        raise Refused(f"{exporter!r} has not the methods begin, progress and finish", field="exporters")
    return exporter


class Exporting:
    """One run's exporters and the thread that calls them."""

    def __init__(
        self, exporters: Iterable[Exporter], summarise: Callable[[], RunSummary], tell: Callable[[str], None]
    ) -> None:
        self._exporters = list(exporters)
        self._summarise = summarise
        self._tell = tell
        self._finished: RunSummary | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._export, name="ergonaut-export", daemon=True)

    def begin(self) -> None:
        """Tell every exporter of the run, and begin to hand on."""
        summary = self._summarise()
        self._exporters = self._working(self._exporters, lambda exporter: exporter.begin(summary), "is left out")
        if self._exporters:
            self._thread.start()

    def finish(self, summary: RunSummary, patience_seconds: float = FINISH_SECONDS_MAX) -> None:
        """Hand on the run's end, for so long at most."""
        if not self._thread.is_alive():
            return
        self._finished = summary
        self._stopping.set()
        self._thread.join(patience_seconds)
        if self._thread.is_alive():
            self._tell(f"exporters of {summary.run_id} took longer than {patience_seconds:g} s and were left behind")

    def _export(self) -> None:
        working = self._exporters
        while not self._stopping.wait(PROGRESS_SECONDS):
            summary = self._summarise()
            progress = functools.partial(_progress, summary=summary)
            working = self._working(working, progress, "is asked again only at the end")
        finished = self._finished
        if finished is not None:
            self._working(working, lambda exporter: exporter.finish(finished), "is left out")
            # What they began, such as a run of their own, is to have its end; that they fail is known.
            for exporter in self._exporters:
                if exporter not in working:
                    with contextlib.suppress(Exception):
                        exporter.finish(finished)

    def _working(self, exporters: list[Exporter], act: Callable[[Exporter], None], then: str) -> list[Exporter]:
        """Those that did it; of each other one it is told, and what becomes of it."""
        working = []
        for exporter in exporters:
            try:
                act(exporter)
            except Exception as error:
                self._tell(f"the exporter {type(exporter).__name__} failed and {then}: {error}")
            else:
                working.append(exporter)
        return working


def _progress(exporter: Exporter, summary: RunSummary) -> None:
    exporter.progress(summary)
