"""The rules by which a canary takes over or is taken back: right at every look, not only at one."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ergonaut_orchestrator.domain.canary import Guard, Outcomes, Rule, Verdict, bounds, judged, split_is_off

RULE = Rule(error=0.05, requests_min=100)


def guard(champion: tuple[int, int], canary: tuple[int, int], margin: float = 0.01) -> Guard:
    return Guard("errors", Outcomes(*champion), Outcomes(*canary), margin)


@given(st.integers(1, 10_000), st.data())
def test_the_bounds_hold_the_share_itself_and_are_wider_than_those_of_a_single_look(
    trials: int, data: st.DataObject
) -> None:
    bad = data.draw(st.integers(0, trials))
    low, high = bounds(Outcomes(trials, bad), 0.05)
    once = stats.binomtest(bad, trials).proportion_ci(0.95, method="wilson")
    assert 0.0 <= low <= bad / trials <= high <= 1.0
    assert low <= once.low + 1e-12
    assert high >= once.high - 1e-12


def test_nothing_looked_at_says_nothing() -> None:
    assert bounds(Outcomes(), 0.05) == (0.0, 1.0)
    assert judged([guard((0, 0), (0, 0))], RULE).verdict is Verdict.WAIT


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5])
def test_looking_after_every_request_the_true_share_stays_within_the_bounds(share: float) -> None:
    left_out = 0
    for seed in range(200):
        draws, bad = random.Random(seed), 0
        for trials in range(1, 401):
            bad += draws.random() < share
            low, high = bounds(Outcomes(trials, bad), 0.05)
            if not low <= share <= high:
                left_out += 1
                break
    assert left_out <= 200 * 0.05


def test_a_canary_that_fails_more_often_is_taken_back_before_long() -> None:
    draws, champion, canary = random.Random(1), 0, 0
    for trials in range(1, 2_000):
        champion += draws.random() < 0.01
        canary += draws.random() < 0.10
        judgement = judged([guard((trials, champion), (trials, canary))], RULE)
        if judgement.verdict is not Verdict.WAIT:
            break
    assert judgement.verdict is Verdict.ROLL_BACK
    assert trials < 500
    assert "errors" in judgement.because


def test_one_that_is_as_good_takes_over_and_is_hardly_ever_taken_back() -> None:
    verdicts = []
    for seed in range(60):
        draws, champion, canary = random.Random(seed), 0, 0
        verdict = Verdict.WAIT
        for looks in range(1, 101):
            champion += sum(draws.random() < 0.01 for _ in range(100))
            canary += sum(draws.random() < 0.01 for _ in range(100))
            verdict = judged([guard((100 * looks, champion), (100 * looks, canary), margin=0.02)], RULE).verdict
            if verdict is not Verdict.WAIT:
                break
        verdicts.append(verdict)
    assert verdicts.count(Verdict.ROLL_BACK) <= 3
    assert verdicts.count(Verdict.PROMOTE) >= 55


def test_all_questions_must_be_answered_well_and_one_answered_badly_is_enough() -> None:
    fine, unknown, bad = (
        guard((50_000, 50), (50_000, 50)),
        guard((0, 0), (0, 0)),
        guard((500, 0), (500, 100)),
    )
    assert judged([fine, fine], RULE).verdict is Verdict.PROMOTE
    assert judged([fine, unknown], RULE).verdict is Verdict.WAIT
    assert judged([fine, unknown, bad], RULE).verdict is Verdict.ROLL_BACK


def test_few_requests_are_not_enough_however_good_they_are() -> None:
    rule = Rule(error=0.05, requests_min=1_000)
    judgement = judged([guard((5_000, 0), (900, 0), margin=0.05)], rule)
    assert judgement.verdict is Verdict.WAIT
    assert judgement.because == "900 of 1000 requests were looked at"


def test_a_right_split_is_hardly_ever_taken_for_a_wrong_one_however_often_it_is_looked_at() -> None:
    alarms = 0
    for seed in range(100):
        draws, counts = random.Random(seed), {"a": 0, "b": 0}
        for _ in range(200):
            for _ in range(10):
                counts["a" if draws.random() < 0.9 else "b"] += 1
            if split_is_off(counts, {"a": 90, "b": 10}, 0.05):
                alarms += 1
                break
    assert alarms <= 5


def test_requests_that_went_where_nothing_should_go_are_a_wrong_split() -> None:
    assert split_is_off({"a": 10, "b": 1}, {"a": 1.0, "b": 0.0}, 1e-4)
    assert not split_is_off({}, {"a": 1.0}, 1e-4)
