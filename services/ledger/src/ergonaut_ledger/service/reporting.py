"""Tells what was used, by run. Called by the gRPC door, always for one tenant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC

from pydantic import ValidationError

from ergonaut.errors import Broken, NotFound
from ergonaut.events import PUBLIC_TENANT, JobSubmitted
from ergonaut_ledger.domain.elsewhere import (
    Days,
    Elsewhere,
    HourOfDay,
    Measured,
    Need,
    Offer,
    method_sentence,
    other_hours,
    other_places,
    with_used_accelerators,
)
from ergonaut_ledger.domain.footprints import Footprint, PowerPoint, RunRecord, active_seconds, footprint_of
from ergonaut_ledger.ports import KeptEvent, Store

OWN_FIGURE = "settings"
"""What samples tell as the source of an intensity that who runs them set, such as that of a contract for electricity."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """A run at other places and hours, and how that was reckoned."""

    places: list[Elsewhere]
    hours: list[Elsewhere]
    method: str


class Reporting:
    """Answers questions, always for one tenant."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def runs(self, tenant: str, limit: int) -> list[RunRecord]:
        """The tenant's newest runs."""
        return await self._store.runs(tenant, limit)

    async def footprint(self, tenant: str, run_id: str) -> Footprint:
        """What a run used. Raises NotFound."""
        run = await self._store.run(tenant, run_id)
        components = await self._store.components(tenant, run_id)
        coverage = await self._store.coverage(tenant, run_id)
        footprint = footprint_of(run_id, run, components, coverage)
        if footprint is None:
            raise NotFound(f"no run {run_id!r} is in the ledger; `ergonaut runs` lists those that are")
        return footprint

    async def power(self, tenant: str, run_id: str, points_max: int) -> list[PowerPoint]:
        """A run's power over time. Raises NotFound."""
        points = await self._store.power(tenant, run_id, points_max)
        if not points:
            await self.footprint(tenant, run_id)
        return points

    async def elsewhere(self, tenant: str, run_id: str) -> Estimates:
        """What a run would have used at other places and hours. Raises NotFound."""
        return await self.estimates(tenant, await self.footprint(tenant, run_id))

    async def estimates(self, tenant: str, footprint: Footprint) -> Estimates:
        """What the run of a footprint would have used at other places and hours."""
        if footprint.coverage is None or not any(part.energy_joules is not None for part in footprint.components):
            return Estimates([], [], "No energy of this run was measured, so there is nothing to carry over.")
        tenants = (tenant, PUBLIC_TENANT)
        offers = await self._store.offers(tenants, footprint.run.started_at)
        days = await self._store.days(tenants, footprint.run.started_at)
        own = _own_offer(footprint, offers)
        measured = _measured(footprint, own, days)
        asked = await self._need(tenant, footprint.run.job_id, own)
        need = with_used_accelerators(asked, own, footprint.accelerators_used)
        places = other_places(measured, need, offers, days)
        return Estimates(places, other_hours(measured, days), method_sentence(footprint.not_measured))

    async def events(self, tenant: str, area: str, key: str, limit: int) -> list[KeptEvent]:
        """The tenant's newest events; those of `pricing` are public and shown when asked for by area."""
        tenants = (tenant, PUBLIC_TENANT) if area == "pricing" else (tenant,)
        return await self._store.events(tenants, area, key, limit)

    async def _need(self, tenant: str, job_id: str, own: Offer) -> Need:
        """What the run's job asked for; for a run without a job, what it ran on."""
        body = await self._store.newest_body(tenant, JobSubmitted.TYPE, job_id) if job_id else None
        if body is None:
            return Need(own.vcpus, own.memory_gib, own.accelerator, own.accelerator_count)
        try:
            asked = JobSubmitted.model_validate_json(body).job.resources
        except ValidationError as error:
            raise Broken(f"the job {job_id} was kept in a form that this ledger cannot read: {error}") from error
        return Need(asked.vcpus, asked.memory_gib, asked.accelerator, asked.accelerator_count)


def _own_offer(footprint: Footprint, offers: Sequence[Offer]) -> Offer:
    """The offer that the run ran under, at the prices that it was started with."""
    run, coverage = footprint.run, footprint.coverage
    known = next((offer for offer in offers if run.offer_id and offer.offer_id == run.offer_id), None)
    assert coverage is not None, "only measured runs are carried over"
    return Offer(
        offer_id=run.offer_id or "here",
        provider=run.provider,
        region=run.region,
        zone=run.zone,
        machine_type=run.machine_type,
        vcpus=known.vcpus if known else 0,
        memory_gib=known.memory_gib if known else 0,
        accelerator=known.accelerator if known else "",
        accelerator_count=known.accelerator_count if known else 0,
        price_microusd_per_hour=run.price_microusd_per_hour,
        electricity_microusd_per_kwh=run.electricity_microusd_per_kwh,
        pue=coverage.pue,
        billing_increment_seconds=known.billing_increment_seconds if known else 1,
    )


def _measured(footprint: Footprint, own: Offer, days: Days) -> Measured:
    run, coverage = footprint.run, footprint.coverage
    assert coverage is not None, "only measured runs are carried over"
    kinds = sorted({source.partition(":")[0] for source in coverage.intensity_sources})
    return Measured(
        own=own,
        started_at=run.started_at,
        duration_seconds=active_seconds(run, coverage.last_at),
        energy_joules=footprint.energy_joules,
        own_hour=HourOfDay(coverage.intensity_grams_per_kwh, " and ".join(kinds), _range_fraction(run, kinds, days)),
        has_own_figure=any(source.endswith(f": {OWN_FIGURE}") for source in coverage.intensity_sources),
    )


def _range_fraction(run: RunRecord, kinds: Sequence[str], days: Days) -> float | None:
    """How far the intensity of a run's samples may be off: samples do not tell it, the zone's own hour of the same kind does."""
    hour = days.get(run.zone, {}).get(run.started_at.astimezone(UTC).hour)
    return hour.range_fraction if hour is not None and [hour.kind] == list(kinds) else None
