"""Conditions hold, branches are drawn and answers combined as people would do it by hand."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut_gateway.domain.pipelines.combining import combined, drawn, key_of, point_of
from ergonaut_gateway.domain.pipelines.conditions import holds
from ergonaut_gateway.domain.pipelines.spec import Combine, Condition, Op, Over, Take
from ergonaut_gateway.domain.tensors import bf16_of, object_array

TENSORS = {
    "p": np.array([[0.1, 0.9, 0.0], [0.4, 0.3, 0.3]], "<f4"),
    "label": np.array([1, 0]),
    "flag": np.array([True, False]),
    "word": object_array([b"de", b"en"]),
    "none": np.zeros((0, 3), "<f4"),
    "half": bf16_of(np.array([1.5, 2.0], "<f4")),
}
PARAMETERS = {"user": "ann", "size": 3, "trial": True, "share": 0.5}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Condition("p", op=Op.GE, values=(0.0,)), True),
        (Condition("p", op=Op.GT, values=(0.0,)), False),
        (Condition("p", op=Op.GT, values=(0.8,), over=Over.ANY), True),
        (Condition("p", op=Op.GE, values=(0.4,), take=Take.MAX), True),
        (Condition("p", op=Op.GT, values=(0.5,), take=Take.MAX), False),
        (Condition("p", op=Op.LE, values=(0.3,), take=Take.MIN), True),
        (Condition("p", op=Op.EQ, values=(1,), take=Take.ARGMAX, over=Over.ANY), True),
        (Condition("p", op=Op.IN, values=(0, 1), take=Take.ARGMAX), True),
        (Condition("label", op=Op.IN, values=(1, 2)), False),
        (Condition("label", op=Op.NE, values=(2,)), True),
        (Condition("label", op=Op.LT, values=(1e300,)), True),
        (Condition("flag", op=Op.EQ, values=(True,), over=Over.ANY), True),
        (Condition("word", op=Op.IN, values=("de", "en")), True),
        (Condition("word", op=Op.EQ, values=("de",)), False),
        (Condition("word", op=Op.NE, values=("fr",)), True),
        (Condition("none", op=Op.GT, values=(9,), take=Take.MAX), True),
        (Condition("none", op=Op.GT, values=(9,), over=Over.ANY), False),
        (Condition("half", op=Op.GE, values=(1.5,)), True),
        (Condition(parameter="user", op=Op.EQ, values=("ann",)), True),
        (Condition(parameter="user", op=Op.LT, values=("bob",)), True),
        (Condition(parameter="user", op=Op.EQ, values=(3,)), False),
        (Condition(parameter="size", op=Op.GE, values=(2.5,)), True),
        (Condition(parameter="size", op=Op.EQ, values=(True,)), False),
        (Condition(parameter="trial", op=Op.EQ, values=(True,)), True),
        (Condition(parameter="trial", op=Op.EQ, values=(1,)), False),
        (Condition(parameter="share", op=Op.IN, values=(0.25, 0.5)), True),
        (Condition(parameter="absent", op=Op.NE, values=("x",)), False),
    ],
)
def test_a_condition_holds_or_does_not(condition: Condition, *, expected: bool) -> None:
    assert holds(condition, TENSORS, PARAMETERS) is expected


def test_a_number_that_is_none_compares_with_nothing() -> None:
    tensors = {"p": np.array([np.nan], "<f4")}
    for op in (Op.EQ, Op.LT, Op.LE, Op.GT, Op.GE):
        assert not holds(Condition("p", op=op, values=(0.5,)), tensors, {})


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=6).filter(lambda weights: sum(weights) > 0.001), st.integers(1, 50)
)
def test_branches_are_drawn_by_their_weights(weights: list[float], more: int) -> None:
    count = 500 * more % 4_001 + 500
    found = Counter(drawn(weights, (at + 0.5) / count) for at in range(count))
    for index, weight in enumerate(weights):
        # Evenly spread points; each boundary may take one.
        assert abs(found[index] - count * weight / sum(weights)) <= 2


def test_a_key_always_goes_the_same_way_and_keys_spread_evenly() -> None:
    points = [point_of(b"user-%d" % number) for number in range(10_000)]
    assert points == [point_of(b"user-%d" % number) for number in range(10_000)]
    assert all(0 <= point < 1 for point in points)
    assert max(abs(point - at / 10_000) for at, point in enumerate(sorted(points))) < 0.02


def test_a_key_is_a_parameter_or_the_first_element_of_a_tensor() -> None:
    assert key_of("ann") == b"ann"
    assert key_of(7) == b"7"
    assert key_of(object_array([b"ann", b"bob"])) == b"ann"
    assert key_of(np.array([[7, 8]], "<i8")) == (7).to_bytes(8, "little")
    assert key_of(np.zeros((0,))) is None
    assert key_of(None) is None


def test_answers_are_meant_by_weight() -> None:
    some, more = np.array([[1.0, 3.0]], "<f4"), np.array([[2.0, 5.0]], "<f4")
    np.testing.assert_allclose(combined([some, more], Combine.MEAN, [1, 1], -1), [[1.5, 4.0]])
    meant = combined([some, more], Combine.WEIGHTED_MEAN, [1, 3], -1)
    np.testing.assert_allclose(meant, [[1.75, 4.5]])
    assert meant.dtype == some.dtype


def test_a_mean_of_halves_is_added_up_in_singles() -> None:
    halves = [np.array([60_000.0], "<f2"), np.array([60_000.0], "<f2")]
    meant = combined(halves, Combine.MEAN, [1, 1], -1)
    assert (meant.dtype, float(meant[0])) == (halves[0].dtype, 60_000.0)


def test_most_win_a_vote_and_the_first_a_tie() -> None:
    votes = [np.array([1, 1, 3]), np.array([2, 1, 4]), np.array([2, 5, 5])]
    assert combined(votes, Combine.VOTE, [1, 1, 1], -1).tolist() == [2, 1, 3]
    assert combined(votes, Combine.VOTE, [3, 1, 1], -1).tolist() == [1, 1, 3]
    words = [object_array([b"a", b"b"]), object_array([b"c", b"b"]), object_array([b"c", b"d"])]
    assert combined(words, Combine.VOTE, [1, 1, 1], -1).tolist() == [b"c", b"b"]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=6))
def test_a_vote_is_what_counting_says(votes: list[list[int]]) -> None:
    won = combined([np.array(vote) for vote in votes], Combine.VOTE, [1.0] * len(votes), -1).tolist()
    for at, winner in enumerate(won):
        column = [vote[at] for vote in votes]
        most = max(Counter(column).values())
        assert winner == next(each for each in column if column.count(each) == most)


def test_answers_stand_behind_one_another_and_must_fit() -> None:
    some, more = np.ones((2, 1), "<f4"), np.zeros((2, 2), "<f4")
    assert combined([some, more], Combine.CONCAT, [1, 1], -1).tolist() == [[1, 0, 0], [1, 0, 0]]
    for how in (Combine.MEAN, Combine.CONCAT):
        with pytest.raises(ValueError, match=r"shape|dimension"):
            combined([some, np.zeros((3, 1), "<f4")], how, [1, 1], -1)
