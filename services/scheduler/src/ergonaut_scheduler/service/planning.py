"""Weighs a job: as a what-if, or for the job's workflow, and then the decision is recorded and announced."""

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from ergonaut.errors import Conflict, FieldError, Refused
from ergonaut.jobs import JobSpec, Plan
from ergonaut.units import SECONDS_PER_HOUR
from ergonaut_common.observe import get_logger
from ergonaut_scheduler.domain import STARTS_MAX, Forecast, JobRecord, Supply, plan
from ergonaut_scheduler.domain.facts import decision_of, submission_of
from ergonaut_scheduler.domain.records import planned
from ergonaut_scheduler.domain.specs import fault_of
from ergonaut_scheduler.domain.wording import duration
from ergonaut_scheduler.service.spending import Spending
from ergonaut_scheduler.service.world import World

FORECAST_HOURS_MAX = 168
"""What the pricing service tells at most; beyond it the last day repeats."""

FORECASTS_AT_ONCE = 8
"""Zones asked for at the same time: enough to hide the way there, few enough for a small pricing service."""

log = get_logger(__name__)
_decisions = Counter("ergonaut_scheduler_decisions_total", "Decisions announced, by outcome.", ["outcome"])
_seconds = Histogram("ergonaut_scheduler_plan_seconds", "Time to gather offers and weigh a job.")


@dataclass(frozen=True, slots=True)
class Rules:
    """What this installation allows and tells."""

    connected: frozenset[str]
    alternatives_max: int = 12


class Planning:
    """Finds each job an offer and a start, or says why there is none."""

    def __init__(self, world: World, rules: Rules, spending: Spending) -> None:
        self._world = world
        self._rules = rules
        self._spending = spending

    async def what_if(self, tenant: str, spec: JobSpec) -> Plan:
        """What would be chosen now; nothing is kept. Raises Refused for a job that could not be submitted."""
        await self.admit(tenant, spec)
        return await self._weigh(tenant, spec)

    async def place(self, seed: JobRecord) -> Plan:
        """Decide for a job's next attempt, record it and announce it; asked again, the answer is the same.

        `seed` is the record that is made where a workflow that we did not start asks for its job.
        """
        record = await self._known(seed)
        if not record.has_ended and not record.has_plan_for_next_attempt:
            decision = await self._decide(record)
            now = self._world.clock.now()
            record = await self._world.change(
                record.tenant, record.job_id, lambda newest: planned(newest, decision, now)
            )
            if decision.chosen is None and not record.has_ended and not record.has_plan_for_next_attempt:
                # It waits, paused; its workflow asks again later.
                return decision
        return await self._announced(record)

    async def admit(self, tenant: str, spec: JobSpec) -> None:
        """Raise Refused, naming the field, for a job that is wrong in a way that only the world can tell."""
        if fault := await self._fault(tenant, spec):
            raise Refused(fault.message, field=fault.field)

    async def _known(self, seed: JobRecord) -> JobRecord:
        await self._world.jobs.add(seed)
        record = await self._world.record_of(seed.tenant, seed.job_id)
        if record.spec != seed.spec:
            raise Conflict(f"job {seed.job_id} is known with a different spec; choose another job_id")
        if record.plan is None:
            # Also where the record was there already: whoever made it may have died before it could be told.
            await self._world.announcer.tell(submission_of(record))
        return record

    async def _decide(self, record: JobRecord) -> Plan:
        # A job that its workflow brings must end with a decision; an error would leave it without one.
        fault = await self._fault(record.tenant, record.spec)
        if fault is not None:
            return Plan(refused_because=f"{fault.field}: {fault.message}")
        return await self._weigh(record.tenant, record.spec_left)

    async def _announced(self, record: JobRecord) -> Plan:
        if record.has_ended and (record.plan is None or record.plan.chosen is not None):
            return Plan(refused_because=f"job {record.job_id} has ended already: {record.state}")
        decision = decision_of(record)
        assert decision is not None
        assert record.plan is not None
        await self._world.announcer.tell(decision)
        outcome = "placed" if record.plan.chosen else "refused"
        _decisions.labels(outcome).inc()
        log.info("job decided", job_id=record.job_id, tenant=record.tenant, outcome=outcome)
        return record.plan

    async def _fault(self, tenant: str, spec: JobSpec) -> FieldError | None:
        if fault := fault_of(spec):
            return fault
        now = self._world.clock.now()
        if spec.deadline is not None and spec.deadline <= now:
            ago = duration((now - spec.deadline).total_seconds())
            return FieldError("deadline", f"{spec.deadline.isoformat()} passed {ago} ago; give a later one")
        if spec.source and not await self._world.sources.has(tenant, spec.source):
            return FieldError("source", f"no files of {spec.source} are kept; upload them first")
        return None

    async def _weigh(self, tenant: str, spec: JobSpec) -> Plan:
        with _seconds.time():
            offers = await self._world.offers.newest(tenant)
            hours = math.ceil(spec.duration_seconds_expected / SECONDS_PER_HOUR) + STARTS_MAX + 1
            forecasts = await self._forecasts({offer.zone for offer in offers}, min(hours, FORECAST_HOURS_MAX))
            supply = Supply(offers, forecasts, self._rules.connected)
            now, rows = self._world.clock.now(), self._rules.alternatives_max
            hold = self._spending.hold(tenant, spec.project)
            # Thousands of candidates take long enough to be felt by every other caller, were it done on the loop.
            return await asyncio.to_thread(plan, spec, supply, now, rows, hold)

    async def _forecasts(self, zones: Iterable[str], hours: int) -> dict[str, Forecast]:
        at_once = asyncio.Semaphore(FORECASTS_AT_ONCE)

        async def of(zone: str) -> Forecast:
            async with at_once:
                return await self._world.intensity.of_zone(zone, hours)

        try:
            async with asyncio.TaskGroup() as group:
                asked = {zone: group.create_task(of(zone)) for zone in zones}
        except ExceptionGroup as failures:
            # One zone that cannot be had is enough to know no plan; the first says what all say.
            raise failures.exceptions[0] from failures
        return {zone: task.result() for zone, task in asked.items()}
