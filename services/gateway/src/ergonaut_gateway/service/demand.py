"""How busy all gateways are, learned by time of the week, and how many of them will be wanted soon: told to Prometheus, for a
Kubernetes autoscaler to start them before they are needed."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ergonaut.errors import Conflict, ErgonautError
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.demand import (
    SLOT,
    History,
    Report,
    begin_of,
    cores_expected,
    cores_now,
    cores_of,
    replicas_wanted,
)
from ergonaut_gateway.ports import DemandBook

LOOK_SECONDS = 30.0
"""How often the cores in use are looked at and told to the other gateways."""

LATE = timedelta(seconds=2 * LOOK_SECONDS)
"""How long after a quarter of an hour it is added up: every gateway has told its part by then."""

KEPT = timedelta(hours=1)
"""How long a gateway that tells nothing more is remembered: until its last quarter of an hour was learned, and some."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Planning:
    """How far ahead to look, and how much one replica shall do."""

    lead_seconds: float
    cores_per_replica: float


class Demand(Collector):
    """Counts this process's cores, learns from those of all, and says how many replicas will be wanted."""

    def __init__(
        self,
        book: DemandBook,
        clock: Clock,
        planning: Planning,
        *,
        gateway: str,
        process_seconds: Callable[[], float] = time.process_time,
    ) -> None:
        self._book = book
        self._clock = clock
        self._planning = planning
        self._gateway = gateway
        self._process_seconds = process_seconds
        self._begins_at = begin_of(clock.now())
        self._before_begins_at: datetime | None = None
        self._slot_seconds = self._before_seconds = 0.0
        self._looked_at, self._had_seconds = clock.monotonic(), process_seconds()
        self.cores_now = 0.0
        """Used by all gateways together."""
        self.cores_expected = 0.0
        """The most they will use until the lead is over."""

    @property
    def replicas_wanted(self) -> int:
        """To have room for that."""
        return replicas_wanted(self.cores_expected, self._planning.cores_per_replica)

    async def look(self) -> None:
        """Count what was used since the last look, tell it, learn what is over, and look ahead. Raises Unavailable."""
        now = self._clock.now()
        await self._book.tell(self._report(now))
        reports = await self._book.reports(since=now - KEPT)
        self.cores_now = cores_now(reports, since=now - LATE)
        history = await self._learned(reports, begin_of(now - LATE) - SLOT)
        lead = timedelta(seconds=self._planning.lead_seconds)
        self.cores_expected = cores_expected(history, now, self.cores_now, lead)

    async def keep_looking(self) -> None:
        """Look again and again, for ever."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except ErgonautError as error:
                log.warning("demand not looked at", error=str(error))

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures at the moment of a scrape."""
        yield GaugeMetricFamily("ergonaut_gateway_cores_in_use", "Of all gateways together.", self.cores_now)
        yield GaugeMetricFamily(
            "ergonaut_gateway_cores_expected", "The most they will use until the lead is over.", self.cores_expected
        )
        yield GaugeMetricFamily("ergonaut_gateway_replicas_wanted", "To have room for that.", self.replicas_wanted)

    def _report(self, now: datetime) -> Report:
        """What this process used since it was last counted, and in the last quarter of an hour that is over."""
        looked_at, has_seconds = self._clock.monotonic(), self._process_seconds()
        used, passed = has_seconds - self._had_seconds, looked_at - self._looked_at
        self._looked_at, self._had_seconds = looked_at, has_seconds
        self._slot_seconds += used
        begins_at = begin_of(now)
        if begins_at != self._begins_at:
            self._before_begins_at, self._before_seconds = self._begins_at, self._slot_seconds
            self._begins_at, self._slot_seconds = begins_at, 0.0
        cores = used / passed if passed > 0 else 0.0
        return Report(self._gateway, now, cores, self._before_begins_at, self._before_seconds / SLOT.total_seconds())

    async def _learned(self, reports: Sequence[Report], begins_at: datetime) -> History:
        """What is known once a quarter of an hour that is over is in it, whoever takes it in."""
        history, revision = await self._book.history()
        cores = cores_of(reports, begins_at)
        learned = history if cores is None else history.learned(begins_at, cores)
        if learned is not history:
            # Where another gateway comes first it does so with the same sum.
            with suppress(Conflict):
                await self._book.keep_history(learned, revision=revision)
        return learned
