"""Takes jobs in and stops them. Every step may be done twice, so that a death between two of them is made good later."""

import asyncio
from collections.abc import Callable

from prometheus_client import Counter

from ergonaut.errors import Conflict, Refused, Unavailable
from ergonaut.ids import NAME_RULE, is_name, new_id
from ergonaut.jobs import SOURCE_BYTES_MAX, JobSpec, source_digest
from ergonaut.workflows import RunJobInput, job_workflow_id
from ergonaut_common.observe import get_logger
from ergonaut_scheduler.domain import JobRecord
from ergonaut_scheduler.domain.facts import cancellation_of, decision_of, submission_of
from ergonaut_scheduler.domain.records import cancel_passed_on, cancel_requested, handed_over, refused
from ergonaut_scheduler.domain.specs import check_reason, fault_of
from ergonaut_scheduler.service.planning import Planning
from ergonaut_scheduler.service.world import World

_GZIP_MAGIC = b"\x1f\x8b"

log = get_logger(__name__)
_submitted = Counter("ergonaut_scheduler_jobs_submitted_total", "Jobs taken in.")


class Submitting:
    """Takes jobs in, hands them to Temporal, passes wishes to stop on."""

    def __init__(self, world: World, planning: Planning) -> None:
        self._world = world
        self._planning = planning

    async def keep_source(self, tenant: str, packed: bytes) -> str:
        """Keep a job's packed files; gives the digest by which a job names them. Raises Refused."""
        if len(packed) > SOURCE_BYTES_MAX:
            raise Refused(f"the files are more than {SOURCE_BYTES_MAX >> 20} MiB when packed", field="chunk")
        if not packed.startswith(_GZIP_MAGIC):
            raise Refused("the files must be a gzipped tar", field="chunk")
        # In a thread, since 64 MiB take long enough to be felt by every other caller.
        source = await asyncio.to_thread(source_digest, packed)
        await self._world.sources.keep(tenant, source, packed)
        return source

    async def submit(self, tenant: str, spec: JobSpec, job_id: str) -> str:
        """Take a job in; its id. It is safe once this returns, even where Temporal is away just now.

        Raises Refused for a wrong job, and Conflict where the id is taken by a different one.
        """
        if job_id and not is_name(job_id):
            raise Refused(f"{job_id!r} cannot be an id; it must be {NAME_RULE}", field="job_id")
        job_id = job_id or new_id("job")
        record = self._new_record(tenant, job_id, spec, job_workflow_id(tenant, job_id))
        known = await self._world.jobs.find(tenant, job_id)
        if known is None:
            await self._planning.admit(tenant, spec)
            if await self._world.jobs.add(record):
                _submitted.inc()
                log.info("job submitted", job_id=job_id, tenant=tenant)
        record = await self._world.record_of(tenant, job_id)
        if record.spec != spec:
            raise Conflict(f"job {job_id} is known with a different spec; choose another job_id")
        try:
            await self.hand_over(record)
        except Unavailable as error:
            log.warning("job will be handed over later", job_id=job_id, tenant=tenant, because=str(error))
        return job_id

    async def hand_over(self, record: JobRecord) -> None:
        """Announce a job's submission and start its workflow, where that is still to be done."""
        if record.handed_over or record.has_ended or record.cancel_requested:
            return
        await self._world.announcer.tell(submission_of(record))
        try:
            await self._world.workflows.start(RunJobInput(job=record.spec, tenant=record.tenant, job_id=record.job_id))
        except Conflict as error:
            because, now = f"job_id: {error}", self._world.clock.now()
            taken = await self._change(record, lambda newest: refused(newest, because, now))
            if decision := decision_of(taken):
                await self._world.announcer.tell(decision)
            raise
        await self._change(record, handed_over)

    async def cancel(self, tenant: str, job_id: str, because: str) -> None:
        """Pass on that a job shall stop. Raises Refused, NotFound, and Conflict where it has ended."""
        check_reason(because)
        record = await self._world.record_of(tenant, job_id)
        if record.has_ended:
            raise Conflict(f"job {job_id} has ended already: {record.state}")
        now = self._world.clock.now()
        record = await self._change(record, lambda newest: cancel_requested(newest, because, now))
        await self.pass_cancel_on(record)

    async def pass_cancel_on(self, record: JobRecord) -> None:
        """Tell Temporal and the world that a job shall stop; one without a run has stopped thereby."""
        await self._world.workflows.cancel(record.workflow_id)
        await self._world.announcer.tell(cancellation_of(record))
        now = self._world.clock.now()
        await self._change(record, lambda newest: cancel_passed_on(newest, now))

    def record_for_workflow(self, tenant: str, job_id: str, spec: JobSpec, workflow_id: str) -> JobRecord:
        """The record of a job whose workflow was started by somebody else's Temporal client. Raises Refused."""
        return handed_over(self._new_record(tenant, job_id, spec, workflow_id))

    def _new_record(self, tenant: str, job_id: str, spec: JobSpec, workflow_id: str) -> JobRecord:
        if fault := fault_of(spec):
            raise Refused(fault.message, field=fault.field)
        now = self._world.clock.now()
        return JobRecord(tenant, job_id, workflow_id, spec, submitted_at=now, changed_at=now)

    async def _change(self, record: JobRecord, change: Callable[[JobRecord], JobRecord]) -> JobRecord:
        return await self._world.change(record.tenant, record.job_id, change)
