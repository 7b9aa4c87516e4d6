"""Finds out whether this process must meter itself, and does so from the beginning of a block to its end."""

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ergonaut.ids import new_id
from ergonaut.journal import JournalWriter
from ergonaut.metering.processtable import open_process_table
from ergonaut.runcontext import RunContext
from ergonaut.tracking.begun import BegunRun, begin_run
from ergonaut.tracking.options import current_options
from ergonaut.tracking.outer import OuterRun
from ergonaut.tracking.ranks import is_fellow_rank, rank_on_host
from ergonaut.tracking.run import Run, tell
from ergonaut.tracking.sharing import SharedRun
from ergonaut.tracking.wishes import Wishes

_active: list[SharedRun] = []
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


class Block:
    """A block of the program within a run: the one under way already, one that somebody else meters, or one of our own."""

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes
        self._shared: SharedRun | None = None
        self._began_it = False
        self._is_waited_for = False
        self._phase = contextlib.ExitStack()

    def enter(self) -> Run:
        """Begin the run or join it, as a phase. Raises Refused for settings that cannot be."""
        name = self._wishes.get("name", "") or _program_name()
        with _beginning.lock:
            shared = _under_way()
            if shared is None:
                shared = SharedRun(_begun(name, self._wishes), verbose=self._wishes.get("verbose", False))
                _active.append(shared)
                self._began_it = self._is_waited_for = True
            else:
                self._is_waited_for = shared.join()
        self._shared = shared
        if not self._began_it:
            try:
                self._phase.enter_context(shared.run.phase(name))
            except BaseException as error:
                if self.leave(error):
                    self.end_run()
                raise
        return shared.run

    def leave(self, error: BaseException | None) -> bool:
        """Leave the phase, in the context in which it was entered; says whether the run ends with this block, by `end_run`."""
        assert self._shared is not None
        self._phase.__exit__(*_told(error))
        if not self._is_waited_for:
            return False
        with _beginning.lock:
            # The program may be ending, and the run have ended before it.
            if self._shared not in _active:
                return False
            is_last = self._shared.leave(error, began_it=self._began_it)
            if is_last:
                _active.remove(self._shared)
        return is_last

    def end_run(self) -> None:
        """End the run; may take seconds, and may be done in another thread."""
        assert self._shared is not None
        self._shared.end()


def _told(
    error: BaseException | None,
) -> tuple[type[BaseException] | None, BaseException | None, TracebackType | None]:
    return (type(error), error, error.__traceback__) if error is not None else (None, None, None)


def _under_way() -> SharedRun | None:
    while _active:
        if _active[-1].goes_on():
            return _active[-1]
        _active.pop()
    return None


def _end_what_is_left() -> None:
    """End the run of a program that ends while blocks of its daemon threads, which outlast the first, are still running."""
    with _beginning.lock:
        left = [shared for shared in _active if shared.is_left_to_others]
        for shared in left:
            _active.remove(shared)
    for shared in left:
        shared.end()


atexit.register(_end_what_is_left)


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
        guest = Run(outer.run_id, name, f"the tracker of process {outer.tracker.pid}")
        guest.attach_tracker(outer)
        return _telling(guest, str(outer.journal))
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


def _program_name() -> str:
    script = Path(sys.argv[0]).stem if sys.argv else ""
    return script if script and script != "-c" else "python"
