"""Runs another program and meters it with all its descendants; signals and the exit code pass through. Used by the CLI."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ergonaut.errors import NotFound
from ergonaut.events.runs import RunState
from ergonaut.tracking.run import Run
from ergonaut.tracking.running import begin_with_fellows, metered_by_another, tell_of_budget
from ergonaut.tracking.summary import RunSummary
from ergonaut.tracking.treestopper import TreeStopper
from ergonaut.tracking.wishes import Wishes
from ergonaut.tracking.witness import GroupWitness

_FORWARDED = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT")
# Sent to a whole group it is harmless twice, and nobody dies of it.
_SEEN_BY_NOBODY = frozenset({getattr(signal, "SIGCONT", 0)})
# A terminal sends these to every process in its foreground, so the program has them already.
_FROM_THE_KEYBOARD = ("SIGINT", "SIGQUIT")
_STANDARD_STREAMS_LAST = 2
# As shells say that a signal ended a program.
_EXIT_CODE_OF_SIGNALS = 128


EXIT_OVER_BUDGET = 79
"""What `ergonaut track` exits with when it stopped the program since its budget was used up; no code of sysexits.h."""

# For a program to save its state in after SIGTERM; then it is killed.
GRACE_SECONDS = 10.0


def track_command(command: Sequence[str], wishes: Wishes, grace_seconds: float = GRACE_SECONDS) -> RunSummary:
    """Run a program to its end and give its footprint, with its exit code. Raises NotFound where there is no program.

    A budget that stops ends the program and all that it started: by SIGTERM, after the grace by SIGKILL.
    """
    name = wishes.get("name", "") or Path(command[0]).name
    # Before a meter opens any of its own.
    descriptors = _inherited_descriptors()
    guest = metered_by_another(name)
    if guest is not None:
        tell_of_budget(guest.run, wishes)
        try:
            code = _executed(_Program(command, {}, descriptors), lambda _: None, guest.run)
        except BaseException as error:
            guest.finish(RunState.FAILED, str(error))
            raise
        return guest.finish(*_verdict(code))
    roots: set[int] = set()
    own = begin_with_fellows(wishes, name, roots.__contains__)
    stopper = TreeStopper(grace_seconds)
    own.run.stop_wish.when_asked(stopper.stop)

    def started(pid: int) -> None:
        roots.add(pid)
        stopper.know(pid)
        own.begins_at(pid)

    try:
        code = _executed(_Program(command, own.environment, descriptors), started, own.run)
    except BaseException as error:
        own.finish(RunState.FAILED, str(error))
        raise
    finally:
        stopper.finish()
    because = own.run.stop_wish.because
    return own.finish(RunState.CANCELLED, because, EXIT_OVER_BUDGET) if because else own.finish(*_verdict(code))


def exit_code_of(return_code: int) -> int:
    """What to exit with so that a caller learns how the program ended, as shells do.

    >>> exit_code_of(3), exit_code_of(-15)
    (3, 143)
    """
    return return_code if return_code >= 0 else _EXIT_CODE_OF_SIGNALS - return_code


@dataclass(frozen=True, slots=True)
class _Program:
    """What to start, and with what more than our own environment and standard streams."""

    command: Sequence[str]
    environment: Mapping[str, str]
    descriptors: Sequence[int]

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it. Raises NotFound where it cannot be run."""
        try:
            return subprocess.Popen(
                list(self.command), env={**os.environ, **self.environment}, pass_fds=self.descriptors
            )
        except OSError as error:
            raise NotFound(f"{self.command[0]!r} cannot be run: {error.strerror}") from error


def _inherited_descriptors() -> Sequence[int]:
    """What whoever started us handed on besides the standard streams, as make does with its job server."""
    try:
        names = os.listdir("/dev/fd")  # noqa: PTH208 - numbers, not paths
    except OSError:
        return ()
    return [number for number in map(int, names) if number > _STANDARD_STREAMS_LAST and _is_handed_on(number)]


def _is_handed_on(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        # The listing's own, closed by now.
        return False


def _executed(program: _Program, started: Callable[[int], None], run: Run) -> int:
    with _signals_passed_on() as pass_on_to:
        process = program.start()
        started(process.pid)
        pass_on_to(process)
        if hasattr(os, "waitid"):
            # A program that has ended keeps its CPU time for us to read only until it is reaped.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            run.footprint()
        return exit_code_of(process.wait())


@contextmanager
def _signals_passed_on() -> Iterator[Callable[["subprocess.Popen[bytes]"], None]]:
    """Pass signals on to a program from now on, also those that come before it is known; gives what makes it known."""
    programs: list[subprocess.Popen[bytes]] = []
    early: list[int] = []
    asked_of: list[int] = []
    witness = GroupWitness()

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if not programs:
            early.append(number)
        elif number in _SEEN_BY_NOBODY or not _is_in_our_group(programs[0]):
            programs[0].send_signal(number)
        elif number not in asked_of:
            asked_of.append(number)
            # A signal that comes while we find out about another interrupts that, and waits for it.
            if len(asked_of) == 1:
                pass_on_what_came_to_us_alone(programs[0])

    def pass_on_what_came_to_us_alone(program: "subprocess.Popen[bytes]") -> None:
        while asked_of:
            if _has_had(asked_of[0], witness):
                # Of those that came meanwhile there was no witness any more, and a group is often sent several at once.
                asked_of.clear()
            else:
                program.send_signal(asked_of.pop(0))
        witness.begin()

    def pass_on_to(program: "subprocess.Popen[bytes]") -> None:
        programs.append(program)
        for number in early:
            program.send_signal(number)

    numbers = {getattr(signal, name) for name in (*_FORWARDED, *_FROM_THE_KEYBOARD) if hasattr(signal, name)}
    # What whoever started us chose to ignore, as nohup does, stays ignored.
    before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    witness.begin()
    for number in before:
        signal.signal(number, pass_on)
    try:
        yield pass_on_to
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        witness.end()


def _has_had(number: int, witness: GroupWitness) -> bool:
    """Whether a signal came to our whole group, so that passing it on would end a program that is saving its state."""
    if witness.is_there:
        return witness.saw(number)
    return signal.Signals(number).name in _FROM_THE_KEYBOARD and _is_in_foreground()


def _is_in_our_group(program: "subprocess.Popen[bytes]") -> bool:
    try:
        return os.getpgid(program.pid) == os.getpgrp()
    except OSError:
        return False


def _is_in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _verdict(code: int) -> tuple[RunState, str, int]:
    return (RunState.FAILED, f"exit {code}", code) if code else (RunState.SUCCEEDED, "", 0)
