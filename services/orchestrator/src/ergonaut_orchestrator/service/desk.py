"""What people ask of rollouts and retrainings: start, look, stop. The workflows do the work. Called by `rpc`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ergonaut.errors import Conflict, NotFound, Refused
from ergonaut.ids import NAME_RULE, is_name
from ergonaut.retraining import (
    RETRAINING,
    SET_RECIPE_SIGNAL,
    TRAIN_NOW_SIGNAL,
    RetrainingInput,
    RetrainingProgress,
    retraining_workflow_id,
)
from ergonaut.rollouts import ABORT_SIGNAL, ROLLOUT, RolloutInput, RolloutProgress, RolloutState, rollout_workflow_id
from ergonaut.workflows import PAUSE_SIGNAL, RESUME_SIGNAL, Asked
from ergonaut_orchestrator.domain.rollout_facts import begun_progress
from ergonaut_orchestrator.domain.schedules import check_schedule
from ergonaut_orchestrator.ports import Standing, Workflows
from ergonaut_orchestrator.service.rolling_out import RollingOut

LISTED_MAX = 200
"""More than a screen's worth is not read; each is asked for by itself."""

ASKED_AT_ONCE = 16
"""Questions to workflows at a time, so that a list does not take the worker's whole attention."""

Found = TypeVar("Found")


class Desk:
    """Takes wishes in and tells how things stand."""

    def __init__(self, workflows: Workflows, rolling_out: RollingOut) -> None:
        self._workflows = workflows
        self._rolling_out = rolling_out

    async def start_rollout(self, wish: RolloutInput) -> RolloutProgress:
        """Begin a rollout. Raises Refused and NotFound for what cannot be rolled out, Conflict where one is under way."""
        workflow_id = rollout_workflow_id(wish.tenant, wish.endpoint)
        try:
            await self._rolling_out.course(wish)
        except Refused as error:
            # Whoever is told of the routes that another rollout has set would be led astray.
            if await self._is_under_way(workflow_id):
                raise Conflict(
                    f"a rollout of {wish.endpoint} runs already; wait until it has ended, or abort it"
                ) from error
            raise
        await self._workflows.start(ROLLOUT, workflow_id, wish)
        return begun_progress(wish)

    async def rollout(self, tenant: str, endpoint: str) -> RolloutProgress:
        """How the newest rollout of an endpoint stands. Raises NotFound."""
        _check_name(endpoint, "endpoint")
        progress, standing = await self._of(
            rollout_workflow_id(tenant, endpoint), RolloutProgress, f"no rollout of endpoint {endpoint} is known"
        )
        if standing is Standing.FAILED:
            return progress.model_copy(update={"state": RolloutState.FAILED})
        return progress

    async def rollouts(self, tenant: str) -> Sequence[RolloutProgress]:
        """The newest rollout of each endpoint, by name."""
        prefix = rollout_workflow_id(tenant, "")
        ids = await self._workflows.ids(ROLLOUT, prefix, count_max=LISTED_MAX, only_running=False)
        return await each_found(
            sorted(each.removeprefix(prefix) for each in ids), lambda name: self.rollout(tenant, name)
        )

    async def abort(self, tenant: str, endpoint: str, because: str) -> None:
        """Ask a rollout to take the new version back. Raises NotFound where none is under way."""
        _check_name(endpoint, "endpoint")
        workflow_id = rollout_workflow_id(tenant, endpoint)
        if not await self._workflows.signal(workflow_id, ABORT_SIGNAL, Asked(because=because)):
            raise NotFound(f"no rollout of endpoint {endpoint} is under way")

    async def set_recipe(self, wish: RetrainingInput) -> None:
        """Keep a recipe from now on. Raises Refused for a schedule that cannot be followed."""
        check_schedule(wish.recipe.when)
        workflow_id = retraining_workflow_id(wish.tenant, wish.model)
        await self._workflows.start_or_signal(
            RETRAINING, workflow_id, wish, signal=SET_RECIPE_SIGNAL, asked=wish.recipe
        )

    async def retraining(self, tenant: str, model: str) -> RetrainingProgress:
        """A model's recipe and what came of it. Raises NotFound where it has none."""
        _check_name(model, "model")
        missing = f"model {model} has no recipe; set one"
        progress, standing = await self._of(retraining_workflow_id(tenant, model), RetrainingProgress, missing)
        if standing is not Standing.RUNNING:
            raise NotFound(missing)
        return progress

    async def retrainings(self, tenant: str) -> Sequence[RetrainingProgress]:
        """Every model that has a recipe, by name."""
        prefix = retraining_workflow_id(tenant, "")
        ids = await self._workflows.ids(RETRAINING, prefix, count_max=LISTED_MAX, only_running=True)
        return await each_found(
            sorted(each.removeprefix(prefix) for each in ids), lambda name: self.retraining(tenant, name)
        )

    async def remove(self, tenant: str, model: str) -> None:
        """Keep a recipe no longer. Raises NotFound."""
        _check_name(model, "model")
        if not await self._workflows.cancel(retraining_workflow_id(tenant, model)):
            raise NotFound(f"model {model} has no recipe")

    async def train_now(self, tenant: str, model: str, because: str) -> None:
        """Want a training now. Raises NotFound."""
        await self._pass_on(tenant, model, TRAIN_NOW_SIGNAL, because)

    async def pause(self, tenant: str, model: str, because: str) -> None:
        """Train by hand only. Raises NotFound."""
        await self._pass_on(tenant, model, PAUSE_SIGNAL, because)

    async def resume(self, tenant: str, model: str) -> None:
        """Train as the recipe says. Raises NotFound."""
        await self._pass_on(tenant, model, RESUME_SIGNAL, "")

    async def _pass_on(self, tenant: str, model: str, signal: str, because: str) -> None:
        _check_name(model, "model")
        if not await self._workflows.signal(retraining_workflow_id(tenant, model), signal, Asked(because=because)):
            raise NotFound(f"model {model} has no recipe; set one")

    async def _is_under_way(self, workflow_id: str) -> bool:
        with contextlib.suppress(NotFound):
            return (await self._workflows.progress(workflow_id, RolloutProgress))[1] is Standing.RUNNING
        return False

    async def _of(self, workflow_id: str, kind: type[Found], missing: str) -> tuple[Found, Standing]:
        try:
            return await self._workflows.progress(workflow_id, kind)  # type: ignore[type-var]
        except NotFound as error:
            raise NotFound(missing) from error


async def each_found(names: Sequence[str], ask: Callable[[str], Awaitable[Found]]) -> list[Found]:
    """What each name is, some at a time; one that has gone meanwhile is left out."""
    room = asyncio.Semaphore(ASKED_AT_ONCE)

    async def one(name: str) -> Found | None:
        async with room:
            try:
                return await ask(name)
            except NotFound:
                return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(name)) for name in names]
    return [found for task in tasks if (found := task.result()) is not None]


def _check_name(name: str, field: str) -> None:
    if not is_name(name):
        raise Refused(f"{name!r} must be {NAME_RULE}", field=field)
