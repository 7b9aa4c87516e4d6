"""Twice as many requests as a model can answer, from callers who wait for nobody: answers or clean refusals, in bounded time and
memory, and after it all is as before. Time is counted in runs that a test lets through one by one, never in seconds."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from ergonaut.api.openinference.v2.open_inference_pb2_grpc import GRPCInferenceServiceStub
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import SystemClock
from ergonaut_common.entrance import entrance
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway import h2
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.fakes import FakeModelLoader, FakeRunner
from ergonaut_gateway.http import Callers, HttpLimits, InferenceDoor, Router, opened_http
from ergonaut_gateway.rpc import NAMES, door
from ergonaut_gateway.service import EngineLimits

from .conftest import Gateway, Gateways
from .test_h2_grpc import request

STEPS = 150
WAITING = 6
THREADS = 1
ROOM = WAITING + THREADS
"""Requests that may be at work at once."""

PATIENCE_SECONDS = 30.0
X = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}

Ask = Callable[[], Awaitable[str]]
"""Asks once; gives `answered` or `refused`, and raises for anything else."""


class MeteredLoader(FakeModelLoader):
    """Its models answer one request for each token."""

    def __init__(self) -> None:
        self.tokens = threading.Semaphore(0)
        self.runs = 0

    async def load(self, path: Path) -> FakeRunner:
        loader = self

        class Metered(FakeRunner):
            def compute(self, inputs, outputs, stop):
                while not loader.tokens.acquire(timeout=0.01):
                    if stop is not None and stop.terminate:
                        break
                loader.runs += 1
                return super().compute(inputs, outputs, stop)

        return Metered(Traits())


class Site:
    """Both doors before one metered model."""

    def __init__(self, gateway: Gateway, loader: MeteredLoader, http_port: int, key: str) -> None:
        self.gateway, self.loader, self.http_port, self.key = gateway, loader, http_port, key

    @property
    def at_work(self) -> int:
        """Requests that were let in and are not answered."""
        return self.gateway.predictions._engine.in_flight

    @asynccontextmanager
    async def http(self) -> AsyncIterator[Ask]:
        headers = {"authorization": f"Bearer {self.key}"}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        url = f"http://127.0.0.1:{self.http_port}/v2/models/digits/infer"
        async with httpx.AsyncClient(headers=headers, limits=limits, timeout=PATIENCE_SECONDS) as client:

            async def ask() -> str:
                answer = await client.post(url, json={"inputs": [X]})
                if answer.status_code == 200:
                    assert answer.json()["outputs"][0]["data"] == [2.0, 4.0, 6.0]
                    return "answered"
                assert answer.status_code == 429, answer.text
                assert int(answer.headers["retry-after"]) >= 1
                assert "error" in answer.json()
                return "refused"

            yield ask

    @asynccontextmanager
    async def grpc(self) -> AsyncIterator[Ask]:
        metadata = (("authorization", f"Bearer {self.key}"),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.http_port}") as channel:
            stub = GRPCInferenceServiceStub(channel)

            async def ask() -> str:
                call = stub.ModelInfer(request(), metadata=metadata, timeout=PATIENCE_SECONDS)
                try:
                    code = await call.code()
                except asyncio.CancelledError:
                    # Who waits for the code alone gives up the waiting alone.
                    call.cancel()
                    raise
                if code == grpc.StatusCode.OK:
                    return "answered"
                assert code == grpc.StatusCode.RESOURCE_EXHAUSTED, await call.details()
                assert int(dict(await call.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1
                return "refused"

            yield ask


@pytest.fixture
async def site(gateways: Gateways, tmp_path: Path) -> AsyncIterator[Site]:
    loader, gateways.clock = MeteredLoader(), SystemClock()
    limits = EngineLimits(threads=THREADS, waiting=WAITING, model_waiting=WAITING, run_timeout_seconds=PATIENCE_SECONDS)
    gateway = gateways.another(loader, limits=limits)
    await gateway.deploy(b"model")
    ring, keys = key_ring_file(tmp_path, ("default",))
    router = Router()
    InferenceDoor(gateway.models, gateway.catalogue, gateway.predictions, Callers(KeyRing.load(ring))).add_to(router)
    add = door(gateway.models, gateway.catalogue, gateway.predictions)
    async with (
        h2.opened(add, gateway.predictions, KeyRing.load(ring), NAMES, close_seconds=0.1) as factory,
        opened_http(entrance("127.0.0.1:0"), router, HttpLimits(), h2_factory=factory, close_seconds=0.1) as server,
    ):
        yield Site(gateway, loader, server.port, keys["default"])
    loader.tokens.release(10_000)
    gateway.predictions.close()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.001)


class Callers2x:
    """Two requests a step, one run a step, whoever still waits."""

    def __init__(self, site: Site, ask: Ask) -> None:
        self._site, self._ask = site, ask
        self._asked: list[asyncio.Task[str]] = []
        self.step = 0
        self.steps_waited: list[int] = []
        self.at_work_most = 0

    async def _timed(self) -> str:
        begun = self.step
        told = await self._ask()
        if told == "answered":
            self.steps_waited.append(self.step - begun)
        return told

    @property
    def _open(self) -> int:
        return sum(not each.done() for each in self._asked)

    async def go(self) -> list[str]:
        for self.step in range(STEPS):
            self._asked += [asyncio.create_task(self._timed()) for _ in range(2)]
            # All that was asked is at work or was refused by now.
            await eventually(lambda: self._open == self._site.at_work)
            self.at_work_most = max(self.at_work_most, self._site.at_work)
            runs = self._site.loader.runs
            self._site.loader.tokens.release()
            await eventually(lambda runs=runs: self._site.loader.runs > runs and self._open == self._site.at_work)
        self._site.loader.tokens.release(ROOM)
        return await asyncio.gather(*self._asked)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_at_twice_the_peak_there_are_answers_and_clean_refusals_only(site: Site, protocol: str) -> None:
    opened: Any = getattr(site, protocol)
    async with opened() as ask:
        callers = Callers2x(site, ask)
        told = await callers.go()
        # As many as could be answered were: one a step, and those that had room at the end.
        assert told.count("answered") == site.loader.runs
        assert STEPS <= told.count("answered") <= STEPS + ROOM
        assert told.count("answered") + told.count("refused") == 2 * STEPS
        assert callers.at_work_most <= ROOM
        assert max(callers.steps_waited) <= ROOM, "who is let in waits no longer than for those before it"
        await eventually(lambda: site.at_work == 0)
        site.loader.tokens = threading.Semaphore(1)
        assert await ask() == "answered"
    assert site.at_work == 0
    assert site.gateway.predictions._engine._at_work == set()


async def test_callers_of_both_protocols_who_give_up_leave_their_places_to_others(site: Site) -> None:
    async with site.http() as http, site.grpc() as over_grpc:
        asked = [asyncio.create_task(ask()) for ask in (http, over_grpc) * (ROOM // 2)]
        await eventually(lambda: site.at_work == len(asked))
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await eventually(lambda: site.at_work <= THREADS)
        site.loader.tokens.release(100)
        assert [await http(), await over_grpc()] == ["answered", "answered"]
