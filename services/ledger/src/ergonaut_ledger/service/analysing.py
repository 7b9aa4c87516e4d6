"""Tells what measurements say beyond sums: efficiency, recommendations, anomalies. Called by the gRPC door, for one tenant."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from ergonaut.errors import Broken
from ergonaut.events import PUBLIC_TENANT, HostReported, JobSubmitted, RunFinished
from ergonaut.jobs import JobSpec
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_ledger.domain.anomalies import Anomaly
from ergonaut_ledger.domain.efficiency import (
    GATEWAY,
    PHASES_MAX,
    PhaseFootprint,
    UnitFootprint,
    counted,
    model_units,
    phase_footprints,
    unit_footprints,
)
from ergonaut_ledger.domain.elsewhere import Need, Offer
from ergonaut_ledger.domain.footprints import Footprint, RunRecord, active_stretches
from ergonaut_ledger.domain.recommending import (
    HostShares,
    Recommendation,
    RunFacts,
    ranked,
    recommendations_for,
    stop_idle,
)
from ergonaut_ledger.domain.served import ModelFootprint
from ergonaut_ledger.domain.usage import Span
from ergonaut_ledger.ports import Store
from ergonaut_ledger.ports.analysis import AnalysisBooks, Stretch
from ergonaut_ledger.ports.served import ModelBooks
from ergonaut_ledger.service.reporting import Reporting

SLICES_MAX = 50_000
"""Samples of a run that are looked at one by one; up to 3 hours of 4 meters at 1 s each keeps its own edges, and the work stays
below half a second."""

RUNS_WEIGHED_MAX = 20
"""Runs that a tenant's recommendations are drawn from, those that used most: little is to be saved in the others."""

WEIGHING_SECONDS_MAX = 5.0
"""No further run is weighed after this time of the 10 s of a call: long runs are read sample by sample, and advice on those that
used most is worth more than none."""

IDLE_DAYS_MAX = 31
"""Hours of every accelerator are read so far back: what lay idle before says little about the next weeks."""

MODELS_MAX = 200
"""Versions of models that a gateway's run is told by."""

STRETCHES_MAX = 50
"""Of a run that was paused more often, its last stretches stand for all: each is a question to the books."""

HOSTS_MAX = 1_000
BUSY_POINTS = 600
"""Points of a run's power from which its busy watts are taken."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What a run used by phase and by unit."""

    phases: list[PhaseFootprint]
    units: list[UnitFootprint]
    phases_omitted: int


class Analysing:
    """Answers what could be better, always for one tenant."""

    def __init__(self, store: Store, books: AnalysisBooks, clock: Clock, model_books: ModelBooks | None = None) -> None:
        self._store = store
        self._model_books = model_books
        self._books = books
        self._clock = clock
        self._reporting = Reporting(store)

    async def efficiency(self, tenant: str, run_id: str) -> Efficiency:
        """What a run used by phase and by unit. Raises NotFound."""
        footprint = await self._reporting.footprint(tenant, run_id)
        spans, count = await self._books.phases(tenant, run_id, PHASES_MAX)
        slices = await self._books.slices(tenant, run_id, SLICES_MAX) if spans else []
        served = await self._predictions(tenant, footprint)
        # Many phases and samples take a few tenths of a second, which would hold up all other questions.
        phases = await asyncio.to_thread(phase_footprints, spans, slices)
        told = await self._counted(tenant, run_id)
        units = unit_footprints(footprint, counted(footprint.run.metrics, spans, served, told))
        units += model_units(await self._models(tenant, footprint))
        return Efficiency(phases, units, phases_omitted=max(count - len(spans), 0))

    async def recommendations(self, tenant: str, run_id: str, days: int, limit: int) -> list[Recommendation]:
        """What could be done about one run, or about those that used most lately and hosts. Raises NotFound."""
        if run_id:
            facts = await self._facts(tenant, await self._reporting.footprint(tenant, run_id))
            return ranked(recommendations_for(facts), {}, limit)
        give_up_at = self._clock.monotonic() + WEIGHING_SECONDS_MAX
        idle_lately = self._lately(min(days, IDLE_DAYS_MAX))
        hosts = [stop_idle(idle) for idle in await self._books.idle_accelerators(tenant, idle_lately, HOSTS_MAX)]
        found: list[Recommendation] = []
        names: dict[str, str] = {}
        for heavy in await self._books.heaviest_runs(tenant, self._lately(days), RUNS_WEIGHED_MAX):
            if self._clock.monotonic() > give_up_at:
                log.info("not all runs were weighed for advice", tenant=tenant, weighed=len(names))
                break
            footprint = await self._reporting.footprint(tenant, heavy)
            names[heavy] = footprint.run.name
            found += recommendations_for(await self._facts(tenant, footprint))
        return ranked([*found, *(each for each in hosts if each is not None)], names, limit)

    async def anomalies(self, tenant: str, run_id: str, days: int, limit: int) -> list[Anomaly]:
        """What was found, newest first. Raises NotFound for a run that is in no book."""
        found = await self._books.anomalies(tenant, run_id, self._lately(days).starts_at, limit)
        if run_id and not found:
            await self._reporting.footprint(tenant, run_id)
        return found

    def _lately(self, days: int) -> Stretch:
        now = self._clock.now()
        return Stretch(now - timedelta(days=days), now)

    async def _counted(self, tenant: str, run_id: str) -> tuple[str, ...] | None:
        """Which of a run's figures it counted; None while it runs, and for one whose end was told without saying so."""
        body = await self._store.newest_body(tenant, RunFinished.TYPE, run_id)
        if body is None:
            return None
        try:
            finished = RunFinished.model_validate_json(body)
        except ValidationError as error:
            raise Broken(f"the end of {run_id} was kept in a form that this ledger cannot read: {error}") from error
        return finished.counted if "counted" in finished.model_fields_set else None

    async def _predictions(self, tenant: str, footprint: Footprint) -> int:
        """What the gateway served while the run ran, for a run that meters the gateway; 0 for all others."""
        if footprint.run.name != GATEWAY:
            return 0
        return sum([await self._books.predictions(tenant, each) for each in _times_of(footprint, self._clock.now())])

    async def _models(self, tenant: str, footprint: Footprint) -> list[ModelFootprint]:
        """What each model used meanwhile, as the gateway counted it, for a run that meters the gateway."""
        if footprint.run.name != GATEWAY or self._model_books is None:
            return []
        times = _times_of(footprint, self._clock.now())
        during = Span(times[0].starts_at, times[-1].ends_at) if times else None
        return await self._model_books.footprints(tenant, "", during, MODELS_MAX) if during else []

    async def _facts(self, tenant: str, footprint: Footprint) -> RunFacts:
        run = footprint.run
        estimates = await self._reporting.estimates(tenant, footprint)
        offers = await self._store.offers((tenant, PUBLIC_TENANT), run.started_at)
        job = await self._job(tenant, run.job_id)
        return RunFacts(
            footprint=footprint,
            places=estimates.places,
            hours=estimates.hours,
            own_offer=_own_offer(run, offers, estimates.hours[0].offer if estimates.hours else None),
            offers=offers,
            need=_need(job) if job else None,
            deadline=job.deadline if job else None,
            accelerator=await self._accelerator(tenant, run.host),
            busy_watts=await self._busy_watts(tenant, footprint),
            shares=await self._shares(tenant, footprint),
        )

    async def _job(self, tenant: str, job_id: str) -> JobSpec | None:
        body = await self._store.newest_body(tenant, JobSubmitted.TYPE, job_id) if job_id else None
        try:
            return JobSubmitted.model_validate_json(body).job if body else None
        except ValidationError as error:
            raise Broken(f"the job {job_id} was kept in a form that this ledger cannot read: {error}") from error

    async def _accelerator(self, tenant: str, host: str) -> str:
        """The accelerators of a host by name, as its agent told; empty where none did."""
        body = await self._store.newest_body(tenant, HostReported.TYPE, host) if host else None
        try:
            return HostReported.model_validate_json(body).accelerator if body else ""
        except ValidationError as error:
            raise Broken(f"the host {host} was kept in a form that this ledger cannot read: {error}") from error

    async def _busy_watts(self, tenant: str, footprint: Footprint) -> Mapping[str, float]:
        """The power that each accelerator of a run reached for a quarter of the time."""
        if not any(part.component.startswith("gpu") and part.energy_joules for part in footprint.components):
            return {}
        watts: dict[str, list[float]] = {}
        for point in await self._store.power(tenant, footprint.run.run_id, BUSY_POINTS):
            if point.component.startswith("gpu"):
                watts.setdefault(point.component, []).append(point.power_watts)
        return {name: sorted(values)[len(values) * 3 // 4] for name, values in watts.items()}

    async def _shares(self, tenant: str, footprint: Footprint) -> HostShares | None:
        run = footprint.run
        if not run.host or not run.price_microusd_per_hour:
            return None
        times = _times_of(footprint, self._clock.now())
        told = [await self._books.host_shares(tenant, run.host, run.run_id, each) for each in times]
        return _added([each for each in told if each is not None])


def _times_of(footprint: Footprint, now: datetime) -> list[Stretch]:
    """The times in which a run ran: what its host does while it is paused says nothing of it."""
    return [Stretch(*each) for each in active_stretches(footprint.run, now)[-STRETCHES_MAX:]]


def _added(shares: Sequence[HostShares]) -> HostShares | None:
    if not shares:
        return None
    return HostShares(
        run_joules=math.fsum(each.run_joules for each in shares),
        others_joules=math.fsum(each.others_joules for each in shares),
        idle_joules=math.fsum(each.idle_joules for each in shares),
    )


def _own_offer(run: RunRecord, offers: list[Offer], estimated: Offer | None) -> Offer | None:
    """The offer that the run ran under, as the estimates have it: at the prices that it was started with."""
    if estimated is not None:
        return estimated
    return next((offer for offer in offers if run.offer_id and offer.offer_id == run.offer_id), None)


def _need(job: JobSpec) -> Need:
    asked = job.resources
    return Need(asked.vcpus, asked.memory_gib, asked.accelerator, asked.accelerator_count)
