"""Telling all others of a process, and hearing of them, on core NATS. Fills what gateways and nodes of the vector index have as
ports for that."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Generic

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from ergonaut.announcements import Kind, T
from ergonaut.errors import Refused, Unavailable
from ergonaut_common.bus.connection import Bus
from ergonaut_common.observe import get_logger

TOLD_AGAIN_SECONDS = 60.0
"""How often it is logged that somebody tells what is not believed, however often he does."""

log = get_logger(__name__)


class NatsAnnouncements(Generic[T]):
    """Signs what it tells, and believes what is signed alike."""

    def __init__(self, bus: Bus, key: str, kind: Kind[T]) -> None:
        self._connection = bus.connection
        self._key = key
        self._kind = kind
        self._logged_seconds = -TOLD_AGAIN_SECONDS

    async def tell(self, announced: T) -> None:
        """Tell how this process stands. Raises Unavailable."""
        if not self._connection.is_connected:
            # It would be kept and told when it is not true any more.
            raise Unavailable(f"telling other {self._kind.name}s of this one: NATS is away")
        try:
            await self._connection.publish(self._kind.subject, self._kind.sealed(announced, self._key))
        except NatsError as error:
            raise Unavailable(f"telling other {self._kind.name}s of this one: {error}") from error

    @asynccontextmanager
    async def heard(self, hear: Callable[[T], None]) -> AsyncIterator[None]:
        """Call this for whatever is told, while the block runs; what is not believed is passed over."""

        async def come(message: Msg) -> None:
            try:
                hear(self._kind.unsealed(message.data, self._key, datetime.now(UTC)))
            except Refused as error:
                self._log(error)

        subscription = await self._connection.subscribe(self._kind.subject, cb=come)
        if self._connection.is_connected:
            # What is told from now on is heard: the server has the subscription when it answers.
            with suppress(NatsError):
                await self._connection.flush()
        try:
            yield
        finally:
            with suppress(NatsError):
                await subscription.unsubscribe()

    def _log(self, error: Refused) -> None:
        now = time.monotonic()
        if now - self._logged_seconds >= TOLD_AGAIN_SECONDS:
            self._logged_seconds = now
            log.warning("announcement not believed", of=self._kind.name, error=str(error))
