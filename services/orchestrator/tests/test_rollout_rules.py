"""How a new version takes over: which routes each step sets, and what a look at the figures leads to."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from ergonaut.errors import Refused
from ergonaut.rollouts import RolloutInput
from ergonaut_orchestrator.domain.rollouts import (
    Endpoint,
    Figures,
    Mirror,
    Next,
    RolloutSoFar,
    Route,
    RouteFigures,
    Versions,
    at_step,
    course_of,
    looked,
    promoted,
    rollout_going_on,
    rollout_so_far,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VERSIONS = Versions((1, 2), {"champion": 1}, default=1)
ENDPOINT = Endpoint(
    "digits",
    (Route("main", "digits", "1", 3.0), Route("spare", "other", "4", 0.0)),
    (Mirror("digits", "2", 0.1),),
    slow_milliseconds=20.0,
    revision=7,
)


def request(**changes: Any) -> RolloutInput:
    given = {"endpoint": "digits", "model": "digits", "version": 2, "steps": [0.1, 0.5], "hold_seconds": 60}
    return RolloutInput.model_validate(given | changes)


def so_far(step: int = 0, *, began: datetime = NOW, endpoint: Endpoint = ENDPOINT) -> RolloutSoFar:
    course = course_of(request(), endpoint, VERSIONS, VERSIONS)
    return RolloutSoFar(course, NOW, step, revision=8, step_began_at=began)


def figures(champion: RouteFigures, canary: RouteFigures, revision: int = 8) -> Figures:
    return Figures(revision, {"main": champion, "spare": RouteFigures(), "canary": canary})


def served(requests: int, **bad: int) -> RouteFigures:
    return RouteFigures(requests=requests, drawn=requests, **bad)


LATER = NOW + timedelta(seconds=61)


def test_a_step_gives_the_new_version_its_share_and_leaves_all_else_as_it_was() -> None:
    step = at_step(request(), so_far().course, 1)
    assert [(route.name, route.weight) for route in step.routes] == [("main", 0.5), ("spare", 0.0), ("canary", 0.5)]
    assert (step.mirrors, step.slow_milliseconds) == (ENDPOINT.mirrors, 20.0)


def test_a_version_that_took_over_has_the_route_and_the_weight_of_the_one_before() -> None:
    assert promoted(request(), so_far().course).routes == (
        Route("main", "digits", "2", 3.0),
        Route("spare", "other", "4", 0.0),
    )


@pytest.mark.parametrize("version", ["champion", ""])
def test_a_route_that_follows_the_alias_goes_on_following_it(version: str) -> None:
    following = replace(ENDPOINT, routes=(Route("main", "digits", version, 1.0),))
    course = course_of(request(), following, VERSIONS, VERSIONS)
    assert promoted(request(), course).routes == following.routes
    assert promoted(request(alias=""), course).routes[0].version == "2"


@pytest.mark.parametrize(
    ("endpoint", "versions", "words"),
    [
        (ENDPOINT, Versions((1,), {}), "version: version 2 of model digits is not kept"),
        (replace(ENDPOINT, routes=(Route("main", "digits", "2", 1),)), VERSIONS, "is what digits serves already"),
        (replace(ENDPOINT, routes=(Route("a", "digits", "1", 1), Route("b", "digits", "1", 1))), VERSIONS, "a, b"),
        (replace(ENDPOINT, routes=(Route("canary", "digits", "1", 1),)), VERSIONS, "a route named canary already"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused_in_words(endpoint: Endpoint, versions: Versions, words: str) -> None:
    with pytest.raises(Refused, match=words):
        course_of(request(), endpoint, versions, versions)


@pytest.mark.parametrize(
    ("step", "at", "seen", "expected"),
    [
        (0, NOW, figures(served(9_000), served(1_000)), Next.WAIT),
        (0, LATER, figures(served(9_000), served(1_000)), Next.GO_ON),
        (0, LATER, figures(served(90), served(10)), Next.WAIT),
        (1, LATER, figures(served(5_000), served(5_000)), Next.PROMOTE),
        (1, LATER, figures(served(150), served(150)), Next.WAIT),
        (1, NOW, figures(served(5_000), served(5_000)), Next.WAIT),
        (0, NOW, figures(served(900, failed=1), served(100, failed=50)), Next.ROLL_BACK),
        (0, NOW, figures(served(900, slow=1), served(100, slow=50)), Next.ROLL_BACK),
        (0, NOW, figures(served(9_990), served(10)), Next.ROLL_BACK),
        (0, NOW, figures(served(0), served(0), revision=9), Next.OVERTAKEN),
        (0, NOW, Figures(0, {}, is_gone=True), Next.OVERTAKEN),
        (0, LATER, figures(served(9_000), served(1_000), revision=7), Next.WAIT),
        (0, LATER, None, Next.WAIT),
        (0, NOW + timedelta(days=1), None, Next.ROLL_BACK),
        (0, NOW + timedelta(days=1), figures(served(90), served(10)), Next.ROLL_BACK),
        (1, NOW + timedelta(days=1), figures(served(5_000), served(5_000)), Next.PROMOTE),
    ],
    ids=[
        "held", "enough for more", "too few for more", "as good", "too few to take over", "as good but held", "fails", "slow",
        "split wrong", "changed by somebody", "removed", "not taken up", "away", "deadline while away", "deadline", "in time",
    ],
)  # fmt: skip
def test_a_look_leads_to(step: int, at: datetime, seen: Figures | None, expected: Next) -> None:
    assert looked(request(), so_far(step), seen, at).next is expected


def test_slowness_is_not_asked_where_the_endpoint_has_no_limit() -> None:
    unlimited = replace(ENDPOINT, slow_milliseconds=0.0)
    seen = figures(served(900), served(100, slow=100))
    assert looked(request(), so_far(endpoint=unlimited), seen, NOW).next is Next.WAIT


def test_without_labels_a_version_whose_labels_are_asked_does_not_take_over_and_wrong_ones_take_it_back() -> None:
    asked = request(guards={"wrong": 0.02})
    unlabelled = figures(served(5_000), served(5_000))
    assert looked(asked, so_far(1), unlabelled, LATER).next is Next.WAIT
    good, bad = served(5_000, labelled=5_000, wrong=50), served(5_000, labelled=5_000, wrong=500)
    assert looked(asked, so_far(1), figures(good, good), LATER).next is Next.PROMOTE
    assert looked(asked, so_far(1), figures(good, bad), LATER).next is Next.ROLL_BACK


def test_of_requests_that_follow_keys_only_the_keys_say_something_of_the_split() -> None:
    """One user of ten thousand requests is one draw."""
    keyed = replace(ENDPOINT, key_parameter="user")
    busy = figures(
        RouteFigures(requests=9_990, keys=90, key_counters=1), RouteFigures(requests=10, keys=10, key_counters=1)
    )
    assert looked(request(), so_far(endpoint=keyed), busy, NOW).next is Next.WAIT
    lost = figures(
        RouteFigures(requests=3_000, keys=2_000, key_counters=1), RouteFigures(requests=3_000, keys=20, key_counters=1)
    )
    seen = looked(request(), so_far(endpoint=keyed), lost, NOW)
    assert seen.next is Next.ROLL_BACK
    assert "20 of 2020 keys went to the new version, 10.00% should" in seen.because


def test_keys_that_several_processes_count_are_believed_as_if_each_had_counted_all() -> None:
    """Four processes that all answered the same 40 users, of whom one in ten goes to the new version."""
    keyed = replace(ENDPOINT, key_parameter="user")
    rng = random.Random(1)
    alarms = 0
    for _ in range(200):
        canaries = sum(rng.random() < 0.1 for _ in range(40))
        seen = figures(
            RouteFigures(requests=500, keys=4 * (40 - canaries), key_counters=4),
            RouteFigures(requests=500, keys=4 * canaries, key_counters=4 if canaries else 0),
        )
        alarms += looked(request(rule={"split_error": 0.05}), so_far(endpoint=keyed), seen, NOW).next is Next.ROLL_BACK
    assert alarms <= 5


def test_requests_without_a_key_are_asked_about_beside_the_keys() -> None:
    keyed = replace(ENDPOINT, key_parameter="user")
    off = figures(RouteFigures(requests=5_000, drawn=4_990), RouteFigures(requests=10, drawn=10))
    assert looked(request(), so_far(endpoint=keyed), off, NOW).next is Next.ROLL_BACK


def test_it_goes_on_in_a_new_history_where_it_was() -> None:
    at = replace(so_far(1), tried=at_step(request(), so_far().course, 1))
    again = RolloutInput.model_validate_json(rollout_going_on(request(), at).model_dump_json())
    assert rollout_so_far(again) == at


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": [0.5, 0.1]}, "must grow"),
        ({"steps": []}, "at least 1"),
        ({"steps": [1.0]}, "less than 1"),
        ({"version": 0}, "greater than or equal to 1"),
        ({"guards": {"slwo": 1}}, "slwo"),
        ({"endpoint": "A b"}, "endpoint"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        request(**changes)
