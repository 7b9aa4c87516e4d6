"""Which index is chosen for which rows and wishes."""

import numpy as np
import pytest

from ergonaut_vectors.domain.indexes.choosing import Wish, chosen, local_dimension
from ergonaut_vectors.domain.indexes.port import Kind
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
