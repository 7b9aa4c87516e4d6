"""The events that tell of runs and leases, made of what is known; their ids are derived, so that a fact told twice is one."""

from datetime import datetime

from ergonaut.events.leases import LeaseAcquired, LeaseReleased
from ergonaut.events.runs import (
    PhasesFinished,
    PhaseSpan,
    RunFinished,
    RunPaused,
    RunPreempted,
    RunProgressed,
    RunStarted,
    RunState,
)
from ergonaut.ids import derived_id
from ergonaut_orchestrator.domain.attempts import Attempt, Ending, Lease
from ergonaut_orchestrator.domain.machines import Telling


def lease_acquired(lease: Lease, *, host: str, at: datetime) -> LeaseAcquired:
    """A machine is ours."""
    return LeaseAcquired(
        event_id=derived_id("event", lease.lease_id, LeaseAcquired.TYPE),
        tenant=lease.tenant,
        occurred_at=at,
        lease_id=lease.lease_id,
        job_id=lease.job_id,
        run_id=lease.run_id,
        provider=lease.provider,
        offer_id=lease.offer_id,
        host=host,
    )


def lease_released(lease: Lease, *, because: str, at: datetime) -> LeaseReleased:
    """A machine was given back."""
    return LeaseReleased(
        event_id=derived_id("event", lease.lease_id, LeaseReleased.TYPE),
        tenant=lease.tenant,
        occurred_at=at,
        lease_id=lease.lease_id,
        job_id=lease.job_id,
        run_id=lease.run_id,
        provider=lease.provider,
        because=because,
    )


def run_started(attempt: Attempt, *, host: str, at: datetime) -> RunStarted:
    """A run's program was started."""
    lease, placement = attempt.lease, attempt.placement
    return RunStarted(
        event_id=derived_id("event", lease.run_id, RunStarted.TYPE),
        tenant=lease.tenant,
        occurred_at=at,
        run_id=lease.run_id,
        job_id=lease.job_id,
        name=attempt.job.name,
        project=attempt.job.project,
        attempt=attempt.number,
        host=host,
        provider=placement.provider,
        region=placement.region,
        zone=placement.zone,
        machine_type=placement.machine_type,
        offer_id=placement.offer_id,
        price_microusd_per_hour=placement.price_microusd_per_hour,
        electricity_microusd_per_kwh=placement.electricity_microusd_per_kwh,
        started_at=at,
    )


def run_progressed(lease: Lease, telling: Telling, *, offset: int, at: datetime) -> RunProgressed:
    """The run's newest words; `offset` is how far its journal was read, and numbers them."""
    return RunProgressed(
        event_id=derived_id("event", lease.run_id, RunProgressed.TYPE, str(offset)),
        tenant=lease.tenant,
        occurred_at=at,
        run_id=lease.run_id,
        job_id=lease.job_id,
        phase=telling.phase,
        metrics=telling.metrics,
    )


def phases_finished(lease: Lease, phases: tuple[PhaseSpan, ...], *, first: int, at: datetime) -> PhasesFinished:
    """Phases that the run has left; `first` is how many were told before, and numbers them."""
    return PhasesFinished(
        event_id=derived_id("event", lease.run_id, PhasesFinished.TYPE, str(first)),
        tenant=lease.tenant,
        occurred_at=at,
        run_id=lease.run_id,
        job_id=lease.job_id,
        phases=phases,
    )


def run_paused(ending: Ending) -> RunPaused:
    """An attempt was asked to end for a while; another follows when the job is resumed."""
    return RunPaused(
        event_id=derived_id("event", ending.run_id, RunPaused.TYPE),
        tenant=ending.tenant,
        occurred_at=ending.end.ended_at,
        run_id=ending.run_id,
        job_id=ending.job_id,
        because=ending.end.because,
        budget_id=ending.budget_id,
        checkpoint=ending.checkpoint,
        ended_at=ending.end.ended_at,
    )


def run_preempted(ending: Ending) -> RunPreempted:
    """An attempt was interrupted; another follows."""
    return RunPreempted(
        event_id=derived_id("event", ending.run_id, RunPreempted.TYPE),
        tenant=ending.tenant,
        occurred_at=ending.end.ended_at,
        run_id=ending.run_id,
        job_id=ending.job_id,
        because=ending.end.because,
        ended_at=ending.end.ended_at,
    )


def run_finished(ending: Ending) -> RunFinished:
    """The run has ended for good."""
    end = ending.end
    return RunFinished(
        event_id=derived_id("event", ending.run_id, RunFinished.TYPE),
        tenant=ending.tenant,
        occurred_at=end.ended_at,
        run_id=ending.run_id,
        job_id=ending.job_id,
        state=RunState(end.kind),
        exit_code=end.exit_code,
        because=end.because,
        metrics=end.metrics,
        counted=end.counted,
        artifacts=ending.artifacts,
        started_at=end.started_at,
        ended_at=end.ended_at,
    )
