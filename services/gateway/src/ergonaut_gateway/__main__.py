"""`python -m ergonaut_gateway`."""

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
from ergonaut_gateway.main import main
from ergonaut_gateway.settings import Settings
from ergonaut_gateway.workers.parent import Parent
from ergonaut_gateway.workers.place import Seat


def run(seat: Seat | None = None) -> None:
    """Serve until told to stop, as the only process or as one of several."""
    # Twice as many requests a second as asyncio's own loop.
    run_service("gateway", partial(main, seat=seat), loop_factory=uvloop.new_event_loop)


def several_wanted() -> Settings | None:
    """The settings, where they ask for more than one process."""
    try:
        settings = Settings()
        start_logging("gateway", PlatformSettings().log_level)
    except ValidationError:
        # Whoever serves reads them too, and tells what is wrong with them.
        return None
    return settings if settings.workers > 1 else None


def be_parent(settings: Settings) -> None:
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
        run(seat)
    except SystemExit as left:
        code = left.code
    # Not by taking the interpreter down, which would take down the copy of the parent's loop that it holds.
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    settings = several_wanted()
    if settings is None:
        run()
    else:
        be_parent(settings)
