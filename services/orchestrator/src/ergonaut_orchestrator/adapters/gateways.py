"""Listens to what the gateways announce on core NATS. Fills the port `Gateways`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ergonaut.announcements import SILENT_SECONDS
from ergonaut.errors import Unavailable
from ergonaut.gateways import ANNOUNCEMENTS, GatewayAnnounced
from ergonaut_common.bus import Bus
from ergonaut_common.bus.announcements import NatsAnnouncements
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger

LISTENED_SECONDS_MIN = SILENT_SECONDS + 1.0
"""Whoever is there has announced itself within this, so that only then its silence says something."""

PROCESSES_MAX = 4096
"""Announcements remembered: many workers of many gateways. Beyond it new ones are passed over, which the log says."""

TOLD_AGAIN_SECONDS = 60.0
"""How often it is logged that announcements are passed over, however many are."""

log = get_logger(__name__)


class NatsGateways:
    """Fills `Gateways`."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._connection = bus.connection
        self._clock = clock
        self._heard: dict[str, tuple[float, GatewayAnnounced]] = {}
        self._listens_from = clock.monotonic()
        self._reconnects = bus.connection.stats["reconnects"]
        self._logged_at = -TOLD_AGAIN_SECONDS

    @classmethod
    @asynccontextmanager
    async def listening(cls, bus: Bus, key: str, clock: Clock) -> AsyncIterator["NatsGateways"]:
        """Listen while the block runs."""
        made = cls(bus, clock)
        async with NatsAnnouncements(bus, key, ANNOUNCEMENTS).heard(made._come):
            yield made

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

    def _come(self, told: GatewayAnnounced) -> None:
        now = self._clock.monotonic()
        if len(self._heard) >= PROCESSES_MAX and told.process not in self._heard:
            self._forget(now)
            if len(self._heard) >= PROCESSES_MAX:
                self._tell_passed_over(now)
                return
        self._heard[told.process] = (now, told)

    def _forget(self, now: float) -> None:
        self._heard = {name: each for name, each in self._heard.items() if now - each[0] <= SILENT_SECONDS}

    def _tell_passed_over(self, now: float) -> None:
        if now - self._logged_at >= TOLD_AGAIN_SECONDS:
            self._logged_at = now
            log.warning("announcements passed over", error=f"{PROCESSES_MAX} processes are known")
