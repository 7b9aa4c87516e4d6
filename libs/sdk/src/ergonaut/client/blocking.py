"""Makes the async client usable without asyncio: each area again, with methods that block and watches that are iterators."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar

from ergonaut.client.analysis import Analysis
from ergonaut.client.budgets import Budgets
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
from ergonaut.errors import Refused

T = TypeVar("T")
P = ParamSpec("P")


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ergonaut-client", daemon=True)
        self._thread.start()
        self._closed = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait; an interrupt here cancels it there. Raises Refused after the end."""
        if self._closed:
            work.close()
            raise Refused("this client is closed; make another")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def blocking(self, method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
        """The same method, but the caller waits for its answer."""

        @functools.wraps(method)
        def call(*args: P.args, **options: P.kwargs) -> T:
            return self.run(method(*args, **options))

        return call

    def iterating(self, method: Callable[P, AsyncIterator[T]]) -> Callable[P, Iterator[T]]:
        """The same watch as a plain iterator; leaving early closes it."""

        @functools.wraps(method)
        def call(*args: P.args, **options: P.kwargs) -> Iterator[T]:
            return self._each(method(*args, **options))

        return call

    def close(self) -> None:
        """Cancel what is still under way, so that nobody waits for it for ever, and end the thread."""
        if self._closed:
            return
        # First, so that what is cancelled does not ask for more on its way out.
        self._closed = True
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def _each(self, items: AsyncIterator[T]) -> Iterator[T]:
        try:
            while True:
                try:
                    yield self.run(_next(items))
                except StopAsyncIteration:
                    return
        finally:
            if not self._closed:
                self.run(_close(items))


class BlockingRollouts:
    """`Rollouts` whose methods block."""

    def __init__(self, area: Rollouts, loop: Loop) -> None:
        self.start = loop.blocking(area.start)
        self.get = loop.blocking(area.get)
        self.watch = loop.iterating(area.watch)
        self.abort = loop.blocking(area.abort)
        self.all = loop.blocking(area.all)


class BlockingRetrainings:
    """`Retrainings` whose methods block."""

    def __init__(self, area: Retrainings, loop: Loop) -> None:
        self.set = loop.blocking(area.set)
        self.get = loop.blocking(area.get)
        self.all = loop.blocking(area.all)
        self.train_now = loop.blocking(area.train_now)
        self.pause = loop.blocking(area.pause)
        self.resume = loop.blocking(area.resume)
        self.remove = loop.blocking(area.remove)


class BlockingReplicaSets:
    """`ReplicaSets` whose methods block."""

    def __init__(self, area: ReplicaSets, loop: Loop) -> None:
        self.set = loop.blocking(area.set)
        self.get = loop.blocking(area.get)
        self.all = loop.blocking(area.all)
        self.stop = loop.blocking(area.stop)


class BlockingJobs:
    """`Jobs` whose methods block."""

    def __init__(self, area: Jobs, loop: Loop) -> None:
        self.plan = loop.blocking(area.plan)
        self.submit = loop.blocking(area.submit)
        self.get = loop.blocking(area.get)
        self.newest = loop.blocking(area.newest)
        self.watch = loop.iterating(area.watch)
        self.cancel = loop.blocking(area.cancel)
        self.pause = loop.blocking(area.pause)
        self.resume = loop.blocking(area.resume)
        self.download = loop.blocking(area.download)
        self.upload = loop.blocking(area.upload)


class BlockingMeters:
    """`Meters` whose methods block."""

    def __init__(self, area: Meters, loop: Loop) -> None:
        self.host = loop.blocking(area.host)
        self.watch_run = loop.iterating(area.watch_run)


class BlockingPrices:
    """`Prices` whose methods block."""

    def __init__(self, area: Prices, loop: Loop) -> None:
        self.offers = loop.blocking(area.offers)
        self.forecast = loop.blocking(area.forecast)


class BlockingModels:
    """`Models` whose methods block."""

    def __init__(self, area: Models, loop: Loop) -> None:
        self.deploy = loop.blocking(area.deploy)
        self.lineage_of_run = loop.blocking(area.lineage_of_run)
        self.served = loop.blocking(area.served)
        self.get = loop.blocking(area.get)
        self.versions = loop.blocking(area.versions)
        self.alias = loop.blocking(area.alias)
        self.unalias = loop.blocking(area.unalias)
        self.load = loop.blocking(area.load)
        self.unload = loop.blocking(area.unload)
        self.card = loop.blocking(area.card)
        self.download = loop.blocking(area.download)
        self.remove = loop.blocking(area.remove)
        self.predict = loop.blocking(area.predict)


class BlockingPipelines:
    """`Pipelines` whose methods block."""

    def __init__(self, area: Pipelines, loop: Loop) -> None:
        self.apply = loop.blocking(area.apply)
        self.check = loop.blocking(area.check)
        self.get = loop.blocking(area.get)
        self.all = loop.blocking(area.all)
        self.remove = loop.blocking(area.remove)


class BlockingEndpoints:
    """`Endpoints` whose methods block."""

    def __init__(self, area: Endpoints, loop: Loop) -> None:
        self.apply = loop.blocking(area.apply)
        self.get = loop.blocking(area.get)
        self.all = loop.blocking(area.all)
        self.remove = loop.blocking(area.remove)
        self.roll_back = loop.blocking(area.roll_back)
        self.figures = loop.blocking(area.figures)


class BlockingVectors:
    """`Vectors` whose methods block."""

    def __init__(self, area: Vectors, loop: Loop) -> None:
        self.create = loop.blocking(area.create)
        self.collections = loop.blocking(area.collections)
        self.describe = loop.blocking(area.describe)
        self.drop = loop.blocking(area.drop)
        self.set_index = loop.blocking(area.set_index)
        self.split = loop.blocking(area.split)
        self.usage = loop.blocking(area.usage)
        self.snapshot = loop.blocking(area.snapshot)
        self.snapshots = loop.blocking(area.snapshots)
        self.drop_snapshot = loop.blocking(area.drop_snapshot)
        self.restore = loop.blocking(area.restore)
        self.clone = loop.blocking(area.clone)
        self.upsert = loop.blocking(area.upsert)
        self.write = loop.blocking(area.write)
        self.write_many = loop.iterating(area.write_many)
        self.update_payloads = loop.blocking(area.update_payloads)
        self.delete = loop.blocking(area.delete)
        self.search = loop.blocking(area.search)
        self.nearest = loop.blocking(area.nearest)
        self.like = loop.blocking(area.like)
        self.groups = loop.blocking(area.groups)
        self.hybrid = loop.blocking(area.hybrid)
        self.multi = loop.blocking(area.multi)
        self.get = loop.blocking(area.get)
        self.pages = loop.iterating(area.pages)
        self.count = loop.blocking(area.count)
        self.values = loop.blocking(area.values)


class BlockingAnalysis:
    """`Analysis` whose methods block."""

    def __init__(self, area: Analysis, loop: Loop) -> None:
        self.efficiency = loop.blocking(area.efficiency)
        self.recommendations = loop.blocking(area.recommendations)
        self.anomalies = loop.blocking(area.anomalies)


class BlockingLedger:
    """`Ledger` whose methods block."""

    def __init__(self, area: Ledger, loop: Loop) -> None:
        self.runs = loop.blocking(area.runs)
        self.footprint = loop.blocking(area.footprint)
        self.power_series = loop.blocking(area.power_series)
        self.elsewhere = loop.blocking(area.elsewhere)
        self.usage = loop.blocking(area.usage)
        self.events = loop.blocking(area.events)


class BlockingStatements:
    """`Statements` whose methods block."""

    def __init__(self, area: Statements, loop: Loop) -> None:
        self.statement = loop.blocking(area.statement)
        self.compliance = loop.blocking(area.compliance)
        self.record = loop.blocking(area.record)
        self.certificates = loop.blocking(area.certificates)
        self.void = loop.blocking(area.void)


class BlockingExports:
    """`Exports` whose methods block."""

    def __init__(self, area: Exports, loop: Loop) -> None:
        self.file = loop.iterating(area.file)
        self.describe = loop.blocking(area.describe)


class BlockingModelBooks:
    """`ModelBooks` whose methods block."""

    def __init__(self, area: ModelBooks, loop: Loop) -> None:
        self.footprints = loop.blocking(area.footprints)
        self.requests = loop.iterating(area.requests)
        self.forget = loop.blocking(area.forget)


class BlockingBudgets:
    """`Budgets` whose methods block."""

    def __init__(self, area: Budgets, loop: Loop) -> None:
        self.set = loop.blocking(area.set)
        self.get = loop.blocking(area.get)
        self.all = loop.blocking(area.all)
        self.remove = loop.blocking(area.remove)


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


async def _close(items: AsyncIterator[Any]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        # An interrupt may have left it between cancelled and ended; then it is closed when it is collected.
        with contextlib.suppress(RuntimeError):
            await close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
