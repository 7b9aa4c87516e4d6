"""Rollouts and retrainings: new versions of models take over endpoints, and models are trained again."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

from ergonaut.api.orchestration.v1 import retraining_pb2 as retraining
from ergonaut.api.orchestration.v1 import rollouts_pb2 as pb
from ergonaut.api.orchestration.v1.retraining_pb2_grpc import RetrainingServiceStub
from ergonaut.api.orchestration.v1.rollouts_pb2_grpc import RolloutServiceStub
from ergonaut.client.connection import Connection, doing
from ergonaut.client.jobs import Jobs
from ergonaut.errors import Unavailable
from ergonaut.orchestration_proto import recipe_message, start_request_of
from ergonaut.retraining import Recipe
from ergonaut.rollouts import RolloutInput, RolloutState

if TYPE_CHECKING:
    from ergonaut.api.orchestration.v1.retraining_pb2_grpc import RetrainingServiceAsyncStub
    from ergonaut.api.orchestration.v1.rollouts_pb2_grpc import RolloutServiceAsyncStub

WATCH_SECONDS = 1.0
"""Between two questions of a watch; a step lasts longer."""

AWAY_MAX = 60
"""Questions in a row that a watch lets go unanswered: a restarted service is back within that."""


class Rollouts:
    """New versions that take over endpoints step by step, or are taken back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "RolloutServiceAsyncStub":
        return RolloutServiceStub(self._connection.channel("orchestrator"))

    async def start(self, wish: RolloutInput) -> pb.Rollout:
        """Begin a rollout; the tenant is the caller's. Raises Refused, NotFound, and Conflict where one is under way."""
        with doing(f"rolling out version {wish.version} of {wish.model}"):
            return (await self._stub.StartRollout(start_request_of(wish))).rollout

    async def get(self, endpoint: str) -> pb.Rollout:
        """How the newest rollout of an endpoint stands. Raises NotFound."""
        with doing(f"asking for the rollout of {endpoint}"):
            return (await self._stub.GetRollout(pb.GetRolloutRequest(endpoint=endpoint))).rollout

    async def watch(self, endpoint: str) -> AsyncGenerator[pb.Rollout, None]:
        """How it stands at once and after every change, until it has ended; through restarts of the orchestrator."""
        last, away = None, 0
        while True:
            try:
                now = await self.get(endpoint)
            except Unavailable:
                away += 1
                if away > AWAY_MAX:
                    raise
            else:
                away = 0
                if now != last:
                    yield now
                if RolloutState(now.state).has_ended:
                    return
                last = now
            await asyncio.sleep(WATCH_SECONDS)

    async def abort(self, endpoint: str, *, because: str = "") -> None:
        """Ask a rollout to take the new version back. Raises NotFound where none is under way."""
        with doing(f"aborting the rollout of {endpoint}"):
            await self._stub.AbortRollout(pb.AbortRolloutRequest(endpoint=endpoint, because=because))

    async def all(self) -> list[pb.Rollout]:
        """The newest rollout of each endpoint, by name."""
        with doing("listing rollouts"):
            return [*(await self._stub.ListRollouts(pb.ListRolloutsRequest())).rollouts]


class Retrainings:
    """Recipes by which models are trained again."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "RetrainingServiceAsyncStub":
        return RetrainingServiceStub(self._connection.channel("orchestrator"))

    async def set(self, model: str, recipe: Recipe, folder: Path | None = None) -> None:
        """Keep a model's recipe from now on, with the files of a folder for its job. Raises Refused."""
        if folder is not None:
            source = await Jobs(self._connection).upload(folder)
            recipe = recipe.model_copy(update={"job": recipe.job.model_copy(update={"source": source})})
        with doing(f"setting the recipe of {model}"):
            await self._stub.SetRetraining(retraining.SetRetrainingRequest(model=model, recipe=recipe_message(recipe)))

    async def get(self, model: str) -> retraining.Retraining:
        """A model's recipe, what it does and what came of the last trainings. Raises NotFound."""
        with doing(f"asking for the retraining of {model}"):
            answer = await self._stub.GetRetraining(retraining.GetRetrainingRequest(model=model))
            return answer.retraining

    async def all(self) -> list[retraining.Retraining]:
        """Every model that has a recipe, by name."""
        with doing("listing retrainings"):
            answer = await self._stub.ListRetrainings(retraining.ListRetrainingsRequest())
            return [*answer.retrainings]

    async def train_now(self, model: str, *, because: str = "") -> None:
        """Want a training now. Raises NotFound."""
        with doing(f"training {model}"):
            await self._stub.TrainNow(retraining.TrainNowRequest(model=model, because=because))

    async def pause(self, model: str, *, because: str = "") -> None:
        """Train by hand only until it is resumed. Raises NotFound."""
        with doing(f"pausing the retraining of {model}"):
            await self._stub.PauseRetraining(retraining.PauseRetrainingRequest(model=model, because=because))

    async def resume(self, model: str) -> None:
        """Train again as the recipe says. Raises NotFound."""
        with doing(f"resuming the retraining of {model}"):
            await self._stub.ResumeRetraining(retraining.ResumeRetrainingRequest(model=model))

    async def remove(self, model: str) -> None:
        """Keep the recipe no longer; a training under way is stopped. Raises NotFound."""
        with doing(f"removing the recipe of {model}"):
            await self._stub.RemoveRetraining(retraining.RemoveRetrainingRequest(model=model))
