"""The rules of the OpenAI-compatible door, and what its file of routes may hold."""

import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.errors import Refused
from ergonaut.ids import is_name
from ergonaut_gateway.openai.domain.breaker import Breaker, BreakerRule
from ergonaut_gateway.openai.domain.choice import PAUSE_SECONDS_MAX, order, pause_seconds
from ergonaut_gateway.openai.domain.events import Passing
from ergonaut_gateway.openai.domain.limits import Bucket
from ergonaut_gateway.openai.domain.tallies import Completions, route_of
from ergonaut_gateway.openai.domain.usage import Figures, Rates, TokenEnergy, figures
from ergonaut_gateway.openai.routes import load_routes
from ergonaut_gateway.openai.upstream import told_seconds

NOW = datetime(2026, 11, 27, tzinfo=UTC)
COUNTS = st.integers(0, 100_000)
PRICED = Rates(usd_per_million_input=1.0, usd_per_million_output=2.0, energy=TokenEnergy(2, 1, 4, "a meter"))


def test_a_bucket_fills_evenly_and_not_beyond_a_minute() -> None:
    bucket = Bucket(60, 0.0)
    bucket.spend(90, 0.0)
    assert bucket.wait_seconds(1, 0.0) == 31
    assert bucket.level(40.0) == 10
    assert bucket.level(1e6) == 60


def test_a_breaker_opens_lets_one_probe_through_and_closes_again() -> None:
    breaker = Breaker(BreakerRule(failures=2, window_seconds=10, open_seconds=5))
    breaker.failed(0)
    breaker.failed(20)
    assert not breaker.is_open
    breaker.failed(21)
    assert not breaker.admits(22)
    assert breaker.admits(26)
    assert not breaker.admits(26)
    breaker.failed(27)
    assert not breaker.admits(31)
    assert breaker.admits(32)
    breaker.succeeded()
    assert breaker.admits(32)


def test_a_probe_whose_caller_went_leaves_room_for_another() -> None:
    breaker = Breaker(BreakerRule(failures=1, open_seconds=5))
    breaker.failed(0)
    assert breaker.admits(5)
    breaker.given_up()
    assert breaker.admits(5)


def test_upstreams_come_by_weight_and_then_as_written() -> None:
    assert order([1, 3, 0], 0.2) == [0, 1, 2]
    assert order([1, 3, 0], 0.3) == [1, 0, 2]
    assert order([0, 0], 0.9) == [0, 1]


def test_pauses_grow_have_an_end_and_heed_what_was_told() -> None:
    pauses = [pause_seconds(number, 0.5, 0) for number in range(20)]
    assert all(later >= sooner for sooner, later in itertools.pairwise(pauses))
    assert pauses[-1] <= PAUSE_SECONDS_MAX
    assert pause_seconds(0, 0.5, 7) == 7


def test_embeddings_have_a_price_but_no_joules_by_output_token() -> None:
    rates = Rates(usd_per_million_input=1, energy=TokenEnergy(1, 1, 1, "a meter"))
    assert figures(rates, 1_000_000, 0).told() == {"cost_usd": 1, "method": "not measured"}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_pass_the_same_however_they_are_cut(size: int) -> None:
    sent = b'data: {"choices":[1]}\r\n\r\ndata: {"choices":[],"usage":{"prompt_tokens":1}}\r\n\r\ndata: [DONE]\r\n\r\n'
    passing = Passing(Rates(), usage_wanted=False)
    passed = b"".join(passing.passed(sent[at : at + size]) for at in range(0, len(sent), size))
    assert passed == b'data: {"choices":[1]}\n\ndata: [DONE]\n\n'
    assert passing.used == Figures(1, 0)
    assert passing.finished


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: {small: {upstreams: [{url: 'http://x', key: sk-1}]}}", "models.small.upstreams.0.key"),
        ("models: {small: {upstreams: [{url: 'http://sk-1@x'}]}}", "must hold no key"),
        ("models: {small: {upstreams: [{url: 'http://x'}], zone: NOWHERE}}", "no carbon intensity is known"),
        ("models: {small: {upstreams: []}}", "models.small.upstreams"),
        ("models: [", "neither YAML nor JSON"),
    ],
)
def test_a_wrong_file_is_told_by_its_name_and_field_and_shows_no_key(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(text)
    with pytest.raises(Refused, match=r"routes\.yaml") as caught:
        load_routes(file)
    assert told in str(caught.value)
    assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("7", 7.0), ("Fri, 27 Nov 2026 10:00:30 GMT", 30.0), ("Fri, 27 Nov 2026 09:00:00 GMT", 0.0), ("soon", 0.0)],
)
def test_a_retry_after_is_understood_as_a_number_and_as_a_date(told: str, seconds: float) -> None:
    assert told_seconds(told, datetime(2026, 11, 27, 10, 0, 0, tzinfo=UTC)) == seconds


@given(st.text(max_size=300))
def test_any_model_s_name_has_a_route_that_can_be_part_of_a_subject(model: str) -> None:
    assert is_name(route_of(model))


@given(st.lists(st.one_of(st.none(), st.builds(lambda i, o: figures(PRICED, i, o), COUNTS, COUNTS)), max_size=20))
def test_sums_of_answers_are_those_of_their_tokens(answers: list[Figures | None]) -> None:
    sums = Completions(NOW)
    for used in answers:
        sums.add(used, failed=False)
    known = [used for used in answers if used is not None]
    assert (sums.requests, sums.untold) == (len(answers), len(answers) - len(known))
    assert sums.tokens_in == sum(used.tokens_in for used in known)
    assert sums.cost_usd == pytest.approx(sum(used.cost_usd or 0.0 for used in known))


def test_a_figure_of_which_one_answer_s_part_is_unknown_is_not_told() -> None:
    sums = Completions(NOW)
    sums.add(figures(PRICED, 10, 10), failed=False)
    sums.add(Figures(10, 10), failed=False)
    told = sums.told("default", "small", NOW)
    assert (told.tokens_out, told.cost_usd, told.energy_joules, told.energy_method) == (20, None, None, "not measured")
