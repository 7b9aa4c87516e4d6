"""Tells what the host is and how it is measured: when the agent starts, from time to time, and when the meters change."""

from collections import Counter
from collections.abc import AsyncIterator

from ergonaut.errors import Broken, Unavailable
from ergonaut.events import HostReported
from ergonaut.events.telemetry import ComponentReport
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_telemetry.domain import HostReading, Terms, Turn, accelerator_name
from ergonaut_telemetry.ports import Announcer, Meters

LOOK_SECONDS_FIRST = 0.2
"""How often it is looked whether there is a sample to report; others wait for the first report."""

LOOK_SECONDS = 30.0
"""How often it is looked whether a report is due; every waking costs the host, and meters seldom change."""

log = get_logger(__name__)


class Reporting:
    """Knows what was reported last, and reports again when that is old or no longer true."""

    def __init__(self, meters: Meters, terms: Terms) -> None:
        self._facts = meters.facts()
        self._terms = terms
        self._reading: HostReading | None = None
        self._reported: tuple[ComponentReport, ...] = ()
        self._due_at = 0.0

    def reckon_by(self, terms: Terms) -> None:
        """Report by these terms, and soon."""
        self._terms, self._due_at = terms, 0.0

    def notice(self, turn: Turn) -> None:
        """Take notice of how the components are measured now."""
        self._reading = turn.memory.reading

    async def report_if_due(self, announcer: Announcer, clock: Clock, interval_seconds: float) -> bool:
        """Report, unless the last report is young and still true, or there was no sample yet."""
        if self._reading is None:
            return False
        components = _components(self._reading)
        if clock.monotonic() < self._due_at and components == self._reported:
            return False
        await announcer.tell(self._report(components))
        self._reported, self._due_at = components, clock.monotonic() + interval_seconds
        log.info("host reported", host=self._terms.host, components=[part.component for part in components])
        return True

    async def run(self, announcer: Announcer, clock: Clock, interval_seconds: float) -> AsyncIterator[None]:
        """Report for ever; gives a turn to the caller after each report."""
        while True:
            try:
                if await self.report_if_due(announcer, clock, interval_seconds):
                    yield
            except (Unavailable, Broken) as error:
                log.warning("the host's report waits for the bus", error=str(error))
            await clock.sleep(LOOK_SECONDS if self._reported else LOOK_SECONDS_FIRST)

    def _report(self, components: tuple[ComponentReport, ...]) -> HostReported:
        names = Counter(accelerator_name(name) for name in self._facts.accelerators)
        # One machine has one kind as a rule; where it has more, it is offered by the kind that it has most of.
        accelerator, count = names.most_common(1)[0] if names else ("", 0)
        return HostReported(
            tenant=self._terms.tenant,
            host=self._terms.host,
            zone=self._terms.zone,
            cpu_name=self._facts.cpu_name,
            logical_cpus=self._facts.logical_cpus,
            memory_gib=self._facts.memory_gib,
            accelerator=accelerator,
            accelerator_count=count,
            components=components,
        )


def _components(reading: HostReading) -> tuple[ComponentReport, ...]:
    return tuple(
        ComponentReport(
            component=part.reading.component,
            method=part.reading.method,
            source=part.reading.source,
            range_fraction=part.reading.range_fraction,
        )
        for part in reading.components
    )
