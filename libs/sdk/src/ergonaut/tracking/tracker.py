"""`track()`: finds out whether this process must meter itself, and does so from the beginning of a block to its end."""

import asyncio
import contextlib
import functools
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from ergonaut.events.runs import RunState
from ergonaut.ids import new_id
from ergonaut.journal import JournalWriter
from ergonaut.metering.processtable import open_process_table
from ergonaut.runcontext import RunContext
from ergonaut.tracking.begun import BegunRun, begin_run
from ergonaut.tracking.options import Options, current_options
from ergonaut.tracking.outer import OuterRun
from ergonaut.tracking.ranks import is_fellow_rank, rank_on_host
from ergonaut.tracking.run import Run, tell
from ergonaut.tracking.summary import RunSummary

P = ParamSpec("P")
R = TypeVar("R")

_active: list[Run] = []
"""The run of this process, if one is under way; a forked child finds its parent's here and joins it."""


class _Beginning:
    """Lets one thread at a time look for a run under way and begin one; a child forked meanwhile has a lock of its own."""

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.lock = threading.Lock()


_beginning = _Beginning()


@overload
def track(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def track(
    *,
    name: str = "",
    zone: str | None = None,
    electricity_usd_per_kwh: float | None = None,
    interval_seconds: float | None = None,
    verbose: bool = False,
) -> "Tracking": ...
def track(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    zone: str | None = None,
    electricity_usd_per_kwh: float | None = None,
    interval_seconds: float | None = None,
    verbose: bool = False,
) -> Any:
    """Measure what a block or a function uses: `with track(name="digits") as run:`, `@track` or `@track(name="digits")`.

    What is not given is taken from ERGONAUT_ZONE, ERGONAUT_ELECTRICITY_USD_PER_KWH and ERGONAUT_TRACK_INTERVAL_SECONDS.
    One line tells the footprint on stderr at the end if that is a terminal or `verbose` is set; `run.summary` has it all.
    """
    tracking = Tracking(
        name,
        lambda: current_options(
            zone=zone, electricity_usd_per_kwh=electricity_usd_per_kwh, interval_seconds=interval_seconds
        ),
        verbose=verbose,
    )
    return tracking if function is None else tracking(function)


class Tracking:
    """What `track()` returns: a context manager for blocks and a decorator for functions, coroutines included."""

    def __init__(self, name: str, options: Callable[[], Options], *, verbose: bool) -> None:
        self._name = name
        self._options = options
        self._verbose = verbose
        self._stack: contextlib.ExitStack | None = None
        self._joined = False

    def __enter__(self) -> Run:
        stack = contextlib.ExitStack()
        self._joined = bool(_active)
        run = stack.enter_context(_running(self._name or _program_name(), self._options, verbose=self._verbose))
        self._stack = stack
        return run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stack is not None
        self._stack.__exit__(kind, error, trace)

    async def leave_without_blocking(self, error: BaseException | None) -> None:
        """Leave as the block's end does, but let the event loop go on while the bus is waited for."""
        kind, trace = (type(error), error.__traceback__) if error else (None, None)
        if self._joined:
            # A phase belongs to its task's context and so must end in it; it waits for nothing.
            self.__exit__(kind, error, trace)
        else:
            await asyncio.to_thread(self.__exit__, kind, error, trace)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        name = self._name or getattr(function, "__qualname__", "function")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def measured_coroutine(*arguments: P.args, **options: P.kwargs) -> Any:
                tracking = Tracking(name, self._options, verbose=self._verbose)
                tracking.__enter__()
                try:
                    result = await function(*arguments, **options)
                except BaseException as error:
                    await tracking.leave_without_blocking(error)
                    raise
                await tracking.leave_without_blocking(None)
                return result

            return measured_coroutine  # type: ignore[return-value]

        @functools.wraps(function)
        def measured(*arguments: P.args, **options: P.kwargs) -> R:
            with _running(name, self._options, verbose=self._verbose):
                return function(*arguments, **options)

        return measured


@contextlib.contextmanager
def _running(name: str, options: Callable[[], Options], *, verbose: bool) -> Iterator[Run]:
    """A run for the block: the one that is under way already, one that somebody else meters, or one of our own."""
    with _beginning.lock:
        outer = _active[-1] if _active else None
        begun = _begun(name, options) if outer is None else None
    if outer is not None:
        with outer.phase(name):
            yield outer
    if begun is not None:
        with _ending(begun, verbose=verbose), _being_active(begun):
            yield begun.run


def _begun(name: str, options: Callable[[], Options]) -> BegunRun:
    guest = metered_by_another(name)
    if guest is not None:
        begun = BegunRun(guest, {}, None, os.getpid())
    else:
        with_ranks = rank_on_host(os.environ) is not None
        context = RunContext.from_environment(os.environ)
        begun = begin_run(options(), name, _belongs(with_ranks=with_ranks), context)
    _active.append(begun.run)
    return begun


def metered_by_another(name: str) -> Run | None:
    """The run where another process meters this one: the host's agent, an outer tracker, or the first rank."""
    if rank_on_host(os.environ):
        return Run(new_id("run"), name, "the first rank on this host")
    context = RunContext.from_environment(os.environ)
    if context is not None and context.metered:
        return _telling(Run(context.run_id, name, "the agent of this host"), context.journal)
    outer = OuterRun.from_environment(os.environ)
    if outer is not None:
        return _telling(Run(outer.run_id, name, f"the tracker of process {outer.pid}"), str(outer.journal))
    return None


def _telling(run: Run, journal: str) -> Run:
    if not journal:
        return run
    try:
        run.attach(journal=JournalWriter(Path(journal)), journal_path=Path(journal))
    except OSError as error:
        tell(f"phases and metrics of {run.run_id} are not kept: {error}")
    return run


def _belongs(*, with_ranks: bool) -> Callable[[int], bool]:
    """Which processes the run begins with: this one, and with ranks also the others that its launcher started."""
    own_pid, table = os.getpid(), open_process_table()
    return lambda pid: pid == own_pid or (with_ranks and is_fellow_rank(table, pid))


@contextlib.contextmanager
def _being_active(begun: BegunRun) -> Iterator[None]:
    """Let child processes find the run while the block runs, as inner `track()` calls do."""
    os.environ.update(begun.environment)
    try:
        yield
    finally:
        _active.remove(begun.run)
        for variable in begun.environment:
            os.environ.pop(variable, None)


@contextlib.contextmanager
def _ending(begun: BegunRun, *, verbose: bool) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        _say(begun, begun.finish(*verdict(error)), verbose=verbose)
        raise
    _say(begun, begun.finish(RunState.SUCCEEDED), verbose=verbose)


def verdict(error: BaseException) -> tuple[RunState, str, int | None]:
    """How a run ended that this exception ended: state, why, and exit code where there is one."""
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        state = RunState.FAILED if code else RunState.SUCCEEDED
        return state, f"exit {code}" if code else "", code
    if isinstance(error, KeyboardInterrupt):
        return RunState.FAILED, "interrupted", None
    return RunState.FAILED, f"{type(error).__name__}: {error}", None


def _say(begun: BegunRun, summary: RunSummary, *, verbose: bool) -> None:
    # Seven ranks that each say that the eighth meters them would be noise.
    worth_telling = summary.energy_joules is not None and sys.stderr is not None and sys.stderr.isatty()
    if begun.is_ours and (verbose or worth_telling):
        tell(summary.sentence())


def _program_name() -> str:
    script = Path(sys.argv[0]).stem if sys.argv else ""
    return script if script and script != "-c" else "python"
