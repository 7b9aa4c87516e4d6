"""Events as contracts: subjects, unknown fields, ids."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from ergonaut.events import EVENT_TYPES, JobSubmitted, RunFinished, subject_of
from ergonaut.events.base import Event

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_subject_says_tenant_area_noun_verb_and_key() -> None:
    event = RunFinished(tenant="default", run_id="run-1", state="succeeded", ended_at=NOW)
    assert event.subject == "ergonaut.v1.default.runs.run.finished.run-1"


@pytest.mark.parametrize("tenant", ["", "a.b", "a>b", "A", "*x", "a b"])
def test_a_tenant_cannot_break_out_of_its_subject(tenant: str) -> None:
    with pytest.raises(ValueError, match="cannot be part of a subject"):
        subject_of("runs.run.finished", tenant=tenant)
    with pytest.raises(ValidationError):
        RunFinished(tenant=tenant, run_id="run-1", state="succeeded", ended_at=NOW)


def test_a_reader_ignores_fields_of_a_newer_teller() -> None:
    told = {
        "tenant": "default",
        "job_id": "job-1",
        "newer": 1,
        "job": {
            "name": "digits",
            "command": ["true"],
            "duration_seconds_expected": 1,
            "colour": "red",
            "budget": {"cost_usd": 1, "water_litres": 2},
        },
    }
    event = JobSubmitted.model_validate(told)
    assert event.job.budget.cost_usd == 1


def test_every_event_type_is_made_of_three_words() -> None:
    assert all(len(name.split(".")) == 3 for name in EVENT_TYPES)


def test_a_class_with_a_wrong_type_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="must be"):
        type("Wrong", (Event,), {"TYPE": "two.words", "__annotations__": {}, "__module__": __name__})


def test_a_loss_that_became_nan_does_not_cost_the_whole_fact() -> None:
    metrics = {"loss": float("nan"), "accuracy": 0.5}
    event = RunFinished(tenant="default", run_id="run-1", state="succeeded", ended_at=NOW, metrics=metrics)
    assert RunFinished.model_validate_json(event.model_dump_json()).metrics == {"accuracy": 0.5}
