"""`Rollout` on a Temporal server whose time skips, its activities over a gateway in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from skipping import DIGITS, Serving
from temporal_world import record
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from ergonaut.events.rollouts import RolloutPromoted, RolloutReverted
from ergonaut.rollouts import ABORT_SIGNAL, RolloutState
from ergonaut.workflows import Asked
from ergonaut_common.testing import skipping_temporal_server
from ergonaut_orchestrator.domain.rollouts import Route, Versions
from ergonaut_orchestrator.fakes.serving import Rates

OLD = [("main", "1", 1.0)]
NEW = [("main", "2", 1.0)]


@pytest.fixture
async def environment() -> AsyncIterator[WorkflowEnvironment]:
    async with skipping_temporal_server() as made:
        yield made


@pytest.fixture
async def serving(environment: WorkflowEnvironment) -> AsyncIterator[Serving]:
    made = Serving(environment)
    async with made.worker():
        yield made


def shares(serving: Serving) -> list[float]:
    """The new version's share in each of the revisions that were set."""
    return [sum(route.weight for route in each.routes if route.name == "canary") for each in serving.traffic.applied]


async def test_a_version_as_good_takes_over_step_by_step_and_gets_the_alias(serving: Serving) -> None:
    handle = await serving.roll_out(because="it is newer", look_seconds=30)
    result = await handle.result()
    assert (result.state, result.champion_version, result.step) == (RolloutState.PROMOTED, 1, 4)
    assert shares(serving) == [0.01, 0.05, 0.25, 0.5, 0]
    assert serving.routes() == NEW
    assert serving.models.models["default", "digits"].aliases == {"champion": 2}
    assert serving.announcer.types() == ["models.rollout.started", "models.rollout.promoted"]
    told = serving.announcer.told[-1]
    assert isinstance(told, RolloutPromoted)
    assert (told.revision, told.canary.requests > 200) == (result.revision, True)
    await record(handle, "rollout-promoted")


async def test_a_version_that_fails_is_taken_back_and_the_routes_are_exactly_the_old_ones(serving: Serving) -> None:
    serving.traffic.rates["digits", 2] = Rates(failed=0.4)
    handle = await serving.roll_out()
    result = await handle.result()
    assert result.state is RolloutState.ROLLED_BACK
    assert "errors 40.00% of" in result.because
    assert replace(serving.traffic.endpoints["default", "digits"], revision=3) == DIGITS
    assert serving.models.models["default", "digits"].aliases == {"champion": 1}
    told = serving.announcer.told[-1]
    assert isinstance(told, RolloutReverted)
    assert (told.step, told.is_overtaken) == (1, False)
    await record(handle, "rollout-taken-back")


@pytest.mark.parametrize("rates", [Rates(slow=0.5), Rates(wrong=0.5)], ids=["slow", "wrong"])
async def test_a_version_that_is_slow_or_wrong_is_taken_back(serving: Serving, rates: Rates) -> None:
    serving.traffic.rates["digits", 2] = rates
    serving.traffic.labelled_share = 0.5
    result = await (await serving.roll_out(guards={"wrong": 0.05})).result()
    assert (result.state, serving.routes()) == (RolloutState.ROLLED_BACK, OLD)


async def test_requests_that_do_not_go_where_they_should_take_it_back(serving: Serving) -> None:
    serving.traffic.splits = lambda route: 0.0 if route.name == "canary" else 1.0
    result = await (await serving.roll_out()).result()
    assert (result.state, "not split as set" in result.because) == (RolloutState.ROLLED_BACK, True)


async def test_without_enough_requests_by_the_deadline_it_is_taken_back(serving: Serving) -> None:
    serving.traffic.requests_per_look = 0
    result = await (await serving.roll_out(deadline_seconds=3600, look_seconds=60)).result()
    assert (result.state, serving.routes()) == (RolloutState.ROLLED_BACK, OLD)
    assert "no verdict within 3600 s" in result.because


async def test_whoever_aborts_it_gets_the_old_routes_back_and_is_named(serving: Serving) -> None:
    handle = await serving.roll_out(hold_seconds=1e5)
    serving.traffic.on_figures = _when(serving, 3, lambda: handle.signal(ABORT_SIGNAL, Asked(because="lunch")))
    result = await handle.result()
    assert (result.state, result.because, serving.routes()) == (RolloutState.ROLLED_BACK, "aborted: lunch", OLD)


async def test_cancelled_it_takes_the_version_back_too(serving: Serving) -> None:
    handle = await serving.roll_out(hold_seconds=1e5)
    serving.traffic.on_figures = _when(serving, 3, handle.cancel)
    result = await handle.result()
    assert (result.state, serving.routes()) == (RolloutState.ROLLED_BACK, OLD)
    assert serving.announcer.types()[-1] == "models.rollout.reverted"
    await record(handle, "rollout-cancelled")


async def test_a_person_who_changes_the_endpoint_meanwhile_wins(serving: Serving) -> None:
    theirs = replace(DIGITS, routes=(Route("mine", "digits", "1", 1.0),))
    serving.traffic.on_figures = _once(lambda: serving.traffic.person_applies("default", theirs))
    result = await (await serving.roll_out()).result()
    assert result.state is RolloutState.OVERTAKEN
    assert serving.routes() == [("mine", "1", 1.0)]
    told = serving.announcer.told[-1]
    assert isinstance(told, RolloutReverted)
    assert told.is_overtaken


async def test_an_endpoint_that_somebody_removes_meanwhile_stays_removed(serving: Serving) -> None:
    serving.traffic.on_figures = _once(serving.traffic.endpoints.clear)
    result = await (await serving.roll_out()).result()
    assert (result.state, serving.traffic.endpoints) == (RolloutState.OVERTAKEN, {})


async def test_a_route_that_follows_the_alias_is_moved_by_the_alias(serving: Serving) -> None:
    following = replace(DIGITS, routes=(Route("main", "digits", "champion", 1.0),))
    serving.traffic.endpoints["default", "digits"] = following
    result = await (await serving.roll_out()).result()
    assert (result.state, serving.routes()) == (RolloutState.PROMOTED, [("main", "champion", 1.0)])
    assert serving.models.models["default", "digits"].aliases == {"champion": 2}


async def test_an_alias_that_somebody_moves_meanwhile_stays_where_they_put_it(serving: Serving) -> None:
    def move() -> None:
        serving.models.models["default", "digits"] = Versions((1, 2, 3), {"champion": 3}, default=3)

    serving.traffic.on_figures = _once(move)
    result = await (await serving.roll_out()).result()
    assert (result.state, serving.routes()) == (RolloutState.PROMOTED, NEW)
    assert serving.models.models["default", "digits"].aliases == {"champion": 3}
    assert "the alias stays" in result.because


@pytest.mark.parametrize("lost", [1, 2])
async def test_changes_whose_answers_are_lost_are_made_once(serving: Serving, lost: int) -> None:
    serving.traffic.forgets_answers = serving.models.forgets_answers = lost
    result = await (await serving.roll_out()).result()
    assert (result.state, serving.routes()) == (RolloutState.PROMOTED, NEW)
    assert shares(serving) == [0.01, 0.05, 0.25, 0.5, 0]


async def test_a_gateway_that_is_away_for_a_while_changes_nothing(serving: Serving) -> None:
    def away() -> None:
        serving.traffic.away_for = 20

    serving.traffic.on_figures = _once(away)
    result = await (await serving.roll_out()).result()
    assert (result.state, serving.routes()) == (RolloutState.PROMOTED, NEW)


async def test_a_step_that_the_gateway_refuses_leads_back(serving: Serving) -> None:
    serving.traffic.refuses = "routes: version 2 cannot be loaded"
    result = await (await serving.roll_out()).result()
    assert (result.state, serving.traffic.applied) == (RolloutState.ROLLED_BACK, [])
    assert "version 2 cannot be loaded" in result.because


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 9}, "version: version 9 of model digits is not kept"),
        ({"endpoint": "nobody"}, "there is no endpoint nobody"),
        ({"step": [0.5]}, "step: is no field; did you mean steps?"),
    ],
)
async def test_what_cannot_be_rolled_out_fails_at_once_in_words(
    serving: Serving, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(WorkflowFailureError) as failure:
        await (await serving.roll_out(**changes)).result()
    assert words in str(failure.value.cause)
    assert serving.traffic.applied == []


async def test_a_long_rollout_goes_on_in_a_new_history(serving: Serving) -> None:
    handle = await serving.roll_out(steps=[0.5], hold_seconds=3600 * 6, look_seconds=40)
    result = await handle.result()
    assert (result.state, serving.routes()) == (RolloutState.PROMOTED, NEW)
    assert serving.announcer.types() == ["models.rollout.started", "models.rollout.promoted"]


def _once(act: Callable[[], object]) -> Callable[[], None]:
    """Do something at the first look only."""
    return _at_look(1, act)


def _when(serving: Serving, look: int, act: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Ask something of the workflow at a look, while the look is answered."""
    return _at_look(look, lambda: serving.asking.append(asyncio.ensure_future(act())))


def _at_look(look: int, act: Callable[[], object]) -> Callable[[], None]:
    looks = []

    def do() -> None:
        looks.append(True)
        if len(looks) == look:
            act()

    return do
