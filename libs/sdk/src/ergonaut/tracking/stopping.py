"""How a run is asked to stop, by a signal or a budget, and what a signal may not take with it.

SIGTERM and SIGHUP end a process at once, with all that was not yet written. A run watches for them, where nobody else does:
it writes its last sample and its end and then lets the signal do what it would have done.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from ergonaut.errors import Refused

_NAMES = ("SIGTERM", "SIGHUP")
_SIGNAL_BYTES_MAX = 64
# Added to a signal's number by our handler. The interpreter writes the number alone, whoever's handler it is that comes next.
_BY_OUR_HANDLER = 128
_SIG_DFL = 0


class BudgetExceeded(Refused):
    """A run has used up its budget and was to be stopped at that."""


class StopWish:
    """Whether and why a run should stop; the program hears of it by `run.should_stop`, or by an error where it never asks."""

    def __init__(self, *, program_stops_itself: bool = False) -> None:
        self.program_stops_itself = program_stops_itself
        self.because = ""
        self._error: BudgetExceeded | None = None
        self._asks = False
        self._heard = False
        self._act: Callable[[], None] | None = None

    def when_asked(self, act: Callable[[], None]) -> None:
        """Do this when the program is asked to stop, at once where it was asked already."""
        self._act = act
        if self.because:
            act()

    def ask(self, because: str, error: BudgetExceeded | None = None) -> None:
        """Ask the program to stop; the first reason stands."""
        if self.because:
            return
        self._error = error
        self.because = because
        if self._act is not None:
            self._act()

    def is_asked(self) -> bool:
        """What the program hears; once it has, it is trusted to stop and no error interrupts what it still saves."""
        self._asks = True
        self._heard = self._heard or bool(self.because)
        return bool(self.because)

    @property
    def unheard(self) -> BudgetExceeded | None:
        """The error for a program that never asks, and None for one that does."""
        return None if self._asks or self.program_stops_itself else self._error

    def raise_if_unheard(self) -> None:
        """Raise the error that stops a program which does not ask. Raises BudgetExceeded."""
        if self._error is not None and not self._heard and not self.program_stops_itself:
            raise self._error


class SignalWatch:
    """Stands where SIGTERM and SIGHUP would end the process. The program's own handlers stay, those too that it puts in place
    later, and forked children have none.

    A thread does the ending, so it needs no lock that the interrupted main thread may hold, and it is not kept waiting by a
    main thread that is deep in native code.
    """

    def __init__(self, wish: StopWish, end: Callable[[str], object]) -> None:
        self._wish = wish
        self._end = end
        self._before: dict[int, Any] = {}
        self._pipe: tuple[int, int] | None = None

    def install(self) -> None:
        """Begin to watch. Only a main thread can, and only where handlers are the default ones; elsewhere one warning says so.
        Raises OSError or RuntimeError where there is no file descriptor or no thread left.

        A program that stops itself is told first, and so is whatever handler it has; a second signal then ends it.
        """
        if os.name == "nt":
            return
        is_main = threading.current_thread() is threading.main_thread()
        for stale in tuple(_watches) if is_main else ():
            # Its run ended in another thread than the main one, where handlers cannot be put back.
            stale.remove()
        numbers = [getattr(signal, name) for name in _NAMES]
        watched = [number for number in numbers if self._may_watch(signal.getsignal(number))]
        if not watched:
            return
        if not is_main:
            _warn_unwatched(stops_itself=self._wish.program_stops_itself)
            return
        self._pipe = self._watched_pipe()
        for number in watched:
            self._before[number] = signal.signal(number, self._received)
        if not self._wish.program_stops_itself:
            self._wake_at_once(self._pipe[1])
        _watches.append(self)

    def remove(self) -> None:
        """Put everything back. Elsewhere than in the main thread nothing can be; a signal then still ends the process."""
        if self._pipe is None or threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) == self._received:
                signal.signal(number, before)
        woken = signal.set_wakeup_fd(-1)
        if woken not in (-1, self._pipe[1]):
            signal.set_wakeup_fd(woken)
        os.close(self._pipe[1])
        self._pipe = None
        _watches.remove(self)

    def forget_in_child(self) -> None:
        """A forked child dies of a signal as it always did, and its signals are none of its parent's."""
        pipe = self._pipe
        self.remove()
        if pipe is not None:
            os.close(pipe[0])

    def _watched_pipe(self) -> tuple[int, int]:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        try:
            threading.Thread(target=self._watch, args=(reader,), name="ergonaut-signals", daemon=True).start()
        except RuntimeError:
            os.close(reader)
            os.close(writer)
            raise
        return reader, writer

    def _may_watch(self, handler: Any) -> bool:
        return handler == signal.SIG_DFL or (self._wish.program_stops_itself and callable(handler))

    def _wake_at_once(self, writer: int) -> None:
        # Without this a signal waits until the main thread is back from native code. An event loop needs it more than we do,
        # and trio warns about whoever else has it.
        if "trio" in sys.modules:
            return
        others = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        if others != -1:
            signal.set_wakeup_fd(others)

    def _received(self, number: int, frame: FrameType | None) -> None:
        before = self._before[number]
        if self._wish.program_stops_itself and not self._wish.because:
            self._wish.ask(signal.Signals(number).name)
            if callable(before):
                before(number, frame)
        elif callable(before):
            before(number, frame)
        elif self._pipe is None:
            _die_by(number)
        else:
            with contextlib.suppress(OSError):
                os.write(self._pipe[1], bytes([number + _BY_OUR_HANDLER]))

    def _watch(self, reader: int) -> None:
        try:
            while numbers := os.read(reader, _SIGNAL_BYTES_MAX):
                for told in numbers:
                    number = told % _BY_OUR_HANDLER
                    if number in self._before and (told != number or signal.getsignal(number) == self._received):
                        self._end_and_die(number)
        finally:
            with contextlib.suppress(OSError):
                os.close(reader)

    def _end_and_die(self, number: int) -> None:
        try:
            self._end(f"ended by {signal.Signals(number).name}")
        finally:
            _die_by(number)


_watches: list[SignalWatch] = []
_warned_unwatched = threading.Event()


def _warn_unwatched(*, stops_itself: bool) -> None:
    """Say once what a signal takes with it, since a process that it ends can say no more."""
    if _warned_unwatched.is_set():
        return
    _warned_unwatched.set()
    import logging

    lost = (
        "does not turn should_stop true"
        if stops_itself
        else "ends this process with what the last second used unwritten"
    )
    logging.getLogger("ergonaut").warning(
        "ergonaut: track() was entered outside the main thread, where Python lets nobody handle signals, so SIGTERM %s; "
        "enter it in the main thread, or handle SIGTERM there",
        lost,
    )


def _forget_in_child() -> None:
    for watch in tuple(_watches):
        watch.forget_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def _die_by(number: int) -> None:
    """Let the signal end the process, so that whoever waits for it sees that; Python's own `signal` needs the main thread."""
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    libc.signal(number, _SIG_DFL)
    os.kill(os.getpid(), number)
