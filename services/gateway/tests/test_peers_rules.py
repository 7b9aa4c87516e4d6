"""Who may be sent requests, who is chosen, and what is known of others: the rules, without anybody to ask."""

import random
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.gateways import PROTOCOL, GatewayAnnounced
from ergonaut_gateway.domain.batching import Cost, Traits, first_cost
from ergonaut_gateway.domain.peers import (
    FINGERPRINTS_MAX,
    HOP_SECONDS,
    Held,
    Standing,
    chosen,
    fingerprint,
    hop_pays,
    seen_from,
    standing_of,
    told_models,
)
from ergonaut_gateway.openai.domain.breaker import Breaker, BreakerRule

WELL = GatewayAnnounced(
    replica="b", process="b-1", address="10.0.0.2:7405", told_at=datetime(2026, 1, 1, tzinfo=UTC), at_work_max=4
)
WEIGHTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("told", "standing"),
    [
        ({}, Standing.READY),
        ({"at_work": 4}, Standing.FULL),
        ({"draining": True}, Standing.DRAINING),
        ({"address": ""}, Standing.TAKES_NONE),
        ({"protocol": PROTOCOL + 1}, Standing.TAKES_NONE),
    ],
)
def test_nobody_is_sent_requests_who_cannot_take_them(told: dict[str, object], standing: Standing) -> None:
    assert standing_of(WELL.model_copy(update=told), full=False, left_alone=False) is standing


@pytest.mark.parametrize("address", ["127.0.0.1:7405", "127.1.2.3:1", "localhost:7405", "[::1]:7405"])
def test_a_loopback_address_is_one_only_on_its_own_machine(address: str) -> None:
    told = WELL.model_copy(update={"address": address, "host": "a"})
    assert seen_from(told, "a").address == address
    assert seen_from(told, "b").address == ""
    assert seen_from(WELL.model_copy(update={"host": "a"}), "b").address == WELL.address


def test_who_failed_or_had_no_room_is_left_in_peace() -> None:
    assert standing_of(WELL, full=False, left_alone=True) is Standing.LEFT_ALONE
    assert standing_of(WELL, full=True, left_alone=False) is Standing.FULL


def test_that_somebody_was_full_long_ago_says_nothing() -> None:
    told = WELL.model_copy(update={"at_work": 4})
    assert standing_of(told, full=False, left_alone=False, lately=False) is Standing.READY


def test_where_nobody_has_much_to_do_shares_follow_the_weights() -> None:
    weights, draws = [1.0, 2.0, 5.0], 20_000
    chance = random.Random(7).random
    shares = Counter(chosen(weights, [0, 0, 0], chance) for _ in range(draws))
    for index, weight in enumerate(weights):
        # Six standard deviations of the count: by chance alone once in a billion runs, and this seed is always the same.
        expected = draws * weight / sum(weights)
        assert abs(shares[index] - expected) < 6 * (expected * (1 - weight / sum(weights))) ** 0.5


@given(WEIGHTS, st.data(), st.randoms(use_true_random=False))
def test_whoever_has_most_to_do_for_its_weight_is_chosen_only_against_itself(
    weights: list[float], data: st.DataObject, chance: random.Random
) -> None:
    at_work = data.draw(st.lists(st.integers(0, 100), min_size=len(weights), max_size=len(weights)))
    at = chosen(weights, at_work, chance.random)
    loads = [count / weight for count, weight in zip(at_work, weights, strict=True)]
    if len(weights) > 1 and loads.count(max(loads)) == 1:
        assert at != loads.index(max(loads))


def test_under_load_each_comes_to_have_as_much_as_its_weight() -> None:
    weights, at_work = [1.0, 3.0], [0, 0]
    chance = random.Random(3).random
    for _ in range(400):
        at_work[chosen(weights, at_work, chance)] += 1
    assert at_work[1] / at_work[0] == pytest.approx(3.0, rel=0.05)


@given(
    st.sets(st.tuples(st.sampled_from("ab"), st.text("xyz", min_size=1, max_size=4), st.integers(1, 99)), max_size=50)
)
def test_what_a_gateway_holds_is_known_by_what_it_tells(versions: set[tuple[str, str, int]]) -> None:
    told, are_all = told_models(versions)
    held = Held(told, are_all=are_all)
    assert are_all
    assert all(held.may_hold(fingerprint(*version)) for version in versions)
    assert not held.may_hold(fingerprint("c", "other", 1))


def test_who_holds_more_than_can_be_told_is_asked_for_anything() -> None:
    told, are_all = told_models(("default", f"m-{number}", 1) for number in range(FINGERPRINTS_MAX + 1))
    assert not are_all
    assert len(told) < 11_000
    assert Held(told, are_all=are_all).may_hold(fingerprint("c", "other", 1))


@pytest.mark.parametrize("told", ["?", "AAAA", "é", "A" * 7])
def test_who_tells_nonsense_holds_nothing(told: str) -> None:
    assert not Held(told, are_all=True).may_hold(fingerprint("default", "digits", 1))


def test_a_request_is_sent_on_only_where_running_it_takes_longer_than_sending_it() -> None:
    short, long = (first_cost([(1, seconds), (2, 1.1 * seconds)]) for seconds in (HOP_SECONDS / 10, HOP_SECONDS * 10))
    assert not hop_pays(Traits(steady=True), short)
    assert hop_pays(Traits(steady=True), long)
    assert hop_pays(Traits(steady=True), Cost()), "nothing is known of it"
    assert hop_pays(Traits(steady=False), short), "it may loop as often as a caller says"


def test_whoever_fails_each_trial_is_tried_ever_less_often_and_forgiven_by_one_answer() -> None:
    breaker = Breaker(BreakerRule(failures=1, open_seconds=0.5, open_seconds_max=4.0))
    breaker.failed(0.0)
    at, pauses = 0.0, []
    for _ in range(5):
        pause = next(step / 100 for step in range(1000) if breaker.would_admit(at + step / 100))
        pauses.append(pause)
        at += pause
        assert breaker.admits(at)
        assert not breaker.would_admit(at), "one trial at a time"
        breaker.failed(at)
    assert pauses == pytest.approx([0.5, 1.0, 2.0, 4.0, 4.0])
    assert breaker.admits(at + 4.0)
    breaker.succeeded()
    breaker.failed(at + 4.0)
    assert breaker.would_admit(at + 4.5)
