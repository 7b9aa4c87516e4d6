"""What makes a worker count as stuck, as its parent sees it, and where it is said to stand."""

from tempfile import TemporaryFile

import pytest

from ergonaut_gateway.workers.board import Board
from ergonaut_gateway.workers.pulse import (
    BEAT_SECONDS_MAX,
    FRAMES_MAX,
    LOOKS,
    Because,
    Pulse,
    beat_seconds,
    innermost,
    look_seconds,
)

STUCK_SECONDS = 8.0


def test_a_worker_that_beats_is_well() -> None:
    pulse = Pulse(STUCK_SECONDS)
    assert {pulse.look(beats, 0.0) for beats in range(1, 100)} == {None}


def test_a_worker_that_has_been_silent_for_all_looks_is_stuck() -> None:
    pulse = Pulse(STUCK_SECONDS)
    assert pulse.look(5, 0.0) is None
    assert [pulse.look(5, 0.0) for _ in range(LOOKS)] == [None] * LOOKS
    assert pulse.look(5, 0.0) is Because.SILENT


def test_a_worker_that_never_beat_is_stuck_too() -> None:
    pulse = Pulse(STUCK_SECONDS)
    assert Because.SILENT in [pulse.look(0, 0.0) for _ in range(LOOKS + 1)]


def test_one_beat_in_time_begins_the_silence_anew() -> None:
    pulse = Pulse(STUCK_SECONDS)
    for beats in (1, 2, 3):
        assert [pulse.look(beats, 0.0) for _ in range(LOOKS + 1)] == [None] * (LOOKS + 1)


def test_a_worker_whose_run_goes_on_for_longer_than_it_may_is_stuck_though_it_beats() -> None:
    pulse = Pulse(STUCK_SECONDS)
    assert pulse.look(1, STUCK_SECONDS) is None
    assert pulse.look(2, STUCK_SECONDS + 0.1) is Because.OVERDUE


def test_that_a_run_goes_on_is_told_again_after_a_while_and_not_at_each_look() -> None:
    pulse = Pulse(STUCK_SECONDS)
    told = [pulse.look(beats, STUCK_SECONDS + 1) for beats in range(1, 2 * LOOKS + 4)]
    assert [at for at, because in enumerate(told) if because] == [0, LOOKS + 1, 2 * LOOKS + 2]


@pytest.mark.parametrize("stuck_seconds", [0.5, 30.0, 3600.0])
def test_a_worker_beats_at_least_twice_between_two_looks(stuck_seconds: float) -> None:
    assert 2 * beat_seconds(stuck_seconds) <= look_seconds(stuck_seconds)
    assert beat_seconds(stuck_seconds) <= BEAT_SECONDS_MAX


def test_a_row_of_the_board_forgets_the_worker_before() -> None:
    board = Board(2)
    board.beat(1, 2.5)
    board.beat(1, 2.5)
    assert (board.beats(1), board.overdue_seconds(1), board.beats(0)) == (2, 2.5, 0)
    board.begin(1)
    assert (board.beats(1), board.overdue_seconds(1)) == (0, 0.0)


def test_where_a_worker_stands_is_told_by_the_thread_that_runs_its_loop() -> None:
    written = (
        b'Thread 0x01 (most recent call first):\n  File "/a/queue.py", line 1 in get\n\n'
        b'Current thread 0x02 (most recent call first):\n  File "/opt/x/gateway/batching.py", line 42 in turn\n'
        + b"".join(b'  File "/usr/lib/python3.11/asyncio/runners.py", line %d in run\n' % line for line in range(20))
    )
    with TemporaryFile() as file:
        file.write(written)
        file.flush()
        told = innermost(file)
    assert told[:2] == ["gateway/batching.py:42 turn", "asyncio/runners.py:0 run"]
    assert len(told) == FRAMES_MAX


def test_where_a_worker_stands_that_has_written_nothing_is_not_told() -> None:
    with TemporaryFile() as file:
        assert innermost(file) == []
