"""Temporal as services use it: a client with typed payloads, and errors that say whether trying again helps."""

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from ergonaut.errors import ErgonautError, Unavailable
from ergonaut_common.clock import Clock, SystemClock
from ergonaut_common.observe import get_logger
from ergonaut_common.settings import PlatformSettings

CONNECT_PATIENCE_SECONDS = 60.0
"""How long a service waits for Temporal when it starts; on one machine Temporal may start after it."""

log = get_logger(__name__)


async def connect_temporal(platform: PlatformSettings, clock: Clock | None = None) -> Client:
    """A client, waiting for Temporal with a bound. Raises Unavailable."""
    clock = clock or SystemClock()
    give_up_at = clock.monotonic() + CONNECT_PATIENCE_SECONDS
    while True:
        try:
            return await Client.connect(
                platform.temporal_address,
                namespace=platform.temporal_namespace,
                data_converter=pydantic_data_converter,
            )
        except (RPCError, RuntimeError) as error:
            if clock.monotonic() >= give_up_at:
                raise Unavailable(f"Temporal at {platform.temporal_address} does not answer: {error}") from error
            log.info("waiting for Temporal", address=platform.temporal_address)
            await clock.sleep(0.5)


def application_error(error: ErgonautError) -> ApplicationError:
    """The error as Temporal sees it: only Unavailable is worth another attempt."""
    return ApplicationError(str(error), type=type(error).__name__, non_retryable=not isinstance(error, Unavailable))
