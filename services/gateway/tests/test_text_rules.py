"""The rules of models that read and write text: vectors, drawing, and where an answer ends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut_gateway.domain.text.sampling import Sampler, Sampling, likelihoods, nucleus
from ergonaut_gateway.domain.text.stops import Stops
from ergonaut_gateway.domain.text.vectors import (
    GROUP_TOKENS_MAX,
    Pooling,
    filled,
    filled_length,
    grouped,
    pooled,
    shortened,
)

LOGITS = np.array([1.0, 3.0, 2.0, -1.0], np.float32)


@given(st.lists(st.integers(1, 512), min_size=1, max_size=200))
def test_each_text_runs_once_in_a_group_whose_length_is_its_own_affair(lengths: list[int]) -> None:
    groups = grouped(lengths, 512)
    assert sorted(place for group in groups for place in group.places) == list(range(len(lengths)))
    for group in groups:
        assert {filled_length(lengths[place], 512) for place in group.places} == {group.length}
        assert len(group.places) * group.length <= GROUP_TOKENS_MAX


def test_a_model_of_one_length_has_all_texts_filled_up_to_it() -> None:
    assert [(group.places, group.length) for group in grouped([3, 20], 128, 128)] == [((0, 1), 128)]


def test_what_is_filled_up_says_where_tokens_are() -> None:
    tokens, mask = filled([[5, 6], [7]], 3)
    assert tokens.tolist() == [[5, 6, 0], [7, 0, 0]]
    assert mask.tolist() == [[1, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("pooling", "wanted"),
    [(Pooling.MEAN, [[2, 3], [5, 6]]), (Pooling.CLS, [[1, 2], [5, 6]]), (Pooling.LAST, [[3, 4], [5, 6]])],
)
def test_only_tokens_of_a_text_make_its_vector_and_not_what_fills_it_up(
    pooling: Pooling, wanted: list[list[float]]
) -> None:
    states = np.array([[[1, 2], [3, 4], [99, 99]], [[5, 6], [99, 99], [99, 99]]], np.float32)
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    assert pooled(states, mask, pooling).tolist() == wanted


def test_a_vector_is_cut_before_it_is_made_of_length_one() -> None:
    vectors = np.array([[3.0, 4.0, 12.0]], np.float32)
    assert shortened(vectors, 2, normalized=True).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]
    assert shortened(vectors, 2, normalized=False).tolist() == [[3, 4]]
    assert shortened(np.zeros((1, 2), np.float32), None, normalized=True).tolist() == [[0, 0]]


def test_without_temperature_the_likeliest_is_drawn() -> None:
    sampler = Sampler(Sampling(temperature=0.0), 0)
    assert [sampler.draw(LOGITS) for _ in range(3)] == [1, 1, 1]


def test_the_same_seed_draws_the_same_and_another_something_else() -> None:
    def drawn(seed: int) -> list[int]:
        sampler = Sampler(Sampling(seed=seed), 1)
        return [sampler.draw(LOGITS) for _ in range(40)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert drawn(-1) == drawn(2**64 - 1)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    sampler = Sampler(Sampling(temperature=2.0), 5)
    drawn = np.bincount([sampler.draw(LOGITS) for _ in range(4_000)], minlength=4) / 4_000
    assert drawn == pytest.approx(likelihoods(LOGITS.astype(float) / 2.0), abs=0.03)


def test_penalties_make_what_was_drawn_less_likely() -> None:
    sampler = Sampler(Sampling(temperature=0.0, frequency_penalty=0.6, presence_penalty=0.5), 0)
    assert [sampler.draw(LOGITS) for _ in range(4)] == [1, 2, 1, 1]


def test_a_temperature_next_to_none_is_none() -> None:
    assert Sampler(Sampling(temperature=1e-300), 0).draw(LOGITS * 1e30) == 1


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=60), st.floats(0.01, 0.999))
def test_the_nucleus_is_the_fewest_tokens_that_have_the_share(logits: list[float], top_p: float) -> None:
    likely = likelihoods(np.array(logits))
    kept = nucleus(likely, top_p)
    ordered = np.sort(likely)[::-1]
    assert likely[kept].tolist() == pytest.approx(ordered[: len(kept)].tolist())
    assert likely[kept].sum() >= top_p - 1e-9
    assert likely[kept][:-1].sum() < top_p + 1e-9


@given(
    st.text("abc", max_size=60),
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(1, 7),
)
def test_an_answer_ends_before_its_first_stop_however_it_is_cut(text: str, words: list[str], size: int) -> None:
    stops = Stops(words)
    passed = ""
    for at in range(0, len(text), size):
        passed += stops.passed(text[at : at + size])
    passed += stops.rest()
    assert stops.met == any(word in text for word in words)
    assert text.startswith(passed)
    if stops.met:
        assert not any(word in passed for word in words)
        assert any(text[len(passed) :].startswith(word) for word in words)
    else:
        assert passed == text
