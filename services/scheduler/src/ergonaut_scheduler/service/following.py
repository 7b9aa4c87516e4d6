"""Follows what becomes of jobs: by the events of their runs, and by looking after those that were left half done."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from prometheus_client import Gauge

from ergonaut.errors import ErgonautError, NotFound, Unavailable
from ergonaut.events import RunFinished, RunPaused, RunPreempted, RunProgressed, RunStarted
from ergonaut.events.runs import RunEvent
from ergonaut.jobs import JobState
from ergonaut.workflows import RunJobResult
from ergonaut_common.observe import get_logger
from ergonaut_scheduler.domain import JobRecord
from ergonaut_scheduler.domain.records import (
    run_finished,
    run_paused,
    run_preempted,
    run_progressed,
    run_started,
    workflow_ended,
)
from ergonaut_scheduler.ports import Stored
from ergonaut_scheduler.service.submitting import Submitting
from ergonaut_scheduler.service.world import World

EVENT_GRACE = timedelta(seconds=30)
"""How long a workflow's last event may take to come before its result is taken instead."""

KEPT_AFTER_END = timedelta(days=30)
"""Records of jobs that have ended are forgotten when their events leave the stream too; the ledger remembers."""

ENDED_KEPT_MAX = 1000
"""Of one tenant: as many as can be listed. It bounds what a listing reads, and keeps one tenant from filling the book of all."""

log = get_logger(__name__)
_jobs = Gauge("ergonaut_scheduler_jobs", "Jobs on record by state, as of the last look at all of them.", ["state"])
E = TypeVar("E", bound=RunEvent)


class Following:
    """Keeps every record in step with what happened."""

    def __init__(self, world: World, submitting: Submitting) -> None:
        self._world = world
        self._submitting = submitting

    async def started(self, event: RunStarted) -> None:
        """A run has begun."""
        await self._apply(event, run_started)

    async def progressed(self, event: RunProgressed) -> None:
        """A run told where it is."""
        await self._apply(event, run_progressed)

    async def preempted(self, event: RunPreempted) -> None:
        """A run was lost."""
        await self._apply(event, run_preempted)

    async def paused(self, event: RunPaused) -> None:
        """A run has saved its state and given its machine back."""
        await self._apply(event, run_paused)

    async def finished(self, event: RunFinished) -> None:
        """A run has ended for good."""
        record = await self._apply(event, run_finished)
        if record is not None:
            log.info("job ended", job_id=record.job_id, tenant=record.tenant, state=record.state)

    async def look_after_all(self, every_seconds: float) -> None:
        """Make good what was left half done, at once and then again and again; returns only when cancelled."""
        while True:
            try:
                await self.look_after()
            except ErgonautError as error:
                log.warning("jobs are looked after later", because=str(error))
            await self._world.clock.sleep(every_seconds)

    async def look_after(self) -> None:
        """One look at every job. Raises Unavailable where a part is away; what is wrong with one job does not stop others."""
        everything = await self._world.jobs.everything()
        _show(everything)
        for stored in to_forget(everything, self._world.clock.now()):
            await self._world.jobs.remove(stored)
        for stored in everything:
            try:
                await self._look_after_one(stored)
            except Unavailable:
                raise
            except ErgonautError as error:
                record = stored.record
                log.warning("job not made good", job_id=record.job_id, tenant=record.tenant, because=str(error))

    async def _look_after_one(self, stored: Stored) -> None:
        record = stored.record
        if record.has_ended:
            return
        if record.cancel_requested and not record.cancel_passed_on:
            await self._submitting.pass_cancel_on(record)
        if record.handed_over:
            await self._ask_workflow(record)
        else:
            await self._submitting.hand_over(record)

    async def _ask_workflow(self, record: JobRecord) -> None:
        now = self._world.clock.now()
        try:
            end = await self._world.workflows.end_of(record.workflow_id)
        except NotFound as error:
            result = RunJobResult(job_id=record.job_id, run_id="", state="failed", because=str(error))
        else:
            if end is None or now - end.ended_at < EVENT_GRACE:
                return
            result = end.result
        await self._world.change(record.tenant, record.job_id, lambda newest: workflow_ended(newest, result, now))

    async def _apply(self, event: E, change: Callable[[JobRecord, E, datetime], JobRecord]) -> JobRecord | None:
        """Change the job that a run belongs to; runs that a tracker started belong to none."""
        if not event.job_id:
            return None
        now = self._world.clock.now()
        try:
            return await self._world.change(event.tenant, event.job_id, lambda record: change(record, event, now))
        except NotFound:
            log.info("event of a job that is not known", job_id=event.job_id, tenant=event.tenant, type=event.TYPE)
            return None


def _show(everything: Sequence[Stored]) -> None:
    """How many jobs are in each state; one without jobs shows 0."""
    found = Counter(stored.record.state for stored in everything)
    for state in JobState:
        _jobs.labels(state.value).set(found[state])


def to_forget(everything: Sequence[Stored], now: datetime) -> list[Stored]:
    """The records of jobs that ended too long ago, or before too many others of their tenant."""
    ended = defaultdict(list)
    for stored in sorted(everything, key=lambda stored: stored.record.changed_at, reverse=True):
        if stored.record.has_ended:
            ended[stored.record.tenant].append(stored)
    return [
        stored
        for newest_first in ended.values()
        for place, stored in enumerate(newest_first)
        if place >= ENDED_KEPT_MAX or now - stored.record.changed_at > KEPT_AFTER_END
    ]
