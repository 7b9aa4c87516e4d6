"""Which index is chosen, how it is tuned, and when it is to be built anew."""

import numpy as np
import pytest

from ergonaut_vectors.domain.indexes import choosing
from ergonaut_vectors.domain.indexes.choosing import (
    Stats,
    Wish,
    chosen,
    drifted,
    local_dimension,
    recall,
    sampled,
    tuned,
)
from ergonaut_vectors.domain.indexes.flat import FlatIndex
from ergonaut_vectors.domain.indexes.lists import ListsBuilder
from ergonaut_vectors.domain.indexes.port import Asked, Kind, Plan
from ergonaut_vectors.domain.space import Element, Metric, Space


@pytest.mark.parametrize(
    ("space", "count", "wish", "kind"),
    [
        (Space(128), 5_000, Wish(), Kind.FLAT),
        (Space(1536), 5_000, Wish(), Kind.GRAPH),
        (Space(128), 100_000, Wish(), Kind.GRAPH),
        (Space(128), 100_000, Wish(quick_build=True), Kind.LISTS),
        (Space(128), 100_000, Wish(extra_bytes_per_row_max=20), Kind.LISTS),
        (Space(64), 100_000, Wish(extra_bytes_per_row_max=20), Kind.PRODUCT),
        (Space(256, Metric.HAMMING, Element.BINARY), 1_000_000, Wish(extra_bytes_per_row_max=20), Kind.LISTS),
        (Space(128), 100_000, Wish(kind=Kind.FLAT), Kind.FLAT),
    ],
)
def test_size_dimension_and_wish_choose_the_index(space: Space, count: int, wish: Wish, kind: Kind) -> None:
    assert chosen(space, count, wish).kind is kind


def test_a_higher_recall_is_given_more_links() -> None:
    plans = [chosen(Space(128), 100_000, Wish(recall=wanted)).parameters["links"] for wanted in (0.8, 0.95, 0.97, 0.99)]
    assert plans == sorted(plans)
    assert plans[0] < plans[-1]


def test_rows_that_lie_in_few_directions_are_told_from_those_that_lie_in_many() -> None:
    chance = np.random.default_rng(0)
    flat = np.zeros((2_000, 40), np.float32)
    flat[:, :3] = chance.standard_normal((2_000, 3))
    assert 2 < local_dimension(Space(40), flat) < 4.5
    assert local_dimension(Space(40), chance.standard_normal((2_000, 40)).astype(np.float32)) > 12
    assert local_dimension(Space(40), np.ones((100, 40), np.float32)) == 0


def test_few_codes_are_chosen_where_memory_is_short() -> None:
    assert chosen(Space(128), 100_000, Wish(extra_bytes_per_row_max=40)).parameters == {"codes": "bit"}


def test_the_least_effort_that_finds_enough_is_found() -> None:
    space, chance = Space(12), np.random.default_rng(0)
    rows = chance.standard_normal((4_000, 12)).astype(np.float32)
    index = ListsBuilder().build(space, rows, Plan(Kind.LISTS, {"lists": 64})).index
    sample = sampled(index)
    effort = tuned(index, sample, 0.9)
    assert recall(index, sample, Asked(10, effort)) >= 0.9
    assert recall(index, sample, Asked(10, effort // 2)) < 0.9
    assert tuned(index, sample, 1.1) <= choosing.EFFORT_LAST


def test_an_exact_search_needs_no_effort_and_finds_all() -> None:
    index = FlatIndex(Space(8), np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32))
    sample = sampled(index)
    assert tuned(index, sample, 0.95) == 0
    assert recall(index, sample, Asked(10)) == 1.0


@pytest.mark.parametrize(
    ("stats", "reason"),
    [
        (Stats(1000, 1000, 1000, 0.95, 0.96), None),
        (Stats(1000, 1000, 1000, 0.95, 0.94), None),
        (Stats(1000, 790, 1000, 0.95), "210 of 1000 rows are deleted"),
        (Stats(1000, 1000, 1000, 0.95, 0.9), "recall is 0.900, and 0.950 was asked for"),
        (Stats(5000, 5000, 1000, 0.95), "the index was chosen for 1000 rows and there are 5000"),
        (Stats(0, 0, 0, 0.95), None),
    ],
)
def test_drift_is_told_with_its_reason(stats: Stats, reason: str | None) -> None:
    assert drifted(stats) == reason
