"""`python -m ergonaut_gateway`."""

import uvloop

from ergonaut_common.lifetimes import run_service
from ergonaut_gateway.main import main

if __name__ == "__main__":
    # Twice as many requests a second as asyncio's own loop.
    run_service("gateway", main, loop_factory=uvloop.new_event_loop)
