"""Finds out whether this process must meter itself, and does so from the beginning of a block to its end."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ergonaut.events.runs import RunState
from ergonaut.ids import new_id
from ergonaut.journal import JournalWriter
from ergonaut.metering.processtable import open_process_table
from ergonaut.runcontext import RunContext
from ergonaut.tracking.begun import BegunRun, begin_run
from ergonaut.tracking.options import current_options
from ergonaut.tracking.outer import OuterRun
from ergonaut.tracking.ranks import is_fellow_rank, rank_on_host
from ergonaut.tracking.run import Run, tell
from ergonaut.tracking.stopping import BudgetExceeded
from ergonaut.tracking.summary import RunSummary
from ergonaut.tracking.wishes import Wishes

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


def is_under_way() -> bool:
    """Whether this process has a run under way, which an inner block joins."""
    return bool(_active)


@contextlib.contextmanager
def run_of_block(wishes: Wishes) -> Iterator[Run]:
    """A run for the block: the one that is under way already, one that somebody else meters, or one of our own."""
    name = wishes.get("name", "") or _program_name()
    with _beginning.lock:
        outer = _active[-1] if _active else None
        begun = _begun(name, wishes) if outer is None else None
    if outer is not None:
        with outer.phase(name):
            yield outer
    if begun is not None:
        with _ending(begun, verbose=wishes.get("verbose", False)), _being_active(begun):
            yield begun.run


def _begun(name: str, wishes: Wishes) -> BegunRun:
    guest = metered_by_another(name)
    if guest is not None:
        begun = BegunRun(guest)
        tell_of_budget(guest, wishes)
    else:
        with_ranks = rank_on_host(os.environ) is not None
        context = RunContext.from_environment(os.environ)
        begun = begin_run(current_options(wishes), name, _belongs(with_ranks=with_ranks), context)
    begun.run.stop_wish.program_stops_itself = wishes.get("stops_itself", False)
    if guest is None or begun.run.stop_wish.program_stops_itself:
        begun.watch_signals()
    _active.append(begun.run)
    return begun


def metered_by_another(name: str) -> Run | None:
    """The run where another process meters this one: the host's agent, an outer tracker, or the first rank."""
    if rank_on_host(os.environ):
        return Run(new_id("run"), name, "the first rank on this host")
    context = RunContext.from_environment(os.environ)
    if context is not None and context.metered:
        guest = Run(context.run_id, name, "the agent of this host", project=context.project)
        guest.attach_checkpoints(context.checkpoint_folder)
        return _telling(guest, context.journal)
    outer = OuterRun.from_environment(os.environ)
    # A process that replaced its program has no tracker any more, though it inherited the word of one.
    if outer is not None and outer.tracker.pid != os.getpid():
        return _telling(Run(outer.run_id, name, f"the tracker of process {outer.tracker.pid}"), str(outer.journal))
    return None


def tell_of_budget(guest: Run, wishes: Wishes) -> None:
    """Say of a budget that nobody here holds to it, since whoever meters the run does not know of it."""
    if wishes.get("budget") is not None:
        tell(f"the budget of {guest.name} is not held to here: {guest.metered_by} meters the run")


def _telling(run: Run, journal: str) -> Run:
    if not journal:
        return run
    try:
        run.attach(JournalWriter(Path(journal)), Path(journal))
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
    because = begun.run.stop_wish.because
    state = RunState.CANCELLED if because else RunState.SUCCEEDED
    _say(begun, begun.finish(state, because and f"asked to stop: {because}"), verbose=verbose)


def verdict(error: BaseException) -> tuple[RunState, str, int | None]:
    """How a run ended that this exception ended: state, why, and exit code where there is one."""
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        state = RunState.FAILED if code else RunState.SUCCEEDED
        return state, f"exit {code}" if code else "", code
    if isinstance(error, BudgetExceeded):
        return RunState.CANCELLED, str(error), None
    if isinstance(error, KeyboardInterrupt):
        return RunState.FAILED, "interrupted", None
    if _is_cancellation(error):
        return RunState.CANCELLED, "the task was cancelled", None
    if isinstance(error, GeneratorExit):
        # Whoever used the generator had enough of it.
        return RunState.SUCCEEDED, "", None
    return RunState.FAILED, f"{type(error).__name__}: {error}", None


def _is_cancellation(error: BaseException) -> bool:
    # A program that never loaded asyncio need not do so to learn that none of its tasks was cancelled.
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _say(begun: BegunRun, summary: RunSummary, *, verbose: bool) -> None:
    # Seven ranks that each say that the eighth meters them would be noise.
    worth_telling = summary.energy_joules is not None and _has_terminal()
    if begun.is_ours and (verbose or worth_telling):
        tell(summary.sentence())


def _has_terminal() -> bool:
    # A program may have closed stderr, or put something in its place that knows no more than to write.
    with contextlib.suppress(Exception):
        return sys.stderr.isatty()
    return False


def _program_name() -> str:
    script = Path(sys.argv[0]).stem if sys.argv else ""
    return script if script and script != "-c" else "python"
