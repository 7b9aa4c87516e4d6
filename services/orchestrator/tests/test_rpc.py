"""The gRPC doors for people, over real gRPC and fakes: rollouts and retrainings of the caller's own tenant."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from skipping import DIGITS, JOB
from worlds import FakeWorld

from ergonaut.client.connection import Connection
from ergonaut.client.rollouts import Retrainings, Rollouts
from ergonaut.errors import Conflict, NotAllowed, NotFound, Refused, Unavailable
from ergonaut.retraining import Recipe, RetrainingInput, RetrainingProgress
from ergonaut.rollouts import RolloutInput, RolloutProgress, RolloutState
from ergonaut.workflows import Asked
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_orchestrator.domain.rollouts import Versions
from ergonaut_orchestrator.fakes import FakeGateways, FakeServedModels, FakeTraffic, FakeWorkflows
from ergonaut_orchestrator.rpc import SERVICE_NAMES, Reception
from ergonaut_orchestrator.service import Desk, Fleets, RollingOut, ServingDesk

WISH = RolloutInput(endpoint="digits", model="digits", version=2, because="it is newer")


@dataclass
class Door:
    """The door on a free port, and what is behind it."""

    address: str
    keys: dict[str, str]
    workflows: FakeWorkflows
    reception: Reception

    def connection(self, tenant: str = "default") -> Connection:
        return Connection({"orchestrator": self.address}, self.keys[tenant])


@pytest.fixture
async def door(tmp_path: Path, fakes: FakeWorld) -> AsyncIterator[Door]:
    keys_file, keys = key_ring_file(tmp_path, ("default", "other"))
    models, reception = FakeServedModels(), Reception()
    models.models["default", "digits"] = Versions((1, 2), {"champion": 1}, default=1)
    traffic = FakeTraffic(models)
    traffic.endpoints["default", "digits"] = DIGITS
    desk = Desk(fakes.workflows, RollingOut(traffic, models, fakes.announcer))
    async with serving(
        "127.0.0.1:0", service="orchestrator", add=reception.add, keys=KeyRing.load(keys_file), names=SERVICE_NAMES
    ) as server:
        reception.open(desk, ServingDesk(fakes.workflows, Fleets(fakes.workflows, FakeGateways())))
        yield Door(f"127.0.0.1:{server.port}", keys, fakes.workflows, reception)


@pytest.fixture
async def rollouts(door: Door) -> AsyncIterator[Rollouts]:
    connection = door.connection()
    yield Rollouts(connection)
    await connection.close()


@pytest.fixture
async def retrainings(door: Door) -> AsyncIterator[Retrainings]:
    connection = door.connection()
    yield Retrainings(connection)
    await connection.close()


async def test_a_rollout_is_started_once_for_the_callers_tenant_as_it_was_wished(
    door: Door, rollouts: Rollouts
) -> None:
    wish = WISH.model_copy(update={"steps": (0.2, 0.4), "alias": ""})
    told = await rollouts.start(wish)
    assert (told.state, told.steps, told.because) == ("starting", 2, "it is newer")
    assert door.workflows.started == {"rollout/default/digits": ("Rollout", wish)}
    with pytest.raises(Conflict, match="runs already"):
        await rollouts.start(wish)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"endpoint": "nobody"}, NotFound, "there is no endpoint nobody"),
        ({"version": 9}, Refused, "version 9 of model digits is not kept"),
        ({"version": 1}, Refused, "is what digits serves already"),
        ({"steps": (0.5, 0.1)}, Refused, "must grow"),
        ({"hold_seconds": -1.0}, Refused, "hold_seconds"),
    ],
)
async def test_what_cannot_be_rolled_out_is_refused_before_anything_is_started(
    door: Door, rollouts: Rollouts, changes: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        await rollouts.start(WISH.model_copy(update=changes))
    assert door.workflows.started == {}


async def test_a_rollout_is_told_aborted_and_listed_and_one_that_failed_says_so(door: Door, rollouts: Rollouts) -> None:
    await rollouts.start(WISH)
    door.workflows.answers["rollout/default/digits"] = RolloutProgress(
        endpoint="digits", model="digits", version=2, state=RolloutState.WATCHING, share=0.05
    )
    assert [(each.state, each.share) for each in await rollouts.all()] == [("watching", 0.05)]
    await rollouts.abort("digits", because="lunch")
    assert door.workflows.asked == [("rollout/default/digits", "abort", Asked(because="lunch"))]
    door.workflows.live.clear()
    door.workflows.failed.add("rollout/default/digits")
    assert (await rollouts.get("digits")).state == "failed"
    assert [each.state async for each in rollouts.watch("digits")] == ["failed"]
    with pytest.raises(NotFound, match="no rollout of endpoint digits is under way"):
        await rollouts.abort("digits")
    with pytest.raises(NotFound, match="no rollout of endpoint other is known"):
        await rollouts.get("other")


async def test_a_recipe_is_set_read_used_and_removed(door: Door, retrainings: Retrainings) -> None:
    recipe = Recipe.model_validate({"job": JOB, "rollout": {"endpoint": "digits", "guards": {"slow": None}}})
    await retrainings.set("digits", recipe)
    assert door.workflows.started["retraining/default/digits"] == (
        "Retraining",
        RetrainingInput(model="digits", recipe=recipe),
    )
    door.workflows.answers["retraining/default/digits"] = RetrainingProgress(model="digits", recipe=recipe)
    told = await retrainings.get("digits")
    assert (told.state, told.recipe.endpoint, told.recipe.rollout.guards.slow) == ("waiting", "digits", 0)
    assert [each.model for each in await retrainings.all()] == ["digits"]
    await retrainings.train_now("digits", because="to see")
    await retrainings.pause("digits")
    await retrainings.resume("digits")
    signals = [(name, asked) for _, name, asked in door.workflows.asked]
    assert [name for name, _ in signals] == ["set_recipe", "train_now", "pause", "resume"]
    assert signals[1][1] == Asked(because="to see")
    await retrainings.remove("digits")
    for gone in (retrainings.get, retrainings.remove, retrainings.train_now):
        with pytest.raises(NotFound, match="model digits has no recipe"):
            await gone("digits")
    assert await retrainings.all() == []


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"schedule": "0 99 * * *"}, "recipe.when.schedule: '0 99 .* is no cron schedule such as"),
        ({"schedule": "0 3 * * 1", "time_zone": "Mars/Base"}, "recipe.when.time_zone: 'Mars/Base' is no time zone"),
    ],
)
async def test_a_schedule_that_cannot_be_followed_is_refused_before_anything_is_started(
    door: Door, retrainings: Retrainings, when: dict[str, str], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        await retrainings.set("digits", Recipe.model_validate({"job": JOB, "when": when}))
    assert door.workflows.started == {}


async def test_nobody_sees_or_stops_what_another_tenant_has(door: Door, rollouts: Rollouts) -> None:
    await rollouts.start(WISH)
    door.workflows.answers["rollout/default/digits"] = RolloutProgress(endpoint="digits", model="digits", version=2)
    connection = door.connection("other")
    others = Rollouts(connection)
    assert await others.all() == []
    for ask in (others.get, others.abort):
        with pytest.raises(NotFound):
            await ask("digits")
        with pytest.raises(Refused, match="letters"):
            await ask("../default/digits")
    await connection.close()


async def test_a_caller_without_a_key_is_not_let_in(door: Door) -> None:
    connection = Connection({"orchestrator": door.address}, "nonsense")
    with pytest.raises(NotAllowed):
        await Rollouts(connection).all()
    await connection.close()


async def test_before_temporal_has_answered_callers_are_asked_to_come_again(door: Door, rollouts: Rollouts) -> None:
    door.reception._desk = None
    with pytest.raises(Unavailable, match="is starting; ask again"):
        await rollouts.all()
