"""`python -m ergonaut_vectors`: the service's process."""

from ergonaut_common.beginning import begin

LEFT_OUT = ("yaml",)
"""Numba would read settings of its own by it, which nobody writes."""

if __name__ == "__main__":
    begin(*LEFT_OUT)
    import uvloop

    from ergonaut_common.lifetimes import run_service
    from ergonaut_vectors.main import main

    # A call costs a third less than on asyncio's own loop.
    run_service("vectors", main, loop_factory=uvloop.new_event_loop)
