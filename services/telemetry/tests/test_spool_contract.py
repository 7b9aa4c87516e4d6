"""What every spool promises, checked of the fake and of the file alike."""

from collections.abc import Callable
from datetime import timedelta

from ergonaut.events import IntensityChanged
from ergonaut.runcontext import RunContext
from ergonaut_telemetry.domain import Memory, Terms, Turn, account
from ergonaut_telemetry.fakes import FakeMeters
from ergonaut_telemetry.ports import Spool

Reopen = Callable[[], Spool]


def one_turn(spool: Spool, meters: FakeMeters, terms: Terms) -> Turn:
    """Let a second pass and record it."""
    meters.pass_time(1.0, others=0.5)
    turn = account(spool.remembered(), meters.read(), terms, {})
    spool.record(turn)
    return turn


def test_events_are_handed_out_in_order_and_forgotten_only_when_sent(
    reopen: Reopen, meters: FakeMeters, terms: Terms
) -> None:
    spool = reopen()
    for _ in range(5):
        one_turn(spool, meters, terms)

    first = spool.oldest(2)

    assert [spooled.event.sequence for spooled in first] == [1, 2]
    assert spool.waiting() == 4
    spool.sent(first[-1].position)
    assert [spooled.event.sequence for spooled in spool.oldest(10)] == [3, 4]
    assert spool.waiting() == 2


def test_all_is_still_there_after_a_restart(
    reopen: Reopen, meters: FakeMeters, terms: Terms, run_1: RunContext
) -> None:
    spool = reopen()
    one_turn(spool, meters, terms)
    meters.begin(run_1)
    turn = one_turn(spool, meters, terms)
    producer, waiting = spool.producer, spool.oldest(10)

    spool = reopen()

    assert spool.remembered() == turn.memory
    assert spool.oldest(10) == waiting
    assert spool.producer == producer
    assert spool.run("default", "run-1") == turn.runs[0]


def test_numbers_go_on_after_a_restart_even_when_all_was_sent(reopen: Reopen, meters: FakeMeters, terms: Terms) -> None:
    spool = reopen()
    for _ in range(3):
        one_turn(spool, meters, terms)
    spool.sent(spool.oldest(10)[-1].position)

    spool = reopen()
    one_turn(spool, meters, terms)

    assert [spooled.event.sequence for spooled in spool.oldest(10)] == [3]


def test_a_full_spool_drops_the_oldest_and_the_numbers_show_the_gap(
    reopen: Reopen, meters: FakeMeters, terms: Terms
) -> None:
    spool = reopen()
    turns = 0
    while not spool.dropped():
        one_turn(spool, meters, terms)
        turns += 1
        assert turns < 5_000, "the spool never became full"

    numbers = [spooled.event.sequence for spooled in spool.oldest(10_000)]

    assert numbers == list(range(spool.dropped() + 1, turns))
    assert spool.waiting() == len(numbers)


def test_a_run_that_has_ended_is_not_remembered_but_can_still_be_asked_for(
    reopen: Reopen, meters: FakeMeters, terms: Terms, run_1: RunContext
) -> None:
    spool = reopen()
    meters.begin(run_1)
    one_turn(spool, meters, terms)
    meters.end("run-1")
    for _ in range(3):
        one_turn(spool, meters, terms)

    assert spool.remembered().runs == {}
    totals = spool.run("default", "run-1")
    assert totals is not None
    assert totals.ended
    assert spool.run("other", "run-1") is None


def test_the_newest_intensity_of_a_zone_is_kept_whatever_the_order(
    reopen: Reopen, make_intensity: Callable[..., IntensityChanged]
) -> None:
    spool = reopen()
    old, new = make_intensity(), make_intensity(grams=100)
    new = new.model_copy(update={"occurred_at": old.occurred_at + timedelta(hours=1)})

    assert spool.keep_intensity(new)
    assert not spool.keep_intensity(old)
    spool.keep_intensity(make_intensity(zone="FR"))

    assert {known.zone: known.hours[0].intensity_grams_per_kwh for known in reopen().intensities()} == {
        "DE": 100,
        "FR": 300,
    }


def test_what_was_told_of_a_zone_before_is_kept_too_but_not_for_ever(
    reopen: Reopen, make_intensity: Callable[..., IntensityChanged]
) -> None:
    spool = reopen()
    told = make_intensity()
    for hour in range(5):
        spool.keep_intensity(
            told.model_copy(update={"event_id": f"evt-{hour}", "occurred_at": told.occurred_at + timedelta(hours=hour)})
        )

    assert [known.event_id for known in reopen().intensities()] == ["evt-2", "evt-3", "evt-4"]


def test_a_new_spool_remembers_nothing(reopen: Reopen) -> None:
    spool = reopen()

    assert spool.remembered() == Memory()
    assert spool.oldest(1) == []
    assert spool.waiting() == spool.dropped() == 0
