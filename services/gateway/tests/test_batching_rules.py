"""The rules of batching without any engine: what runs cost, when joining pays, how batches are parted, whose turn it is."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut_common.clock import FakeClock
from ergonaut_gateway.domain.batching import VIEW_BYTES_MAX, Cost, Traits, Turns, first_cost, level_of, may_join, parted
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.models import Signature, TensorSpec
from ergonaut_gateway.domain.repeats import ENTRY_BYTES, Repeats, digest
from ergonaut_gateway.domain.tensors import Tensor, object_array
from ergonaut_gateway.fakes import FakeRunner
from ergonaut_gateway.ports import Stop
from ergonaut_gateway.service import Ticket
from ergonaut_gateway.service.lanes import Lane

seconds = st.floats(1e-6, 1.0)


@given(seconds, seconds, st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_a_cost_is_learned_within_a_half_from_runs_that_scatter_and_have_outliers(
    fixed: float, unit: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    cost = Cost()
    for number in range(600):
        units = int(random.integers(1, 33))
        # Several among the last fifty, which is what is remembered, would be a machine that became slower.
        disturbed = 20.0 if number < 550 and random.random() < 0.01 else float(random.uniform(0.9, 1.1))
        cost.learn(units, (fixed + unit * units) * disturbed)
    for units in (1, 8, 32):
        assert cost.seconds(units) == pytest.approx(fixed + unit * units, rel=0.5)


def test_a_cost_follows_a_machine_that_becomes_slower() -> None:
    cost = first_cost([(1, 0.001), (16, 0.004)])
    for _ in range(200):
        cost.learn(4, 0.016)
    assert cost.seconds(4) == pytest.approx(0.016, rel=0.1)


@pytest.mark.parametrize("size", [1, 16])
def test_a_machine_that_becomes_slower_makes_no_model_worth_joining_that_was_not_and_the_other_way_round(
    size: int,
) -> None:
    small, convolution = first_cost([(1, 7e-6), (16, 9e-6)]), first_cost([(1, 125e-6), (16, 1_925e-6)])
    for _ in range(300):
        small.learn(size, 3 * (7e-6 + 0.133e-6 * (size - 1)))
        convolution.learn(size, 3 * (125e-6 + 120e-6 * (size - 1)))
    assert small.joining_pays(32, 32)
    assert not convolution.joining_pays(32, 32)


def test_what_runs_in_threads_runs_together_as_far_as_that_saves_more_than_it_delays() -> None:
    # A large network gains nothing, a small convolution the hand-overs, a network that is all fixed cost everything.
    assert Cost(0.0005, 0.010, 1).units_together(32, 32) == 0
    assert Cost(5e-6, 120e-6, 1).units_together(32, 32) == pytest.approx(16, abs=1)
    assert Cost(0.010, 0.0001, 1).units_together(32, 32) == 32
    assert Cost(0.010, 0.0001, 1).units_together(1, 1) == 0


def test_one_outlier_changes_little() -> None:
    cost = first_cost([(1, 0.001), (16, 0.004)])
    for _ in range(50):
        cost.learn(1, 0.001)
    cost.learn(1, 1.0)
    assert cost.seconds(1) < 0.0012


def test_joining_pays_for_a_small_network_and_not_for_a_convolution() -> None:
    small = first_cost([(1, 15e-6), (16, 19e-6)])
    convolution = first_cost([(1, 300e-6), (16, 16 * 278e-6)])
    assert small.joining_pays(2, 2)
    assert not convolution.joining_pays(32, 32)
    assert not small.joining_pays(1, 1)


class Steps(FakeClock):
    """A clock that runs take time of."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


class Even(FakeRunner):
    """A runner whose runs take the same time, however many rows they have."""

    def __init__(self, traits: Traits, clock: Steps) -> None:
        super().__init__(traits)
        self._clock = clock

    def compute(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], stop: Stop | None) -> dict[str, Tensor]:
        self._clock.seconds += 1e-5
        return super().compute(inputs, outputs, stop)


def test_where_it_was_wrongly_thought_that_joining_does_not_pay_that_is_found_out() -> None:
    clock = Steps()
    runner = Even(Traits(joinable=True, steady=True, first_runs=((1, 1e-5), (16, 16e-5))), clock)
    lane = Lane("default", runner, 64, lambda *_: None, clock)
    for _ in range(200):
        for _ in range(8):
            wanted = InferenceRequest("", {"x": np.ones((1, 3), dtype="<f4")})
            lane.add(Ticket(lane, wanted, None), wanted)
        for batch in lane.pull_all(clock.seconds):
            batch.compute(clock.monotonic)
            lane.settle(batch, clock.seconds)
    assert runner.batches[0] == 1
    assert runner.batches[-1] == 8


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.booleans())
def test_a_batch_is_parted_into_exactly_the_rows_that_were_joined(rows: list[int], large: bool) -> None:
    rows = [1, *rows]
    width = VIEW_BYTES_MAX // 4 + 1 if large else 2
    outputs = {"y": np.arange(sum(rows) * width, dtype="<f4").reshape(-1, width)}
    pieces = parted(outputs, rows)
    assert pieces is not None
    assert [len(piece["y"]) for piece in pieces] == rows
    np.testing.assert_array_equal(np.concatenate([piece["y"] for piece in pieces]), outputs["y"])
    if large:
        assert all(piece["y"].base is None for piece in pieces)


def test_outputs_with_other_rows_than_were_given_are_not_parted() -> None:
    assert parted({"y": np.ones((1, 2))}, [1, 1]) is None
    assert parted({"y": np.float32(1)}, [1]) is None  # type: ignore[dict-item]


def test_only_models_whose_tensors_all_have_a_free_first_axis_may_join() -> None:
    free, bound = TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "FP32", (1, 2))
    assert may_join(Signature((free,), (free,)))
    assert not may_join(Signature((free, bound), (free,)))
    assert not may_join(Signature((free,), (bound,)))
    assert not may_join(Signature((free,), (TensorSpec("c", "FP32", ()),)))
    assert not may_join(Signature((), (free,)))


def test_priority_one_goes_first_and_the_default_after_the_first_fifteen() -> None:
    assert sorted([0, 1, 2, 15, 17, -3], key=level_of) == [1, 2, 15, 0, -3, 17]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=30))
def test_nobody_waits_for_more_turns_than_there_are_others(arrivals: list[tuple[str, int]]) -> None:
    turns: Turns[tuple[str, int]] = Turns()
    for arrival in arrivals:
        turns.add(arrival[0], arrival)
    served = []
    while (member := turns.next()) is not None:
        served.append(member)
    assert sorted(served) == sorted(set(arrivals))
    # Two turns of a tenant have a turn of each other tenant that still waits between them.
    for index, member in enumerate(served[1:], 1):
        if member[0] == served[index - 1][0]:
            assert all(other[0] == member[0] for other in served[index:])


def request(value: float, name: str = "x") -> InferenceRequest:
    return InferenceRequest("", {name: np.full((1, 2), value, dtype="<f4")})


def test_a_digest_tells_apart_whatever_could_be_answered_differently() -> None:
    requests = [
        request(1),
        request(2),
        request(1, "z"),
        InferenceRequest("", {"x": np.ones((2, 1), dtype="<f4")}),
        InferenceRequest("", {"x": np.ones((1, 2), dtype="<f8")}),
        InferenceRequest("", {"x": object_array([b"a", b"b"])}),
        InferenceRequest("", {"x": object_array([b"ab", b""])}),
        InferenceRequest("", {"x": np.ones((1, 2), dtype="<f4"), "z": np.ones((1, 2), dtype="<f4")}),
    ]
    digests = [digest(each, ("y",)) for each in requests] + [digest(request(1), ("y", "z"))]
    assert len(set(digests)) == len(digests)
    assert digest(InferenceRequest("another id", request(1).inputs), ("y",)) == digests[0]


def test_kept_answers_stay_within_their_bytes_and_the_longest_unasked_goes_first() -> None:
    answer = {"y": np.ones(10, dtype="<f4")}
    repeats = Repeats(3 * (ENTRY_BYTES + 40))
    keys = [("t", "m", 1, bytes([number])) for number in range(4)]
    for key in keys[:3]:
        repeats.keep(key, answer)
    assert repeats.get(keys[0]) is not None
    repeats.keep(keys[3], answer)
    assert [repeats.get(key) is not None for key in keys] == [True, False, True, True]
    repeats.keep(("t", "m", 1, b"large"), {"y": np.ones(10_000)})
    assert (len(repeats), repeats.size_bytes) == (3, 3 * (ENTRY_BYTES + 40))


def test_a_kept_answer_keeps_no_batch_alive_and_cannot_be_changed() -> None:
    batch = np.ones((100, 2), dtype="<f4")
    repeats = Repeats(10_000)
    repeats.keep(("t", "m", 1, b""), {"y": batch[:1]})
    kept = repeats.get(("t", "m", 1, b""))
    assert kept is not None
    assert kept["y"].base is None
    assert not kept["y"].flags.writeable
