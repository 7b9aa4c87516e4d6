"""Three real gateways on one NATS: who has too much is helped, who dies or leaves fails nothing, shares follow weights."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import grpc
import httpx
import pytest

from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut.api.openinference.v2.open_inference_pb2_grpc import GRPCInferenceServiceStub
from ergonaut_common.testing import key_ring_file

from .onnx_models import counting, doubling
from .test_process import PATIENCE_SECONDS, Site, deploy, healthy, made_site, scraped
from .test_workers_process import until, workers

pytestmark = pytest.mark.integration

NAMES = ("one", "two", "three")
ROUNDS = {"name": "rounds", "shape": [], "datatype": "INT64", "data": [5_000]}
"""Some milliseconds of a core."""

ROOM = {"ERGONAUT_GATEWAY_RUN_THREADS": "1", "ERGONAUT_GATEWAY_WAITING_MAX": "2"}
"""For three requests in each gateway."""

CALLERS = 5
"""More than one gateway has room for, and no more than two have."""


@pytest.fixture
def town(nats_url: str, tmp_path: Path) -> list[Site]:
    """Gateways that hear of each other; no others do, since these have a key of their own."""
    tenant = f"t-{uuid4().hex[:8]}"
    key_ring = key_ring_file(tmp_path, (tenant,))
    sites = [made_site(nats_url, tmp_path / name, key_ring, tenant) for name in NAMES]
    for site, name in zip(sites, NAMES, strict=True):
        told = {"ERGONAUT_GATEWAY_ADVERTISED_ADDRESS": site.process.address, "ERGONAUT_GATEWAY_REPLICA": name}
        site.process.environment |= ROOM | told
    return sites


@contextlib.asynccontextmanager
async def opened(town: list[Site], content: bytes, model: str, *, processes: int = len(NAMES)) -> AsyncIterator[None]:
    """All run, hold the model, and know of each other."""
    with contextlib.ExitStack() as started:
        for site in town:
            started.enter_context(site.process.running())
        async with AsyncExitStack() as stack:
            stubs = [await stack.enter_async_context(healthy(site)) for site in town]
            await deploy(stubs[0], town[0], content, model)
            for site in town:
                await holding(site, model)
            for site in town:
                # Workers of one gateway are no others to each other.
                own = int(site.process.environment.get("ERGONAUT_GATEWAY_WORKERS", "1"))
                await acquainted([site], processes - own)
            yield


async def holding(site: Site, model: str) -> None:
    async with site.http as http, asyncio.timeout(PATIENCE_SECONDS):
        while (await http.get(f"/v2/models/{model}/ready")).status_code != 200:
            await asyncio.sleep(0.05)


async def peers(site: Site, standing: str = "ready") -> float:
    return (await scraped(site)).get(f'ergonaut_gateway_peers{{standing="{standing}"}}', 0)


async def acquainted(town: list[Site], others: int = len(NAMES) - 1) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        for site in town:
            while await peers(site) != others:
                await asyncio.sleep(0.05)


async def served(site: Site) -> float:
    """Requests that a gateway has run."""
    page = await scraped(site)
    return sum(count for name, count in page.items() if name.startswith("ergonaut_inference_requests_total"))


async def sent(site: Site) -> float:
    page = await scraped(site)
    return sum(count for name, count in page.items() if name.startswith("ergonaut_gateway_forwarded_requests_total"))


@dataclass
class Load:
    """Callers who ask one gateway again and again."""

    site: Site
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    over: bool = False

    @contextlib.asynccontextmanager
    async def on(self) -> AsyncIterator["Load"]:
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._ask())
            try:
                yield self
            finally:
                self.over = True

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not what():
                await asyncio.sleep(0.01)

    async def answered(self, more: int) -> None:
        had = self.answers
        await self.until(lambda: self.answers >= had + more)

    async def _ask(self) -> None:
        async with self.site.http as http:
            while not self.over:
                answer = await http.post("/v2/models/counting/infer", json={"inputs": [ROUNDS]})
                if answer.status_code == 200:
                    self.answers += 1
                else:
                    self.failures.append(f"{answer.status_code} {answer.text}")


async def test_a_gateway_that_is_asked_too_much_is_helped_by_the_others(town: list[Site]) -> None:
    one, two, three = town
    async with opened(town, counting(), "counting"):
        async with Load(one).on() as load:
            await load.answered(200)
        assert load.failures == []
        for helper in (two, three):
            assert await served(helper) > 0
        assert await sent(two) == await sent(three) == 0


async def test_a_gateway_that_is_killed_under_load_costs_nobody_an_answer_and_helps_again_when_it_is_back(
    town: list[Site],
) -> None:
    one, two, _ = town
    async with opened(town, counting(), "counting"):
        async with Load(one).on() as load:
            await load.answered(50)
            assert await served(two) > 0
            two.process.kill()
            await load.answered(100)
            two.process.start()
            await acquainted([one])
            had = load.answers
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await served(two) == 0 or load.answers < had + 50:
                    await asyncio.sleep(0.05)
        assert load.failures == []


async def test_a_gateway_that_leaves_under_load_gets_nothing_more_and_fails_nothing(town: list[Site]) -> None:
    one, two, _ = town
    async with opened(town, counting(), "counting"):
        async with Load(one).on() as load:
            await load.answered(50)
            assert await two.process.stopped(within_seconds=20) == 0
            failed = (await scraped(one))["ergonaut_gateway_forwarded_failures_total"]
            await load.answered(50)
            assert (await scraped(one))["ergonaut_gateway_forwarded_failures_total"] == failed
        assert load.failures == []
        assert "requests cut off" not in two.process.log.read_text()


async def test_a_gateway_that_stands_still_under_load_costs_time_and_no_answer(town: list[Site]) -> None:
    one, two, _ = town
    async with opened(town, counting(), "counting"):
        async with Load(one).on() as load:
            await load.answered(50)
            os.kill(two.process.pid, signal.SIGSTOP)
            try:
                await load.answered(100)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while sum([await peers(one, standing) for standing in ("ready", "full", "left_alone")]) != 1:
                        await asyncio.sleep(0.05)
                    # What it had when it stood still was asked of others.
                    while (await scraped(one))["ergonaut_gateway_forwarded_failures_total"] == 0:
                        await asyncio.sleep(0.05)
            finally:
                os.kill(two.process.pid, signal.SIGCONT)
            await acquainted([one])
            await load.answered(50)
        assert load.failures == []


async def test_workers_of_a_helper_that_are_replaced_under_load_fail_nothing(town: list[Site]) -> None:
    one, two, _ = town
    two.process.environment["ERGONAUT_GATEWAY_WORKERS"] = "2"
    async with opened(town, counting(), "counting", processes=len(NAMES) + 1):
        async with Load(one).on() as load:
            await load.answered(50)
            first = {worker.pid for worker in workers(two)}
            os.kill(two.process.pid, signal.SIGHUP)
            await until(lambda: len(workers(two)) == 2 and not first & {worker.pid for worker in workers(two)})
            await acquainted([one], len(NAMES))
            await load.answered(100)
        assert load.failures == []


async def test_callers_of_one_kept_connection_are_spread_by_weight(town: list[Site]) -> None:
    weights, requests = (1, 2, 1), 400
    for site, weight in zip(town, weights, strict=True):
        site.process.environment |= {
            "ERGONAUT_GATEWAY_BALANCING": "even",
            "ERGONAUT_GATEWAY_WEIGHT": str(weight),
        }
    async with opened(town, doubling(), "doubling"):
        asked = oip.ModelInferRequest(model_name="doubling")
        asked.inputs.add(name="x", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
        metadata = town[0].process.metadata(town[0].tenant)
        async with grpc.aio.insecure_channel(town[0].process.address) as channel:
            infer = GRPCInferenceServiceStub(channel).ModelInfer
            async with asyncio.timeout(PATIENCE_SECONDS):
                # Who is heard of may have told last when it had no model yet, and is passed over until it tells again.
                while not all([await served(site) for site in town]):
                    await infer(asked, metadata=metadata)
            before = [await served(site) for site in town]
            for _ in range(requests):
                answer = await infer(asked, metadata=metadata, timeout=PATIENCE_SECONDS)
                assert answer.model_version == "1"
        counts = [await served(site) - first for site, first in zip(town, before, strict=True)]
    assert sum(counts) == requests
    for count, weight in zip(counts, weights, strict=True):
        share = weight / sum(weights)
        # Six standard deviations: chance alone exceeds them twice in a billion times.
        assert abs(count - requests * share) < 6 * (requests * share * (1 - share)) ** 0.5, counts


async def test_the_callers_tenant_and_key_stay_his_and_no_key_is_written_down(town: list[Site]) -> None:
    one = town[0]
    async with opened(town, counting(), "counting"):
        async with Load(one).on() as load:
            await load.answered(30)
        async with httpx.AsyncClient(base_url=f"http://{one.http_address}") as http:
            answer = await http.post("/v2/models/counting/infer", json={"inputs": [ROUNDS]})
            assert answer.status_code == 401
        for site in town:
            page = await scraped(site)
            tenants = {name for name in page if name.startswith("ergonaut_inference_requests_total")}
            assert all(f'tenant="{site.tenant}"' in name for name in tenants)
            log = site.process.log.read_text()
            assert not [key for key in site.process.keys.values() if key in log]


async def test_no_others_are_heard_of_whose_service_key_is_another(town: list[Site], tmp_path: Path) -> None:
    stranger = town[2]
    (tmp_path / "stranger").mkdir()
    _, keys = key_ring_file(tmp_path / "stranger")
    Path(stranger.process.environment["ERGONAUT_SERVICE_KEY_FILE"]).write_text(keys["service"])
    with contextlib.ExitStack() as processes:
        for site in town:
            processes.enter_context(site.process.running())
        async with AsyncExitStack() as stack:
            for site in town:
                await stack.enter_async_context(healthy(site))
            await acquainted(town[:2], others=1)
            assert await peers(stranger) == 0
    assert "announcement not believed" in stranger.process.log.read_text()


def test_an_address_that_is_none_is_refused_at_the_start(town: list[Site]) -> None:
    town[0].process.environment["ERGONAUT_GATEWAY_ADVERTISED_ADDRESS"] = "here"
    with town[0].process.running():
        assert town[0].process.exit_code() == 78
    assert "advertised_address" in town[0].process.log.read_text()
