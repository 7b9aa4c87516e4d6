"""When a schedule comes next, by tables: summer time, months that are too short, and what cannot be followed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.errors import Refused
from ergonaut.jobs import JobSpec
from ergonaut.retraining import Outcome, Recipe, TrainingState, Trigger, When
from ergonaut_orchestrator.domain.retraining import Plans, due, ended, next_at, with_pause, with_recipe, with_resume
from ergonaut_orchestrator.domain.schedules import check_schedule, next_scheduled

JOB = JobSpec(name="digits", command=("true",), duration_seconds_expected=5)
MONDAY = datetime(2026, 6, 1, 3, tzinfo=UTC)
WEEKLY = Recipe(job=JOB, when=When(schedule="0 3 * * 1"))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "time_zone", "after", "comes"),
    [
        ("0 3 * * 1", "UTC", "2026-06-01T02:59:59", "2026-06-01T03:00:00"),
        ("0 3 * * 1", "UTC", "2026-06-01T03:00:00", "2026-06-08T03:00:00"),
        ("0 3 * * 1", "UTC", "2026-06-01T03:00:00.5", "2026-06-08T03:00:00"),
        ("0 3 * * 1", "Europe/Berlin", "2026-06-01T00:00:00", "2026-06-01T01:00:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-10-24T12:00:00", "2026-10-25T02:00:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-29T01:00:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00", "2026-10-25T00:30:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00", "2026-10-26T01:30:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00", "2026-10-26T01:30:00"),
        ("0 12 L * *", "UTC", "2026-02-01T00:00:00", "2026-02-28T12:00:00"),
        ("0 0 29 2 *", "UTC", "2026-06-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 4 * jan mon", "America/New_York", "2026-06-01T00:00:00", "2027-01-04T09:00:00"),
    ],
)
def test_a_schedule_comes_next_when_people_of_its_time_zone_expect_it(
    schedule: str, time_zone: str, after: str, comes: str
) -> None:
    assert next_scheduled(When(schedule=schedule, time_zone=time_zone), at(after)) == at(comes)


@given(
    st.sampled_from(["*/20 * * * *", "30 2 * * *", "0 3 * * 0", "15 1,2 25 10 *", "59 2 * 3,10 *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.integers(0, 4 * 365 * 86_400),
)
def test_it_always_comes_later_and_never_again_at_the_same_moment(schedule: str, time_zone: str, seconds: int) -> None:
    when, moment = When(schedule=schedule, time_zone=time_zone), MONDAY + timedelta(seconds=seconds)
    for _ in range(3):
        comes = next_scheduled(when, moment)
        assert comes is not None
        assert comes > moment
        moment = comes


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (
            {"schedule": "0 99 * * *"},
            "when.schedule: '0 99 [*] [*] [*]' is no cron schedule such as '0 3 [*] [*] 1': Bad hour",
        ),
        ({"schedule": "0 0 30 2 *"}, "when.schedule: .* is no cron schedule"),
        ({"schedule": "0 3 * * funday"}, "when.schedule"),
        ({"schedule": "0 3 * * 1", "time_zone": "Europe/Nowhere"}, "when.time_zone: 'Europe/Nowhere' is no time zone"),
        ({"schedule": "0 3 * * 1", "time_zone": "../../etc/passwd"}, "when.time_zone"),
        ({"schedule": "0 3 * * 1", "time_zone": "Europe"}, "when.time_zone"),
    ],
)
def test_what_cannot_be_followed_is_refused_naming_the_field(when: dict[str, str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        check_schedule(When.model_validate(when))


def test_without_a_schedule_no_time_zone_is_asked_for() -> None:
    assert next_scheduled(When(time_zone="Europe/Nowhere"), MONDAY) is None


def test_it_is_due_at_its_time_and_says_which_schedule_it_was() -> None:
    plans = Plans(MONDAY - timedelta(days=1))
    assert due(plans, WEEKLY, MONDAY - timedelta(seconds=1)) is None
    wanted = due(plans, WEEKLY, MONDAY)
    assert wanted is not None
    assert (wanted.trigger, wanted.because) == (Trigger.TIME, "schedule 0 3 * * 1 (UTC)")


def test_a_time_that_nobody_was_there_for_is_made_up_for() -> None:
    assert due(Plans(MONDAY - timedelta(days=1)), WEEKLY, MONDAY + timedelta(hours=5)) is not None


def test_times_in_a_training_its_cool_down_or_a_pause_or_before_the_recipe_are_left_out() -> None:
    outcome = Outcome(trigger=Trigger.DRIFT, state=TrainingState.TURNED_DOWN, began_at=MONDAY)
    trained = ended(Plans(MONDAY - timedelta(days=2)), outcome, MONDAY - timedelta(minutes=30))
    assert next_at(trained, WEEKLY, MONDAY) == MONDAY + timedelta(days=7)
    old = Plans(MONDAY - timedelta(days=90))
    assert next_at(with_recipe(old, MONDAY), WEEKLY, MONDAY) == MONDAY + timedelta(days=7)
    paused = with_pause(old, "release week")
    assert next_at(paused, WEEKLY, MONDAY) is None
    assert next_at(with_resume(paused, MONDAY), WEEKLY, MONDAY) == MONDAY + timedelta(days=7)


def test_whichever_time_is_sooner_counts() -> None:
    both = WEEKLY.model_copy(update={"when": When(schedule="0 3 * * 1", every_seconds=3600)})
    plans = Plans(MONDAY - timedelta(minutes=90))
    assert next_at(plans, both, MONDAY) == MONDAY - timedelta(minutes=30)
    wanted = due(plans, both, MONDAY - timedelta(minutes=30))
    assert wanted is not None
    assert wanted.because == "3600 s since the last"
