"""What a retraining tells when a training has ended, under an id by which it is told once."""

from ergonaut.events.retraining import RetrainingFinished
from ergonaut.ids import derived_id
from ergonaut.retraining import Outcome


def retraining_finished(tenant: str, model: str, outcome: Outcome) -> RetrainingFinished:
    """How a training ended."""
    assert outcome.ended_at is not None, "it has ended"
    seen = outcome.compared
    return RetrainingFinished(
        event_id=derived_id("event", tenant, outcome.job_id, RetrainingFinished.TYPE),
        tenant=tenant,
        occurred_at=outcome.ended_at,
        model=model,
        trigger=outcome.trigger,
        wanted_because=outcome.wanted_because,
        state=outcome.state,
        because=outcome.because,
        job_id=outcome.job_id,
        run_id=outcome.run_id,
        champion_version=outcome.champion_version,
        challenger_version=outcome.challenger_version,
        metric=seen.metric if seen else "",
        rows=seen.rows if seen else 0,
        champion=seen.champion if seen else None,
        challenger=seen.challenger if seen else None,
        better_rows=seen.better_rows if seen else 0,
        worse_rows=seen.worse_rows if seen else 0,
        p_value=seen.p_value if seen else 1.0,
        began_at=outcome.began_at,
        ended_at=outcome.ended_at,
    )
