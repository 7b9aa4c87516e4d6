"""One run that several blocks of a process are in at once, in threads and tasks: it ends with the last of them."""

import contextlib
import os
import sys
import threading

from ergonaut.events.runs import RunState
from ergonaut.tracking.begun import BegunRun
from ergonaut.tracking.interrupting import Interruption
from ergonaut.tracking.run import Run, tell
from ergonaut.tracking.stopping import BudgetExceeded
from ergonaut.tracking.summary import RunSummary

Verdict = tuple[RunState, str, int | None]
"""How a run ended: state, why, and exit code where there is one."""


class SharedRun:
    """The run of a process, from the block that began it to the last one that runs beside that.

    Blocks within the one that began it end before it, and it need not wait for them. A block of another thread or task may
    outlast it, and the run goes on until that is left too. How the run ended is how the block that began it was left, unless
    one that outlasted it failed. Whoever calls holds the lock under which runs begin.
    """

    def __init__(self, begun: BegunRun, *, verbose: bool) -> None:
        self._begun = begun
        self._verbose = verbose
        self._began_in = _line_of_execution()
        self._inside = 1
        self._verdict: Verdict | None = None
        self._interruption = Interruption(begun.run.stop_wish)
        os.environ.update(begun.environment)

    @property
    def run(self) -> Run:
        """The run itself."""
        return self._begun.run

    def goes_on(self) -> bool:
        """Whether a block can still join it; a forked child may outlive the run that it was forked in."""
        return self.run.goes_on()

    def join(self) -> bool:
        """Let another block in; says whether the run waits for it."""
        is_within = self._verdict is None and self._began_in == _line_of_execution()
        if is_within or not self._begun.is_ours:
            return False
        self._inside += 1
        return True

    @property
    def is_left_to_others(self) -> bool:
        """Whether the block that began the run has been left, and others are still in it."""
        return self._verdict is not None

    def leave(self, error: BaseException | None, *, began_it: bool) -> bool:
        """Let a block out that the run waits for; says whether it was the last one, whose it is to call `end`."""
        self._inside -= 1
        if began_it:
            self._interruption.end()
        if (began_it and self._verdict is None) or (
            self._verdict is not None and self._verdict[0] is RunState.SUCCEEDED
        ):
            self._verdict = self._verdict_of(error)
        # The threads of the others do not live in a forked child.
        is_last = self._inside <= 0 or not self._begun.is_ours
        if is_last:
            for variable in self._begun.environment:
                os.environ.pop(variable, None)
        elif began_it:
            self.run.leave_to_others()
        return is_last

    def end(self) -> None:
        """End the run; takes a few seconds where a bus or an exporter is slow, and wants no lock."""
        summary = self._begun.finish(*(self._verdict or self._verdict_of(None)))
        _say(self._begun, summary, verbose=self._verbose)

    def _verdict_of(self, error: BaseException | None) -> Verdict:
        if error is not None:
            return verdict(error)
        because = self.run.stop_wish.because
        return (RunState.CANCELLED, f"asked to stop: {because}", None) if because else (RunState.SUCCEEDED, "", None)


def _line_of_execution() -> tuple[int, int]:
    """Which thread this is, and which of its tasks."""
    # A program that never loaded asyncio need not do so to learn that it is in no task.
    asyncio = sys.modules.get("asyncio")
    task = None
    if asyncio is not None:
        with contextlib.suppress(RuntimeError):
            task = asyncio.current_task()
    return threading.get_ident(), id(task)


def verdict(error: BaseException) -> Verdict:
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
