"""A Temporal server whose time skips ahead, with the workflows of rollouts and retrainings over fakes: for their tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from ergonaut.ids import new_id
from ergonaut.rollouts import ROLLOUT, RolloutProgress, rollout_workflow_id
from ergonaut_common.testing import binary
from ergonaut_orchestrator.activities import RolloutActivities
from ergonaut_orchestrator.domain.rollouts import Endpoint, Route, Versions
from ergonaut_orchestrator.fakes import FakeAnnouncer, FakeServedModels, FakeTraffic
from ergonaut_orchestrator.service import RollingOut
from ergonaut_orchestrator.workflows import Rollout

DIGITS = Endpoint("digits", (Route("main", "digits", "1", 1.0),), slow_milliseconds=50.0, revision=3)


@asynccontextmanager
async def skipping_server() -> AsyncIterator[WorkflowEnvironment]:
    """The server; its time stands still while something is at work, and skips while all wait."""
    path = binary("temporal-test-server")
    environment = await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter, test_server_existing_path=path
    )
    async with environment:
        yield environment


@dataclass
class Serving:
    """Workflows at work on a server whose time skips."""

    environment: WorkflowEnvironment
    queue: str = field(default_factory=lambda: new_id("queue"))
    models: FakeServedModels = field(default_factory=FakeServedModels)
    traffic: FakeTraffic = field(init=False)
    announcer: FakeAnnouncer = field(default_factory=FakeAnnouncer)
    asking: list[asyncio.Future[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.traffic = FakeTraffic(self.models)
        self.traffic.endpoints["default", "digits"] = DIGITS
        self.models.models["default", "digits"] = Versions((1, 2), {"champion": 1}, default=1)

    def worker(self, **more: Any) -> Worker:
        rolling_out = RollingOut(self.traffic, self.models, self.announcer)
        return Worker(
            self.environment.client,
            task_queue=self.queue,
            workflows=[Rollout],
            activities=RolloutActivities(rolling_out).all(),
            **more,
        )

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
