"""The process from outside: the only one, the parent of several, or a worker that was forked by it."""

import atexit
import os
import sys
from functools import partial

import uvloop
from pydantic import ValidationError

from ergonaut.errors import ErgonautError
from ergonaut_common.lifetimes import run_service
from ergonaut_common.observe import get_logger, start_logging
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway import memory
from ergonaut_gateway.main import main
from ergonaut_gateway.settings import Settings
from ergonaut_gateway.workers.parent import Parent
from ergonaut_gateway.workers.place import Seat


def start() -> None:
    """Be the gateway, by as many processes as its settings ask for; leaves with an exit code where it did not end well."""
    memory.spare()
    try:
        settings = Settings()
        start_logging("gateway", PlatformSettings().log_level)
    except ValidationError:
        # Whoever serves reads them too, and tells what is wrong with them.
        _serve()
        return
    if settings.workers > 1 or settings.supervised:
        _be_parent(settings)
    else:
        _serve()


def _serve(seat: Seat | None = None) -> None:
    """Serve until told to stop, as the only process or as one of several."""
    # Twice as many requests a second as asyncio's own loop.
    run_service("gateway", partial(main, seat=seat), loop_factory=uvloop.new_event_loop)


def _be_parent(settings: Settings) -> None:
    """Start workers and look after them. Returns in no process."""
    try:
        seat = Parent(settings).run()
    except ErgonautError as error:
        get_logger(__name__).error("service failed", service="gateway", error=str(error))
        sys.exit(1)
    if isinstance(seat, int):
        sys.exit(seat)
    code: object = 0
    try:
        _serve(seat)
    except SystemExit as left:
        code = left.code
    # Not by taking the interpreter down, which would take down the copy of the parent's loop that it holds.
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)
