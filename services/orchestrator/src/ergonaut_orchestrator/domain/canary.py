"""When a new version takes over, and when it is taken back: tests that may look after every request and still keep their error.

All three questions (does it fail, is it slow, is it wrong) are shares of requests that went badly. For each share a confidence
sequence is kept, which holds at all times at once: Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon 2021,
https://doi.org/10.1214/20-AOS1991, here with the mixture of a Beta prior. Whether the split is the one that was set is tested by
the multinomial Bayes factor of Lindon and Malek 2022, https://arxiv.org/abs/2011.03567, which may be looked at as often.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

PRIOR = 0.5
"""Of the Beta mixture: shares near 0, which is where failures are, are found soonest with a prior that expects them there."""

BISECTIONS = 50
"""Halvings after which a bound is as exact as a float."""

SPLIT_STRENGTH = 100.0
"""How close to the set weights a wrong split is expected; larger finds smaller faults later."""


class Verdict(StrEnum):
    """What becomes of a canary now."""

    WAIT = "wait"
    PROMOTE = "promote"
    ROLL_BACK = "roll-back"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many requests were looked at, and how many of them went badly."""

    trials: int = 0
    bad: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.bad <= self.trials, "what went badly was looked at"

    def share(self) -> float:
        """The share that went badly; 0 where nothing was looked at."""
        return self.bad / self.trials if self.trials else 0.0


@dataclass(frozen=True, slots=True)
class Guard:
    """One question about the canary, answered by both versions; `margin` is by how much its share may be the larger one."""

    name: str
    champion: Outcomes
    canary: Outcomes
    margin: float


@dataclass(frozen=True, slots=True)
class Rule:
    """How sure a verdict must be, and on how much it must rest.

    `error` bounds the probability that a canary which is as good as the champion is ever taken back, and likewise that one
    worse than the margin is ever let take over.
    """

    error: float = 0.01
    requests_min: int = 200
    split_error: float = 1e-4


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and why, for people."""

    verdict: Verdict
    because: str


def judged(guards: Sequence[Guard], rule: Rule) -> Judgement:
    """What the figures say so far. One guard is enough to take a canary back; all are needed to let it take over.

    >>> fine = Guard("errors", Outcomes(50_000, 50), Outcomes(50_000, 50), margin=0.01)
    >>> judged([fine], Rule()).verdict.value
    'promote'
    >>> judged([Guard("errors", Outcomes(500, 0), Outcomes(500, 100), margin=0.01)], Rule()).verdict.value
    'roll-back'
    """
    assert guards, "a canary without a question would always pass"
    error = rule.error / (2 * len(guards))
    waiting = []
    for guard in guards:
        champion, canary = bounds(guard.champion, error), bounds(guard.canary, error)
        if canary[0] > champion[1]:
            return Judgement(Verdict.ROLL_BACK, f"{_told(guard)}: more than the champion's")
        if canary[1] - champion[0] > guard.margin:
            waiting.append(f"{_told(guard)}: not yet within {guard.margin:.2%} of each other")
    few = min(min(guard.champion.trials, guard.canary.trials) for guard in guards)
    if few < rule.requests_min:
        return Judgement(Verdict.WAIT, f"{few} of {rule.requests_min} requests were looked at")
    if waiting:
        return Judgement(Verdict.WAIT, "; ".join(waiting))
    return Judgement(Verdict.PROMOTE, "; ".join(_told(guard) for guard in guards))


def bounds(outcomes: Outcomes, error: float) -> tuple[float, float]:
    """Between what the true share lies, at all times at once but with probability `error`.

    >>> low, high = bounds(Outcomes(1000, 100), 0.05)
    >>> round(low, 3), round(high, 3)
    (0.069, 0.138)
    """
    if outcomes.trials == 0:
        return 0.0, 1.0
    good = outcomes.trials - outcomes.bad
    evidence_max = -math.log(error)
    mixed = _log_beta(PRIOR + outcomes.bad, PRIOR + good) - _log_beta(PRIOR, PRIOR)

    def is_possible(share: float) -> bool:
        return mixed - _log_power(share, outcomes.bad) - _log_power(1.0 - share, good) < evidence_max

    middle = outcomes.share()
    low = 0.0 if outcomes.bad == 0 else _edge(is_possible, inside=middle, outside=0.0)
    high = 1.0 if good == 0 else _edge(is_possible, inside=middle, outside=1.0)
    return low, high


def split_is_off(counts: Mapping[str, int], weights: Mapping[str, float], error: float) -> bool:
    """Whether requests did not go where the weights send them; looking again and again is allowed.

    Each count is of what was drawn independently: requests, or keys that requests follow.

    >>> split_is_off({"a": 9_000, "b": 1_000}, {"a": 0.9, "b": 0.1}, 1e-4)
    False
    >>> split_is_off({"a": 9_500, "b": 500}, {"a": 0.9, "b": 0.1}, 1e-4)
    True
    """
    total = sum(weights.values())
    shares = {name: weight / total for name, weight in weights.items() if weight > 0}
    if any(count for name, count in counts.items() if name not in shares):
        return True
    evidence = math.lgamma(SPLIT_STRENGTH) - math.lgamma(SPLIT_STRENGTH + sum(counts.values()))
    for name, share in shares.items():
        count = counts.get(name, 0)
        expected = SPLIT_STRENGTH * share
        evidence += math.lgamma(expected + count) - math.lgamma(expected) - count * math.log(share)
    return evidence > -math.log(error)


def _told(guard: Guard) -> str:
    return f"{guard.name} {guard.canary.share():.2%} of {guard.canary.trials} (champion {guard.champion.share():.2%})"


def _edge(is_possible: Callable[[float], bool], *, inside: float, outside: float) -> float:
    """Where what is possible ends, seen from within."""
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        if is_possible(middle):
            inside = middle
        else:
            outside = middle
    return outside


def _log_beta(first: float, second: float) -> float:
    return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)


def _log_power(base: float, times: int) -> float:
    """The logarithm of a power; 0 to the 0 is 1."""
    if times == 0:
        return 0.0
    return times * math.log(base) if base > 0.0 else -math.inf
