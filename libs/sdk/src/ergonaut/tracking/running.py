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
from ergonaut.runcontext import RunContext
from ergonaut.tracking.begun import BegunRun, begin_run
from ergonaut.tracking.fellows import announce_rank, find_fellows
from ergonaut.tracking.options import current_options, home_from
from ergonaut.tracking.outer import OuterRun
from ergonaut.tracking.ranks import rank_on_host
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
        begun = guest
        tell_of_budget(guest.run, wishes)
    else:
        own_pid, context = os.getpid(), RunContext.from_environment(os.environ)
        begun = begin_with_fellows(wishes, name, lambda pid: pid == own_pid, context)
        begun.begins_at(own_pid)
    begun.run.stop_wish.program_stops_itself = wishes.get("stops_itself", False)
    if guest is None or begun.run.stop_wish.program_stops_itself:
        begun.watch_signals()
    return begun


def metered_by_another(name: str) -> BegunRun | None:
    """The run where another process meters this one: the host's agent, an outer tracker, or the first rank."""
    context = RunContext.from_environment(os.environ)
    outer = OuterRun.from_environment(os.environ)
    has_agent = context is not None and context.metered
    # A process that replaced its program has no tracker any more, though it inherited the word of one.
    has_tracker = outer is not None and outer.tracker.pid != os.getpid()
    if rank_on_host(os.environ):
        begun = BegunRun(Run(new_id("run"), name, "the first rank on this host"))
        if not has_agent and not has_tracker:
            begun.at_end = announce_rank(home_from(os.environ), name)
        return begun
    if context is not None and has_agent:
        guest = Run(context.run_id, name, "the agent of this host", project=context.project)
        guest.attach_checkpoints(context.checkpoint_folder)
        return BegunRun(_telling(guest, context.journal))
    if outer is not None and has_tracker:
        guest = Run(outer.run_id, name, f"the tracker of process {outer.tracker.pid}")
        guest.attach_tracker(outer)
        return BegunRun(_telling(guest, str(outer.journal)))
    return None


def begin_with_fellows(
    wishes: Wishes, name: str, belongs: Callable[[int], bool], context: RunContext | None = None
) -> BegunRun:
    """Begin a run of the processes that belong, and of the host's other ranks if this is the first. Raises Refused."""
    options = current_options(wishes)
    fellows = find_fellows(options.home)
    if fellows is None:
        return begin_run(options, name, belongs, context)
    try:
        begun = begin_run(options, name, lambda pid: belongs(pid) or fellows.include(pid), context, fellows.told)
    except BaseException:
        fellows.close()
        raise
    begun.at_end = fellows.close
    return begun


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


def _program_name() -> str:
    script = Path(sys.argv[0]).stem if sys.argv else ""
    return script if script and script != "-c" else "python"
