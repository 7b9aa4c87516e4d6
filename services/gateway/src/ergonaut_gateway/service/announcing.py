"""Tells the other gateways every second that this process is there, and how it stands."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ergonaut.announcements import EVERY_SECONDS
from ergonaut.errors import ErgonautError
from ergonaut.gateways import GatewayAnnounced
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.peers import told_models
from ergonaut_gateway.ports import Announcements
from ergonaut_gateway.service.catalogue import Catalogue
from ergonaut_gateway.service.peers import Peers
from ergonaut_gateway.service.predictions import Predictions

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """What an announcement is made of."""

    catalogue: Catalogue
    predictions: Predictions
    replicas_wanted: Callable[[], int | None] = lambda: None
    process_seconds: Callable[[], float] = time.process_time


class Announcing:
    """Tells of one process, and forgets the others that have told nothing for too long."""

    def __init__(self, announcements: Announcements, peers: Peers, told: Told, clock: Clock) -> None:
        self._announcements = announcements
        self._peers = peers
        self._told = told
        self._clock = clock
        self._draining = False
        self._reached = True
        self._told_seconds = clock.monotonic()
        self._had_seconds = told.process_seconds()

    async def tell(self) -> None:
        """Tell once; where nobody can be told that is logged once."""
        try:
            await self._announcements.tell(self._announced())
        except ErgonautError as error:
            if self._reached:
                log.warning("other gateways not told", error=str(error))
            self._reached = False
        else:
            self._reached = True

    async def keep_telling(self) -> None:
        """Tell again and again, for ever."""
        while True:
            await self.tell()
            await self._clock.sleep(EVERY_SECONDS)
            self._peers.sweep()

    async def leave(self) -> None:
        """Have nobody send anything more: this process ends soon."""
        self._draining = True
        await self.tell()

    def _announced(self) -> GatewayAnnounced:
        own, told = self._peers.own, self._told
        models, are_all = told_models(told.catalogue.loaded())
        return GatewayAnnounced(
            replica=own.replica,
            process=own.process,
            address=own.address,
            host=own.host,
            tls=own.tls,
            told_at=self._clock.now(),
            draining=self._draining,
            weight=own.weight,
            at_work=told.predictions.at_work,
            at_work_max=told.predictions.at_work_max,
            cores=self._cores(),
            replicas_wanted=told.replicas_wanted(),
            models=models,
            models_told=are_all,
        )

    def _cores(self) -> float | None:
        """Used since this was last told; None where that is too short a time to say."""
        now, has_seconds = self._clock.monotonic(), self._told.process_seconds()
        passed, used = now - self._told_seconds, has_seconds - self._had_seconds
        if passed < EVERY_SECONDS / 2:
            return None
        self._told_seconds, self._had_seconds = now, has_seconds
        return used / passed
