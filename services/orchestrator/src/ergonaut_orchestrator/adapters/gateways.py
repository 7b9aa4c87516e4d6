"""Listens to what the gateways announce on core NATS. Fills the port `Gateways`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from ergonaut.errors import Refused, Unavailable
from ergonaut.gateways import SILENT_SECONDS, SUBJECT, GatewayAnnounced, unsealed
from ergonaut_common.bus import Bus
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger

LISTENED_SECONDS_MIN = SILENT_SECONDS + 1.0
"""Whoever is there has announced itself within this, so that only then its silence says something."""

PROCESSES_MAX = 4096
"""Announcements remembered: many workers of many gateways. Beyond it new ones are passed over, which the log says."""

TOLD_AGAIN_SECONDS = 60.0
"""How often it is logged that something is told that is not taken in, however often it is told."""

log = get_logger(__name__)


class NatsGateways:
    """Fills `Gateways`."""

    def __init__(self, bus: Bus, key: str, clock: Clock) -> None:
        self._connection = bus.connection
        self._key = key
        self._clock = clock
        self._heard: dict[str, tuple[float, GatewayAnnounced]] = {}
        self._listens_from = clock.monotonic()
        self._reconnects = bus.connection.stats["reconnects"]
        self._logged_at = -TOLD_AGAIN_SECONDS

    @classmethod
    @asynccontextmanager
    async def listening(cls, bus: Bus, key: str, clock: Clock) -> AsyncIterator["NatsGateways"]:
        """Listen while the block runs."""
        made = cls(bus, key, clock)
        subscription = await bus.connection.subscribe(SUBJECT, cb=made._come)
        try:
            yield made
        finally:
            with suppress(NatsError):
                await subscription.unsubscribe()

    async def heard(self) -> Sequence[GatewayAnnounced]:
        now = self._clock.monotonic()
        if (reconnects := self._connection.stats["reconnects"]) != self._reconnects:
            self._reconnects, self._listens_from = reconnects, now
        if not self._connection.is_connected:
            raise Unavailable("who announces itself is not known now: NATS is away")
        if now - self._listens_from < LISTENED_SECONDS_MIN:
            raise Unavailable("who announces itself is not known yet: it was listened to for too short a time")
        self._forget(now)
        return [told for _, told in self._heard.values()]

    async def _come(self, message: Msg) -> None:
        try:
            told = unsealed(message.data, self._key, self._clock.now())
        except Refused as error:
            self._log("announcement not believed", str(error))
            return
        now = self._clock.monotonic()
        if len(self._heard) >= PROCESSES_MAX and told.process not in self._heard:
            self._forget(now)
            if len(self._heard) >= PROCESSES_MAX:
                self._log("announcement passed over", f"{PROCESSES_MAX} processes are known")
                return
        self._heard[told.process] = (now, told)

    def _forget(self, now: float) -> None:
        self._heard = {name: each for name, each in self._heard.items() if now - each[0] <= SILENT_SECONDS}

    def _log(self, event: str, error: str) -> None:
        now = self._clock.monotonic()
        if now - self._logged_at >= TOLD_AGAIN_SECONDS:
            self._logged_at = now
            log.warning(event, error=error)
