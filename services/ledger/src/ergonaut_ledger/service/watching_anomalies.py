"""Looks for anomalies in what was measured lately, again and again, and tells of each once. Run by `main` in the background."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from ergonaut.errors import Broken, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_ledger.domain.anomalies import (
    Anomaly,
    Step,
    Subject,
    Watts,
    drift,
    event_of,
    idle_accelerators,
    not_yet_told,
    power_spikes,
)
from ergonaut_ledger.domain.efficiency import PhaseFootprint, phase_footprints
from ergonaut_ledger.ports import Announcer
from ergonaut_ledger.ports.analysis import AnalysisBooks, Stretch

LOOK_SECONDS = 60.0
"""Pause between two looks: an anomaly of ten minutes is told within a tenth of that, and a look takes well under a second."""

LOOK_BACK = timedelta(minutes=45)
"""Long enough for 61 steps around a spike and for an idle stretch of ten minutes with what was before it."""

STEP_SECONDS = 10
"""A step of a power series: a peak of some seconds still stands out, and 45 minutes are 270 points."""

TENANTS_MAX, SERIES_MAX, RUNS_MAX = 1_000, 500, 50
"""Bounds of one look: tenants; then of each the series that used most energy, and the runs that told of phases last."""

STEPS_MAX, SLICES_MAX = 1_000, 20_000
"""Of one run in one look: the last steps, and the samples since the first of them; drift looks at 300 steps of a kind."""

SAMPLE_LONGEST = timedelta(minutes=2)
"""A sample that began so long before a step may still reach into it; nobody samples less often."""

KNOWN_MAX = 1_000
KNOWN_DAYS = 7
"""How long an anomaly is remembered; what is still wrong after that is worth another word."""

TELL_MAX = 20
"""Anomalies of one tenant told in one look; more at once are one trouble, and the next look tells of the rest."""

log = get_logger(__name__)


class AnomalyWatching:
    """Finds anomalies and tells of them."""

    def __init__(self, books: AnalysisBooks, announcer: Announcer, clock: Clock) -> None:
        self._books = books
        self._announcer = announcer
        self._clock = clock

    async def watch(self) -> None:
        """Look for ever. Trouble with the books or the bus passes, and the next look finds the same again."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except (Unavailable, Broken) as error:
                log.warning("no anomalies could be looked for", because=str(error))

    async def look(self) -> int:
        """Look once; how many anomalies were told. Raises Unavailable."""
        since = self._clock.now() - LOOK_BACK
        return sum([await self._look_at(tenant, since) for tenant in await self._books.tenants(since, TENANTS_MAX)])

    async def _look_at(self, tenant: str, since: datetime) -> int:
        now = self._clock.now()
        series = await self._books.power_of_runs(tenant, Stretch(since, now), STEP_SECONDS, SERIES_MAX)
        steps: dict[Subject, list[Step]] = {}
        for run_id in await self._books.runs_with_phases(tenant, since, RUNS_MAX):
            steps |= await self._steps(tenant, run_id)
        series = await self._without_not_held(tenant, series, since)
        found = await asyncio.to_thread(_found, series, steps)
        known = await self._books.anomalies(tenant, "", now - timedelta(days=KNOWN_DAYS), KNOWN_MAX) if found else []
        new = not_yet_told(found, known)[:TELL_MAX]
        for anomaly in new:
            await self._announcer.tell(event_of(anomaly, tenant, now))
            log.info("anomaly found", tenant=tenant, kind=anomaly.kind, run_id=anomaly.subject.run_id)
        return len(new)

    async def _without_not_held(
        self, tenant: str, series: dict[Subject, list[Watts]], since: datetime
    ) -> dict[Subject, list[Watts]]:
        """Without accelerators that are charged to a run with nothing because they are its host's and not its own."""
        unused = {subject for subject, points in series.items() if _is_unused_accelerator(subject, points)}
        uses = await self._books.accelerator_use(tenant, sorted({subject.run_id for subject in unused}), since)
        not_held = {of for of in unused if of.run_id not in uses or not uses[of.run_id].holds(of)}
        return {subject: points for subject, points in series.items() if subject not in not_held}

    async def _steps(self, tenant: str, run_id: str) -> dict[Subject, list[Step]]:
        """A run's numbered phases, by their names."""
        spans = await self._books.newest_steps(tenant, run_id, STEPS_MAX)
        if not spans:
            return {}
        slices = await self._books.slices(tenant, run_id, SLICES_MAX, spans[0].started_at - SAMPLE_LONGEST)
        return _by_name(run_id, await asyncio.to_thread(phase_footprints, spans, slices))


def _is_unused_accelerator(subject: Subject, points: Sequence[Watts]) -> bool:
    return subject.component.startswith("gpu") and not any(point.power_watts for point in points)


def _by_name(run_id: str, phases: Sequence[PhaseFootprint]) -> dict[Subject, list[Step]]:
    steps: dict[Subject, list[Step]] = {}
    for phase in phases:
        if phase.energy_joules is not None:
            step = Step(phase.span.started_at, phase.span.ended_at, phase.energy_joules)
            steps.setdefault(Subject(run_id, "", phase.span.phase), []).append(step)
    return steps


def _found(series: dict[Subject, list[Watts]], steps: dict[Subject, list[Step]]) -> list[Anomaly]:
    found: list[Anomaly] = []
    for subject, points in series.items():
        found += power_spikes(subject, points)
        if subject.component.startswith("gpu"):
            found += idle_accelerators(subject, points)
    for subject, told in steps.items():
        found += drift(subject, told)
    return found
