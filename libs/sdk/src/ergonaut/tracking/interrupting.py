"""Stops a block whose program never asks whether it should: by an error in its thread, as Ctrl-C would."""

import ctypes
import sys
import threading

from ergonaut.tracking.stopping import BudgetExceeded, StopWish

PATIENCE_SECONDS = 1.0
"""How long a program may go on before it is interrupted; its next word to the run raises the error sooner."""


class Interruption:
    """Raises `BudgetExceeded` in the thread that made this, once, while a block of it runs; a single call into native code, such
    as a fit, is interrupted when it is back in Python.

    A program that has ever asked `should_stop` is trusted to ask again, and an event loop is not interrupted: the error would
    end the loop and not the task.
    """

    def __init__(self, wish: StopWish, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._wish = wish
        self._patience_seconds = patience_seconds
        self._thread_id = threading.get_ident()
        self._lock = threading.Lock()
        self._is_over = _in_event_loop()
        self._is_raised = False
        wish.when_asked(self._wait)

    def end(self) -> None:
        """The block is left; nothing is raised from here on."""
        with self._lock:
            self._is_over = True
            if self._is_raised:
                _raise_in(self._thread_id, None)

    def _wait(self) -> None:
        # A signal asks without an error, from a handler: to begin a thread there might want a lock that its own thread holds.
        if self._wish.unheard is None:
            return
        timer = threading.Timer(self._patience_seconds, self._interrupt)
        timer.daemon = True
        timer.start()

    def _interrupt(self) -> None:
        with self._lock:
            error = self._wish.unheard
            if not self._is_over and error is not None:
                self._is_raised = True
                _raise_in(self._thread_id, _class_of(error))


def _in_event_loop() -> bool:
    # A program that never loaded asyncio need not do so to learn that it is in no loop of it.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _class_of(error: BudgetExceeded) -> type[BudgetExceeded]:
    """A class that makes this error, since the interpreter takes no more than a class."""

    def same(self: BudgetExceeded) -> None:
        BudgetExceeded.__init__(self, *error.args)
        self.__dict__.update(error.__dict__)

    return type(BudgetExceeded.__name__, (BudgetExceeded,), {"__init__": same, "__module__": BudgetExceeded.__module__})


def _raise_in(thread_id: int, error: type[BaseException] | None) -> None:
    """Have a thread raise at its next step in Python; None takes back what it has not raised yet."""
    told = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), told)
