"""A Temporal server whose time skips ahead, with the workflows of rollouts and retrainings over fakes: for their tests."""

import asyncio
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from temporal_world import SOURCE
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker
from worlds import FakeWorld, archive_of

from ergonaut.ids import new_id
from ergonaut.retraining import RETRAINING, retraining_workflow_id
from ergonaut.rollouts import ROLLOUT, RolloutProgress, rollout_workflow_id
from ergonaut_common.clock import SystemClock
from ergonaut_orchestrator.activities import Activities, RetrainingActivities, RolloutActivities
from ergonaut_orchestrator.domain.rollouts import Endpoint, Route, Versions
from ergonaut_orchestrator.domain.trials import Lineage
from ergonaut_orchestrator.fakes import FakeAnnouncer, FakeLineages, FakeServedModels, FakeTraffic
from ergonaut_orchestrator.service import Bounds, Judging, Keeping, Leasing, RollingOut, Running
from ergonaut_orchestrator.workflows import Retraining, Rollout, RunJob

JOB = {
    "name": "digits",
    "command": ["true"],
    "source": SOURCE,
    "artifacts": ["*.onnx", "*.npz"],
    "duration_seconds_expected": 5,
}
DIGITS = Endpoint("digits", (Route("main", "digits", "1", 1.0),), slow_milliseconds=50.0, revision=3)


@dataclass
class Serving:
    """Workflows at work on a server whose time skips."""

    environment: WorkflowEnvironment
    queue: str = field(default_factory=lambda: new_id("queue"))
    models: FakeServedModels = field(default_factory=FakeServedModels)
    traffic: FakeTraffic = field(init=False)
    announcer: FakeAnnouncer = field(default_factory=FakeAnnouncer)
    lineages: FakeLineages = field(default_factory=lambda: FakeLineages(Lineage(energy_joules=120.0, cost_usd=0.01)))
    jobs: FakeWorld = field(default_factory=lambda: FakeWorld.on(SystemClock()))
    asking: list[asyncio.Future[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.traffic = FakeTraffic(self.models)
        self.traffic.endpoints["default", "digits"] = DIGITS
        self.models.models["default", "digits"] = Versions((1, 2), {"champion": 1}, default=1)

    def worker(self, **more: Any) -> Worker:
        world, bounds = self.jobs.world, Bounds(look_interval_seconds=0.05)
        rolling_out = RollingOut(self.traffic, self.models, self.announcer)
        judging = Judging(self.models, self.jobs.artifacts, self.lineages, self.announcer, self.jobs.clock)
        running = Activities(Leasing(world), Running(world, bounds), Keeping(world, bounds))
        return Worker(
            self.environment.client,
            task_queue=self.queue,
            workflows=[Retraining, Rollout, RunJob],
            activities=[*running.all(), *RolloutActivities(rolling_out).all(), *RetrainingActivities(judging).all()],
            **more,
        )

    async def retrain(self, **changes: Any) -> WorkflowHandle[Any, None]:
        """Set a recipe as any client would: by the workflow's name, with plain JSON."""
        given = {"model": "digits", "recipe": {"job": JOB} | changes}
        return await self.environment.client.start_workflow(
            RETRAINING, given, id=retraining_workflow_id("default", "digits"), task_queue=self.queue
        )

    def trains(self, x: Any, y: Any, model: bytes = b"model two") -> None:
        """What every training leaves."""
        packed = io.BytesIO()
        np.savez(packed, x=x, y=y)
        files = {"model.onnx": model, "validation.npz": packed.getvalue()}
        self.jobs.sources.stored["default", SOURCE] = archive_of(files)

    async def roll_out(self, **changes: Any) -> WorkflowHandle[Any, RolloutProgress]:
        """Start a rollout as any client would: by its name, with plain JSON."""
        given = {"endpoint": "digits", "model": "digits", "version": 2} | changes
        return await self.environment.client.start_workflow(
            ROLLOUT,
            given,
            id=rollout_workflow_id("default", "digits"),
            task_queue=self.queue,
            result_type=RolloutProgress,
        )

    def routes(self) -> list[tuple[str, str, float]]:
        """The routes of the endpoint now."""
        routes = self.traffic.endpoints["default", "digits"].routes
        return [(route.name, route.version, route.weight) for route in routes]
