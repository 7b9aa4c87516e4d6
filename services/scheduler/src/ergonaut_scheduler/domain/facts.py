"""The facts that the scheduler tells about a record. Ids are derived, so that a fact told twice is one fact."""

from ergonaut.events import Event, JobCancelled, JobPlaced, JobRefused, JobSubmitted
from ergonaut.ids import derived_id
from ergonaut_scheduler.domain.records import JobRecord


def submission_of(record: JobRecord) -> JobSubmitted:
    """The job was taken in."""
    return JobSubmitted(
        event_id=_event_id(record, "submitted"),
        tenant=record.tenant,
        occurred_at=record.submitted_at,
        job_id=record.job_id,
        job=record.spec,
    )


def decision_of(record: JobRecord) -> Event | None:
    """The newest decision about it: placed or refused; None before the first."""
    plan = record.plan
    if plan is None:
        return None
    # After a pause the same attempt may be decided again, and that is another fact.
    again = (str(record.pauses),) if record.pauses else ()
    event_id = _event_id(record, "placed" if plan.chosen else "refused", str(record.planned_attempt), *again)
    if plan.chosen is None:
        return JobRefused(
            event_id=event_id,
            tenant=record.tenant,
            occurred_at=record.changed_at,
            job_id=record.job_id,
            because=plan.refused_because,
        )
    return JobPlaced(
        event_id=event_id,
        tenant=record.tenant,
        occurred_at=record.changed_at,
        job_id=record.job_id,
        placement=plan.chosen.model_copy(),
        weighed=plan.weighed,
    )


def cancellation_of(record: JobRecord) -> JobCancelled:
    """Somebody asked for it to stop."""
    return JobCancelled(
        event_id=_event_id(record, "cancelled"),
        tenant=record.tenant,
        occurred_at=record.changed_at,
        job_id=record.job_id,
        because=record.because,
    )


def _event_id(record: JobRecord, *what: str) -> str:
    return derived_id("event", record.tenant, record.job_id, *what)
