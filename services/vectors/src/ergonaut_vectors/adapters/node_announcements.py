"""The port `NodeAnnouncements` on core NATS."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from ergonaut.errors import Refused, Unavailable
from ergonaut_common.bus import Bus
from ergonaut_common.observe import get_logger
from ergonaut_vectors.cluster.announced import SUBJECT, NodeAnnounced, sealed, unsealed

TOLD_AGAIN_SECONDS = 60.0
"""How often it is logged that somebody tells what is not believed, however often he does."""

log = get_logger(__name__)


class NatsNodeAnnouncements:
    """Signs what it tells, and believes what is signed alike."""

    def __init__(self, bus: Bus, key: str) -> None:
        self._connection = bus.connection
        self._key = key
        self._logged_seconds = -TOLD_AGAIN_SECONDS

    async def tell(self, announced: NodeAnnounced) -> None:
        if not self._connection.is_connected:
            # It would be kept and told when it is not true any more.
            raise Unavailable("telling other nodes of this one: NATS is away")
        try:
            await self._connection.publish(SUBJECT, sealed(announced, self._key))
        except NatsError as error:
            raise Unavailable(f"telling other nodes of this one: {error}") from error

    @asynccontextmanager
    async def heard(self, hear: Callable[[NodeAnnounced], None]) -> AsyncIterator[None]:
        async def come(message: Msg) -> None:
            try:
                hear(unsealed(message.data, self._key, datetime.now(UTC)))
            except Refused as error:
                self._log(error)

        subscription = await self._connection.subscribe(SUBJECT, cb=come)
        # What is told from now on is heard: the server has the subscription when it answers.
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
            log.warning("node not believed", error=str(error))
