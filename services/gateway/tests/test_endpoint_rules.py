"""What an endpoint may be, which way requests go, and what its record says after each change."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.errors import Conflict, Refused
from ergonaut.events import EndpointChanged, EndpointRemoved
from ergonaut_gateway.domain.endpoints.figures import EndpointFigures, RouteFigures, summed
from ergonaut_gateway.domain.endpoints.records import Change, applied, before, event_of, held_by, removed
from ergonaut_gateway.domain.endpoints.spec import Endpoint, Mirror, Route, check_endpoint
from ergonaut_gateway.domain.endpoints.splitting import point_of, split_of

NOW = datetime(2026, 11, 28, tzinfo=UTC)
CHAMPION, CANARY = Route("champion", "digits", "1", 90.0), Route("canary", "digits", "2", 10.0)
DIGITS = Endpoint("digits", (CHAMPION, CANARY))
BY = Change("somebody")
WEIGHTS = st.lists(st.floats(0, 1000), min_size=1, max_size=16).filter(lambda weights: sum(weights) > 0)
POINTS = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        (replace(DIGITS, routes=()), "routes: there are 0; there must be 1 to 16"),
        (replace(DIGITS, name="Digits"), "name: 'Digits' cannot be"),
        (replace(DIGITS, routes=(CHAMPION, CHAMPION)), "routes.champion: each route needs a name of its own"),
        (replace(DIGITS, routes=(replace(CHAMPION, weight=0),)), "routes: all weights are 0"),
        (replace(DIGITS, routes=(replace(CHAMPION, weight=-1.0),)), "routes.champion: has the weight -1"),
        (replace(DIGITS, routes=(replace(CHAMPION, weight=float("nan")),)), "routes.champion: has the weight nan"),
        (replace(DIGITS, routes=(replace(CHAMPION, model=""),)), "routes.champion: says no model"),
        (replace(DIGITS, mirrors=(Mirror("digits", "2", 1.5),)), "mirrors.digits: has the share 1.5"),
        (replace(DIGITS, slow_milliseconds=-1.0), "slow_milliseconds: must lie between"),
    ],
)
def test_what_can_be_no_endpoint_is_told_in_one_sentence(endpoint: Endpoint, told: str) -> None:
    with pytest.raises(Refused) as caught:
        check_endpoint(endpoint)
    assert str(caught.value).startswith(told)


@given(WEIGHTS, POINTS)
def test_a_request_never_goes_where_there_is_no_weight(weights: list[float], point: float) -> None:
    assert weights[split_of(weights).at(point)] > 0


@given(st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_each_route_gets_its_share_of_evenly_spaced_points(weights: list[int]) -> None:
    split, count = split_of(weights), 2_000
    at = [split.at((index + 0.5) / count) for index in range(count)]
    for route, weight in enumerate(weights):
        assert at.count(route) == pytest.approx(count * weight / sum(weights), abs=1.5)


@given(st.floats(0, 100), st.floats(0, 100), POINTS)
def test_whoever_has_seen_the_canary_sees_it_still_when_its_weight_grows(
    first: float, second: float, point: float
) -> None:
    less, more = sorted((first, second))
    if split_of([100 - less, less] if less < 100 else [0, 1]).at(point) == 1:
        assert split_of([100 - more, more] if more < 100 else [0, 1]).at(point) == 1


@given(WEIGHTS)
def test_the_others_of_a_route_are_all_that_have_weight_the_heaviest_first(weights: list[float]) -> None:
    split = split_of(weights)
    chosen = split.at(0.0)
    others = split.others(chosen)
    assert set(others) <= {at for at, weight in enumerate(weights) if weight > 0} - {chosen}


def test_keys_are_spread_evenly_and_unlike_on_another_endpoint() -> None:
    points = [point_of("default", "digits", f"user-{at}") for at in range(10_000)]
    assert sum(point < 0.1 for point in points) == pytest.approx(1_000, abs=100)
    both = sum(point < 0.1 and point_of("default", "other", f"user-{at}") < 0.1 for at, point in enumerate(points))
    assert both == pytest.approx(100, abs=40)


def test_a_change_counts_up_and_remembers_what_was() -> None:
    first = applied(None, "default", DIGITS, BY, at=NOW)
    second = applied(first, "default", replace(DIGITS, routes=(CHAMPION,)), BY, at=NOW)
    assert (first.now.revision, second.now.revision) == (1, 2)
    assert before(second) == DIGITS == before(second, 1)
    assert applied(second, "default", second.now.endpoint, BY, at=NOW) is second
    with pytest.raises(Refused, match="kept are 1"):
        before(second, 7)
    with pytest.raises(Refused, match="no earlier revision"):
        before(first)


def test_a_change_that_expects_another_revision_is_told_which_there_is() -> None:
    first = applied(None, "default", DIGITS, Change("somebody", expected=0), at=NOW)
    with pytest.raises(Conflict, match="has revision 1, and revision 2 was expected"):
        applied(first, "default", DIGITS, Change("somebody", expected=2), at=NOW)
    with pytest.raises(Conflict, match="is not there, and revision 1 was expected"):
        applied(removed(first, at=NOW), "default", DIGITS, Change("somebody", expected=1), at=NOW)
    again = applied(removed(first, at=NOW), "default", DIGITS, Change("somebody", expected=0), at=NOW)
    assert again.now.revision == 2, "figures of the one before must not be taken for those of this one"


def test_the_same_change_is_always_told_by_the_same_event() -> None:
    record = applied(None, "default", DIGITS, BY, at=NOW)
    told = event_of(record)
    assert isinstance(told, EndpointChanged)
    assert told.event_id == event_of(record).event_id
    assert told.shares == {"champion=digits@1": 0.9, "canary=digits@2": 0.1}
    assert isinstance(event_of(removed(record, at=NOW)), EndpointRemoved)


def test_versions_that_requests_go_to_are_held_for_their_own_tenant_only() -> None:
    record = applied(None, "default", replace(DIGITS, mirrors=(Mirror("digits", "3"),)), BY, at=NOW)
    assert held_by([record], "default", "digits") == dict.fromkeys(("1", "2", "3"), "endpoint digits")
    assert held_by([record], "other", "digits") == held_by([removed(record, at=NOW)], "default", "digits") == {}


def test_figures_of_all_processes_are_those_of_the_present_revision_together() -> None:
    counts = RouteFigures(requests=3, drawn=2, failed=1, slow=1, labelled=1, wrong=1, seconds=0.5)
    told = [
        EndpointFigures("a", 2, {"champion": counts}),
        EndpointFigures("b", 2, {"champion": counts, "canary": counts}),
        EndpointFigures("c", 1, {"champion": counts}),
    ]
    sums = summed(told, 2)
    assert sums["champion"] == RouteFigures(6, 4, 2, 2, 2, 2, 1.0)
    assert sums["canary"] == counts
    assert counts.requests == 3, "what was told is not changed"


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.lists(st.text()), st.just("\ud800")))
def test_whatever_a_caller_gives_as_its_key_has_a_point(key: object) -> None:
    assert 0.0 <= point_of("default", "digits", key) < 1.0
