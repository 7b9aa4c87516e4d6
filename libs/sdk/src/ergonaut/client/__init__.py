"""The typed client: everything that the CLI does, for programs. `AsyncClient` is the thing; `Client` blocks around it.

    with Client() as ergonaut:
        job_id = ergonaut.jobs.submit(*load_job(Path("job.yaml")))
        for status in ergonaut.jobs.watch(job_id):
            print(status.phase)

Without arguments it finds the system on this machine (`ergonaut up`); ERGONAUT_HOME, ERGONAUT_API_KEY and
ERGONAUT_<SERVICE>_ADDRESS point it elsewhere. Every failure is one of `ergonaut.errors`.
"""

from types import TracebackType
from typing import Self

from ergonaut.client.analysis import Analysis
from ergonaut.client.blocking import (
    BlockingAnalysis,
    BlockingBudgets,
    BlockingEndpoints,
    BlockingExports,
    BlockingJobs,
    BlockingLedger,
    BlockingMeters,
    BlockingModelBooks,
    BlockingModels,
    BlockingPipelines,
    BlockingPrices,
    BlockingReplicaSets,
    BlockingRetrainings,
    BlockingRollouts,
    BlockingStatements,
    BlockingVectors,
    Loop,
)
from ergonaut.client.budgets import Budgets
from ergonaut.client.connection import Connection
from ergonaut.client.endpoints import Endpoints
from ergonaut.client.exports import Exports
from ergonaut.client.jobs import Jobs
from ergonaut.client.ledger import Ledger
from ergonaut.client.modelbooks import ModelBooks
from ergonaut.client.models import Models
from ergonaut.client.pipelines import Pipelines
from ergonaut.client.pricing import Prices
from ergonaut.client.replicas import ReplicaSets
from ergonaut.client.rollouts import Retrainings, Rollouts
from ergonaut.client.statements import Statements
from ergonaut.client.telemetry import Meters
from ergonaut.client.vectors import Vectors


class AsyncClient:
    """All of Ergonaut for an asyncio program; close it, or use it as an async context manager."""

    def __init__(self, connection: Connection | None = None) -> None:
        self._connection = connection or Connection.from_environment()
        self.jobs = Jobs(self._connection)
        self.meters = Meters(self._connection)
        self.prices = Prices(self._connection)
        self.models = Models(self._connection)
        self.pipelines = Pipelines(self._connection)
        self.endpoints = Endpoints(self._connection)
        self.rollouts = Rollouts(self._connection)
        self.retrainings = Retrainings(self._connection)
        self.replicas = ReplicaSets(self._connection)
        self.vectors = Vectors(self._connection)
        self.ledger = Ledger(self._connection)
        self.statements = Statements(self._connection)
        self.analysis = Analysis(self._connection)
        self.budgets = Budgets(self._connection)
        self.exports = Exports(self._connection)
        self.model_books = ModelBooks(self._connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every channel."""
        await self._connection.close()


class Client:
    """The same for programs without asyncio: each method blocks, each watch is a plain iterator.

    It keeps an event loop in a thread of its own, so that it may be used from any thread, notebooks included.
    """

    def __init__(self, connection: Connection | None = None) -> None:
        self._loop = Loop()
        self._closed = False
        try:
            self._client = self._loop.run(_make(connection))
        except BaseException:
            self._loop.close()
            raise
        self.jobs = BlockingJobs(self._client.jobs, self._loop)
        self.meters = BlockingMeters(self._client.meters, self._loop)
        self.prices = BlockingPrices(self._client.prices, self._loop)
        self.models = BlockingModels(self._client.models, self._loop)
        self.pipelines = BlockingPipelines(self._client.pipelines, self._loop)
        self.endpoints = BlockingEndpoints(self._client.endpoints, self._loop)
        self.rollouts = BlockingRollouts(self._client.rollouts, self._loop)
        self.retrainings = BlockingRetrainings(self._client.retrainings, self._loop)
        self.replicas = BlockingReplicaSets(self._client.replicas, self._loop)
        self.vectors = BlockingVectors(self._client.vectors, self._loop)
        self.ledger = BlockingLedger(self._client.ledger, self._loop)
        self.statements = BlockingStatements(self._client.statements, self._loop)
        self.analysis = BlockingAnalysis(self._client.analysis, self._loop)
        self.budgets = BlockingBudgets(self._client.budgets, self._loop)
        self.exports = BlockingExports(self._client.exports, self._loop)
        self.model_books = BlockingModelBooks(self._client.model_books, self._loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every channel and end the thread; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._loop.run(self._client.close())
            self._loop.close()


async def _make(connection: Connection | None) -> AsyncClient:
    # gRPC's asyncio channels belong to the loop in which they are made.
    return AsyncClient(connection)


__all__ = ["AsyncClient", "Client", "Connection"]
