"""What every activity has around it: heartbeats while it works, and errors in Temporal's words. For the activities."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from temporalio import activity

from ergonaut.errors import ErgonautError
from ergonaut_common.temporal import application_error

BEAT_SECONDS = 2.0
"""Several beats fit into the workflow's heartbeat timeout, so that a busy machine is not taken for a dead one."""


@contextlib.asynccontextmanager
async def at_work() -> AsyncIterator[None]:
    """Beats while the block runs, so that a step whose process was killed is soon taken up by another; translates errors."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            activity.heartbeat()

    beating = asyncio.create_task(beat())
    try:
        with translated():
            yield
    finally:
        beating.cancel()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Errors within the block as Temporal's, which say whether trying again helps."""
    try:
        yield
    except ErgonautError as error:
        raise application_error(error) from error
