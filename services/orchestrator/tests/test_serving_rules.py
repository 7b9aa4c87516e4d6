"""How many replicas there are, which are replaced and which end: the rules of `Serving`, without a server."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ergonaut.replicas import ReplicasSpec, ServingInput
from ergonaut_orchestrator.domain.serving import (
    ALL_SILENT_MAX,
    ATTEMPTS_MAX,
    LAST_PAUSE,
    SILENT_MAX,
    Fleet,
    Heard,
    Moves,
    Seen,
    all_leave,
    fleet_of,
    is_settled,
    live,
    looked,
    moves,
    replica_job,
    serving_going_on,
    serving_progress,
    target,
    with_leaving,
    with_spec,
    with_started,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
OTHER = Heard("somebody-else")


class Story:
    """A set whose moves are made at once; gateways are heard when the test says so."""

    def __init__(self, **spec: Any) -> None:
        self.fleet = Fleet(ReplicasSpec(**spec))
        self.now = NOON
        self.started = 0
        self.mute: set[str] = set()
        self.others: tuple[Heard, ...] = (OTHER,)

    def look(self, after_seconds: float = 5.0, **seen: Any) -> Moves:
        self.now += timedelta(seconds=after_seconds)
        heard = tuple(Heard(each) for each in self.ids() if each not in self.mute)
        found = Seen(**{"heard": (*self.others, *heard)} | seen)
        self.fleet = looked(self.fleet, found, self.now)
        made = moves(self.fleet, found, self.now)
        for job_id, because in made.leave:
            self.fleet = with_leaving(self.fleet, job_id, because, self.now)
        for _ in range(made.start):
            self.started += 1
            self.fleet = with_started(self.fleet, f"replica-{self.started}", self.now)
        return made

    def ids(self) -> list[str]:
        return [each.job_id for each in live(self.fleet)]

    def end(self, *job_ids: str) -> dict[str, str]:
        return dict.fromkeys(job_ids, "it ended")

    def leaving(self) -> list[str]:
        return [each.job_id for each in self.fleet.replicas if each.leaving_because]


def settled(**spec: Any) -> Story:
    """As many as the least, all of which serve."""
    story = Story(**spec)
    story.look()
    story.look()
    assert is_settled(story.fleet, story.now)
    return story


def test_the_least_is_there_before_anybody_tells_what_is_wanted() -> None:
    story = Story(replicas_min=2, replicas_max=5)
    assert story.look() == Moves(start=2)
    assert not is_settled(story.fleet, story.now)
    assert story.look() == Moves()
    assert is_settled(story.fleet, story.now)


def test_more_are_there_at_once_when_more_are_wanted_but_never_more_than_the_most() -> None:
    story = settled(replicas_min=1, replicas_max=3)
    assert story.look(forecast=9) == Moves(start=2)


def test_gateways_that_are_none_of_ours_do_a_part_of_what_is_wanted() -> None:
    story = settled(replicas_min=0, replicas_max=9)
    story.others = (OTHER, Heard("another"), Heard("leaves", draining=True))
    story.look(forecast=5)
    assert target(story.fleet) == 3


def test_there_are_fewer_only_when_no_more_were_wanted_for_long_enough() -> None:
    story = settled(replicas_min=1, replicas_max=4, scale_down_after_seconds=60)
    story.look(forecast=4)
    story.look(forecast=2)
    assert (len(story.ids()), target(story.fleet)) == (3, 3)
    story.look(after_seconds=50, forecast=3)
    story.look(after_seconds=9, forecast=2)
    assert len(story.ids()) == 2, "more than a minute ago three were wanted of us, since then two"
    story.look(after_seconds=70, forecast=2)
    assert (len(story.ids()), len(story.leaving())) == (1, 2)


def test_who_ends_first_is_the_youngest() -> None:
    story = settled(replicas_min=1, replicas_max=4, scale_down_after_seconds=0)
    story.look(forecast=3)
    story.look(forecast=3)
    story.look(forecast=2)
    assert (story.ids(), story.leaving()) == (["replica-1"], ["replica-2"])


def test_where_nobody_tells_what_is_wanted_the_number_stays() -> None:
    story = settled(replicas_min=0, replicas_max=4, scale_down_after_seconds=0)
    story.look(forecast=3)
    story.look(after_seconds=600)
    assert target(story.fleet) == 2


def test_a_replica_that_ended_is_replaced_at_once_where_it_had_lived_long() -> None:
    story = settled(replicas_min=2, replicas_max=2)
    story.look(after_seconds=600)
    assert story.look(ended=story.end("replica-1")) == Moves(start=1)
    assert story.ids() == ["replica-2", "replica-3"]


def test_replicas_that_come_to_nothing_are_followed_by_others_ever_later_and_one_at_a_time() -> None:
    story = Story(replicas_min=2, replicas_max=2)
    story.look()
    pauses = []
    for _ in range(12):
        story.look(0, ended=story.end(*story.ids()))
        assert story.ids() == []
        failed_at = story.now
        while not story.ids():
            story.look(1)
        assert len(story.ids()) == 1
        pauses.append((story.now - failed_at).total_seconds())
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (4, LAST_PAUSE.total_seconds())
    told = serving_progress("edge", story.fleet, story.now, stop_because=None)
    assert told.because == "it ended"


def test_one_that_lives_long_ends_the_pauses() -> None:
    story = Story(replicas_min=1, replicas_max=1)
    story.look()
    story.look(ended=story.end("replica-1"))
    story.look(30)
    story.look()
    assert story.fleet.failures == 1
    story.look(60)
    assert (story.fleet.failures, story.fleet.because) == (0, "")


def test_a_replica_that_is_silent_while_others_are_heard_is_replaced() -> None:
    story = settled(replicas_min=1, replicas_max=1)
    story.mute = {"replica-1"}
    assert story.look(3600) == Moves(), "that nobody looked for an hour is not its fault"
    assert story.look(SILENT_MAX.total_seconds()) == Moves()
    made = story.look(1)
    assert (made.start, [job_id for job_id, _ in made.leave]) == (1, ["replica-1"])
    assert "silent for 16 s" in made.leave[0][1]


def test_where_none_is_heard_at_all_more_time_is_given_since_the_bus_may_be_at_fault() -> None:
    story = settled(replicas_min=2, replicas_max=2)
    story.mute, story.others = {"replica-1", "replica-2"}, ()
    story.look()
    assert story.look(ALL_SILENT_MAX.total_seconds()) == Moves()
    assert len(story.look(1).leave) == 2


def test_nobody_is_replaced_while_nobody_can_say_who_is_heard() -> None:
    story = settled(replicas_min=2, replicas_max=2)
    assert story.look(3600, heard=None) == Moves()


def test_a_replica_whose_job_begins_anew_is_given_the_time_of_a_start() -> None:
    story = settled(replicas_min=1, replicas_max=1, ready_within_seconds=180)
    story.mute = {"replica-1"}
    story.look()
    assert story.look(170, not_running=("replica-1",)) == Moves()
    assert [job_id for job_id, _ in story.look(20, not_running=("replica-1",)).leave] == ["replica-1"]


def test_one_that_never_announces_itself_is_replaced_and_counts_as_come_to_nothing() -> None:
    story = Story(replicas_min=1, replicas_max=1, ready_within_seconds=30)
    story.mute = {"replica-1"}
    story.look()
    made = story.look(31)
    assert (made.start, story.leaving(), story.fleet.failures) == (0, ["replica-1"], 1)
    assert story.look(2) == Moves(start=1)
    assert "did not announce itself within 30 s" in story.fleet.because


def test_a_changed_spec_replaces_one_replica_after_the_other_and_so_many_serve_all_the_time() -> None:
    story = settled(replicas_min=3, replicas_max=3)
    story.fleet = with_spec(story.fleet, ReplicasSpec(replicas_min=3, replicas_max=3, drain_seconds=5))
    while not is_settled(story.fleet, story.now):
        story.look()
        assert sum(each.heard_at is not None for each in live(story.fleet)) >= 3
        assert len(live(story.fleet)) <= 4
        story.look(0, ended=story.end(*story.leaving()))
    assert story.started == 6
    assert story.ids() == ["replica-4", "replica-5", "replica-6"]


def test_other_numbers_replace_nobody() -> None:
    story = settled(replicas_min=1, replicas_max=3)
    story.fleet = with_spec(story.fleet, ReplicasSpec(replicas_min=2, replicas_max=3, scale_down_after_seconds=1))
    assert story.look() == Moves(start=1)
    assert story.ids()[0] == "replica-1"


def test_a_new_spec_that_comes_to_nothing_leaves_those_that_serve() -> None:
    story = settled(replicas_min=1, replicas_max=1)
    story.fleet = with_spec(story.fleet, ReplicasSpec(settings={"ERGONAUT_GATEWAY_WORKERS": "nonsense"}))
    for _ in range(100):
        story.look(ended=story.end(*[each for each in story.ids() if each != "replica-1"]))
    assert "replica-1" in story.ids()
    assert story.fleet.failures > 3


def test_what_an_abandoned_spec_was_starting_ends_at_once() -> None:
    story = Story(replicas_min=1, replicas_max=1)
    story.mute = {"replica-1"}
    story.look()
    story.fleet = with_spec(story.fleet, ReplicasSpec(drain_seconds=5))
    made = story.look()
    assert (made.start, story.leaving()) == (1, ["replica-1"])


def test_an_old_replica_is_replaced_where_it_is_cheap_and_clean_by_then() -> None:
    story = settled(replicas_min=1, replicas_max=1, replace_after_seconds=600)
    assert story.look(600) == Moves(start=1)
    assert [job_id for job_id, _ in story.look().leave] == ["replica-1"]


def test_a_set_of_none_ends_all() -> None:
    story = settled(replicas_min=2, replicas_max=2)
    story.fleet = with_spec(story.fleet, ReplicasSpec(replicas_min=0, replicas_max=0))
    assert len(story.look().leave) == 2
    assert len(all_leave(settled(replicas_min=2, replicas_max=2).fleet, "why").leave) == 2


def test_a_replicas_job_is_placed_now_and_waits_for_no_cheaper_hour() -> None:
    fleet = Fleet(ReplicasSpec(settings={"ERGONAUT_GATEWAY_WORKERS": "2"}, budget={"cost_usd": 1.0}, project="edge"))
    job = replica_job(fleet, NOON)
    assert job.deadline is not None
    assert job.deadline - NOON - timedelta(seconds=job.duration_seconds_expected) == timedelta(seconds=60)
    assert job.environment == {"ERGONAUT_GATEWAY_WORKERS": "2", "ERGONAUT_GATEWAY_STOP_SECONDS": "30"}
    assert (job.attempts_max, job.budget.cost_usd, job.project) == (ATTEMPTS_MAX, 1.0, "edge")


def test_a_set_goes_on_in_a_new_history_as_it_was() -> None:
    story = settled(replicas_min=1, replicas_max=4)
    story.look(forecast=3)
    request = ServingInput(name="edge", spec=story.fleet.spec)
    again = ServingInput.model_validate_json(serving_going_on(request, story.fleet).model_dump_json())
    assert fleet_of(again) == story.fleet


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"replicas_min": 3, "replicas_max": 2}, "must be 3 at least"),
        ({"replicas_max": 33}, "less than or equal to 32"),
        ({"settings": {"ERGONAUT_KEYS_FILE": "/tmp/mine"}}, "should match pattern"),
        ({"settings": {"PATH": "/tmp"}}, "should match pattern"),
        ({"settings": {"ERGONAUT_GATEWAY_GRPC_ADDRESS": "0.0.0.0:1"}}, "takes free ports"),
        ({"settings": {"ERGONAUT_GATEWAY_REQUEST_LOG_SALT": "s"}}, "it is a secret"),
        ({"providers": ["moon"]}, "unknown provider"),
        ({"replicas": 2}, "Extra inputs"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_with_the_reason(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ReplicasSpec.model_validate(spec)


@given(
    st.lists(st.tuples(st.integers(0, 12) | st.none(), st.floats(0, 40), st.integers(0, 7), st.booleans()), max_size=60)
)
def test_whatever_happens_there_are_never_too_many_and_none_is_asked_to_end_twice(
    looks: list[tuple[int | None, float, int, bool]],
) -> None:
    story = Story(replicas_min=1, replicas_max=4, scale_down_after_seconds=30, ready_within_seconds=20)
    asked: list[str] = []
    for number, (forecast, seconds, ends, mute) in enumerate(looks):
        if mute:
            story.mute = set(story.ids()[:1])
        if ends == 7:
            story.fleet = with_spec(story.fleet, story.fleet.spec.model_copy(update={"drain_seconds": 1.0 + number}))
        ids = [each.job_id for each in story.fleet.replicas]
        made = story.look(seconds, forecast=forecast, ended=story.end(*ids[:1] if ends == 6 else []))
        asked += [job_id for job_id, _ in made.leave]
        assert len(live(story.fleet)) <= 5
        assert len(asked) == len(set(asked))
        assert 1 <= target(story.fleet) <= 4
        assert len(story.fleet.wanted) <= 13
