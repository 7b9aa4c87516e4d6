"""Rankings made of rankings: fused, grouped, recommended, and of several vectors under one id."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.errors import Refused
from ergonaut_vectors.domain.payload import groups, recommending, several
from ergonaut_vectors.domain.payload.fields import FieldType
from ergonaut_vectors.domain.payload.fusing import by_ranks, by_scores


def test_reciprocal_ranks_add_up_and_the_best_of_both_rankings_is_first() -> None:
    fused = by_ranks([["a", "b", "c"], ["b", "d"]])
    assert [key for key, _ in fused] == ["b", "a", "d", "c"]
    assert dict(fused)["b"] == pytest.approx(1 / 62 + 1 / 61)


def test_a_weight_makes_a_ranking_count_more() -> None:
    assert by_ranks([["a", "b"], ["b", "a"]], weights=[1, 2])[0][0] == "b"
    assert by_scores([{"a": 9.0, "b": 0.0}, {"b": 0.2, "a": 0.1}], weights=[1, 3])[0][0] == "b"
    with pytest.raises(Refused, match="weights"):
        by_ranks([["a"]], weights=[1, 2])


def test_scores_are_brought_to_one_scale_before_they_are_added() -> None:
    fused = dict(by_scores([{"a": 1000.0, "b": 500.0, "c": 0.0}, {"c": 0.9, "a": 0.1}, {}, {"b": 7.0}]))
    assert fused == {"a": 1.0, "b": 1.5, "c": 1.0}


@given(st.lists(st.lists(st.integers(0, 9), unique=True), max_size=4))
def test_fusing_by_ranks_keeps_every_key_once(rankings: list[list[int]]) -> None:
    fused = by_ranks(rankings)
    assert sorted(key for key, _ in fused) == sorted({key for ranking in rankings for key in ranking})
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


def test_hits_are_gathered_by_their_values_in_the_order_of_the_best() -> None:
    payloads = [{"a": "x"}, {"a": ["y", "x"]}, {}, {"a": "x"}, {"a": 1}, {"a": True}]
    keys = [groups.keys_of(payload, "a", {}) for payload in payloads]
    found = groups.grouped(range(6), keys, limit=3, size=2)
    assert [(group.key[1], group.hits) for group in found] == [("x", (0, 1)), ("y", (1,)), (1, (4,))]
    assert not groups.complete(found, 3, 2)
    assert groups.complete(groups.grouped(range(6), keys, limit=2, size=1), 2, 1)
    assert (FieldType.BOOLEAN, True) in groups.keys_of(payloads[5], "a", {})


def test_a_search_for_groups_grows_until_it_has_seen_all_or_enough() -> None:
    assert list(groups.widths(3, 2, 100)) == [12, 48, 100]
    assert list(groups.widths(3, 2, 5)) == [5]
    assert list(groups.widths(100, 100, 10**6)) == [groups.WIDTH_MAX]


def test_the_average_of_examples_lies_among_what_is_liked_and_away_from_the_rest() -> None:
    liked, disliked = np.array([[1, 0], [3, 0]], np.float32), np.array([[2, 2]], np.float32)
    assert recommending.averaged(liked, disliked[:0]).tolist() == [2, 0]
    assert recommending.averaged(liked, disliked).tolist() == [2, -2]


def test_what_is_nearer_to_something_liked_than_disliked_comes_first() -> None:
    liked = np.array([[5, 1, 9, 9], [4, 3, 9, 9]], np.float32)
    disliked = np.array([[9, 9, 8, 2]], np.float32)
    assert recommending.ordered(liked.min(axis=0), disliked.min(axis=0), 4).tolist() == [1, 0, 2, 3]
    assert recommending.ordered(liked.min(axis=0), np.full(4, np.inf, np.float32), 2).tolist() == [1, 0]


@pytest.mark.parametrize(("positive", "negative"), [(0, 1), (60, 5)])
def test_recommendations_need_an_example_and_no_crowd(positive: int, negative: int) -> None:
    with pytest.raises(Refused):
        recommending.check_examples(positive, negative)


def test_summed_distances_take_each_vector_of_the_query_to_its_nearest_row() -> None:
    owners = np.array([0, 0, 2])
    distances = np.array([[1, 5, 2], [7, 3, 4]], np.float32)
    rows = several.nearest(owners, distances, 3)
    assert rows.tolist() == [[0, 1], [-1, -1], [2, 2]]
    least = np.where(rows < 0, np.float32(np.inf), distances[np.arange(2), rows])
    assert several.summed(least).tolist() == [4, np.inf, 6]
    assert several.nearest(owners[:0], distances[:, :0], 1).tolist() == [[-1, -1]]
