"""Several workers as one gateway, on a real NATS: they die, are replaced, restart one by one and leave, under constant load."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import grpc
import httpx
import psutil
import pytest

from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut.api.openinference.v2.open_inference_pb2_grpc import GRPCInferenceServiceStub
from ergonaut_common.testing import key_ring_file

from .onnx_models import doubling
from .test_process import PATIENCE_SECONDS, Site, X, deploy, healthy, made_site, scraped, served_version

pytestmark = pytest.mark.integration

WORKERS = 2
HTTP_CALLERS, GRPC_CALLERS = 12, 4
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 50))


@pytest.fixture
def site(nats_url: str, tmp_path: Path) -> Site:
    tenant = f"t-{uuid4().hex[:8]}"
    site = made_site(nats_url, tmp_path / "one", key_ring_file(tmp_path, (tenant,)), tenant)
    site.process.environment["ERGONAUT_GATEWAY_WORKERS"] = str(WORKERS)
    return site


@pytest.fixture
def running(site: Site) -> Iterator[Site]:
    with site.process.running():
        yield site


@dataclass
class Caller:
    """Asks again and again on a connection of its own; what went wrong is kept, and asked again at once."""

    port: int = 0
    answers: int = 0
    failures: list[str] = field(default_factory=list)


class Load:
    """Callers who never stop, until they are told to."""

    def __init__(self, site: Site) -> None:
        self.http = [Caller() for _ in range(HTTP_CALLERS)]
        self.grpc = [Caller() for _ in range(GRPC_CALLERS)]
        self._site = site
        self._over = False

    @property
    def callers(self) -> list[Caller]:
        return self.http + self.grpc

    @property
    def failures(self) -> list[str]:
        return [each for caller in self.callers for each in caller.failures]

    async def answered_again(self) -> None:
        """Return when every caller has had two more answers."""
        before = [caller.answers for caller in self.callers]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any(caller.answers < had + 2 for caller, had in zip(self.callers, before, strict=True)):
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def on(self) -> AsyncIterator["Load"]:
        await all_take_callers(self._site)
        async with asyncio.TaskGroup() as group:
            for caller in self.http:
                group.create_task(self._ask_http(caller))
            for caller in self.grpc:
                group.create_task(self._ask_grpc(caller))
            await self.answered_again()
            try:
                yield self
            finally:
                self._over = True

    async def _ask_http(self, caller: Caller) -> None:
        async with self._site.http as http:
            while not self._over:
                try:
                    answer = await http.post("/v2/models/doubling/infer", json={"inputs": [X]})
                    answer.raise_for_status()
                    caller.answers += 1
                    with contextlib.suppress(OSError):
                        # The connection may have ended with the answer.
                        caller.port = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
                except httpx.TransportError as error:
                    caller.failures.append(type(error).__name__)

    async def _ask_grpc(self, caller: Caller) -> None:
        asked = oip.ModelInferRequest(model_name="doubling")
        x = asked.inputs.add(name="x", datatype="FP32", shape=[1, 3])
        x.contents.fp32_contents.extend([1, 2, 3])
        metadata = self._site.process.metadata(self._site.tenant)
        async with grpc.aio.insecure_channel(self._site.process.address, options=OWN_CONNECTION) as channel:
            infer = GRPCInferenceServiceStub(channel).ModelInfer
            while not self._over:
                try:
                    await infer(asked, metadata=metadata, timeout=PATIENCE_SECONDS, wait_for_ready=True)
                    caller.answers += 1
                except grpc.aio.AioRpcError as error:
                    caller.failures.append(str(error.code().name))


def workers(site: Site) -> list[psutil.Process]:
    return psutil.Process(site.process.pid).children()


def callers_ports(site: Site, worker: psutil.Process) -> set[int]:
    """Of those who speak HTTP with a worker; whoever is at another door of it may have a port of the same number."""
    door = int(site.http_address.rpartition(":")[2])
    with contextlib.suppress(psutil.NoSuchProcess):
        return {each.raddr.port for each in worker.net_connections("tcp") if each.raddr and each.laddr.port == door}
    return set()


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not what():
            await asyncio.sleep(0.01)


async def all_take_callers(site: Site) -> None:
    """Return when each of as many workers as there shall be has taken one of some callers."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with contextlib.AsyncExitStack() as stack:
                ports = set()
                for _ in range(4 * WORKERS):
                    http = await stack.enter_async_context(site.http)
                    answer = await http.get("/v2/health/ready")
                    ports.add(answer.extensions["network_stream"].get_extra_info("client_addr")[1])
                if [bool(ports & callers_ports(site, worker)) for worker in workers(site)] == [True] * WORKERS:
                    return


def requests_counted(page: dict[str, float]) -> float:
    return sum(value for name, value in page.items() if name.startswith("ergonaut_inference_requests_total"))


async def test_of_a_killed_worker_only_the_requests_at_work_fail_and_each_can_be_asked_again(running: Site) -> None:
    async with healthy(running) as stub:
        await deploy(stub, running, doubling())
        async with Load(running).on() as load:
            victim, other = workers(running)
            ports, on_victim = [caller.port for caller in load.http], callers_ports(running, victim)
            victim.kill()
            await until(
                lambda: len(workers(running)) == WORKERS and victim.pid not in [w.pid for w in workers(running)]
            )
            await load.answered_again()
    assert on_victim & set(ports), "the killed worker had callers"
    for caller, port in zip(load.http, ports, strict=True):
        assert len(caller.failures) <= (1 if port in on_victim else 0)
        assert set(caller.failures) <= {"ReadError", "RemoteProtocolError", "WriteError"}
    for caller in load.grpc:
        assert len(caller.failures) <= 1
        assert set(caller.failures) <= {"UNAVAILABLE"}
    assert other.is_running()


async def test_tritonclient_asks_once_more_where_a_worker_was_killed_and_is_answered(running: Site) -> None:
    kills = 4
    async with healthy(running) as stub:
        await deploy(stub, running, doubling())
        script = Path(__file__).with_name("triton_load_script.py")
        addresses = (running.http_address, running.process.address, running.process.keys[running.tenant])
        pipe = asyncio.subprocess.PIPE
        asking = await asyncio.create_subprocess_exec(
            sys.executable, str(script), *addresses, stdin=pipe, stdout=pipe, stderr=pipe
        )
        counted = requests_counted(await scraped(running))
        for _ in range(kills):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while requests_counted(await scraped(running)) < counted + 20:
                    assert asking.returncode is None, (await asking.communicate())[1].decode()
                    await asyncio.sleep(0.02)
            victim = max(workers(running), key=lambda worker: len(callers_ports(running, worker)))
            victim.kill()
            await until(lambda: len(workers(running)) == WORKERS)
            await all_take_callers(running)
            counted = requests_counted(await scraped(running))
        told, because = await asyncio.wait_for(asking.communicate(b""), PATIENCE_SECONDS)
    assert asking.returncode == 0, because.decode()
    answers, failures = (int(each) for each in told.split())
    assert answers > 20 * kills
    assert failures <= 2 * kills, because.decode()


async def test_the_worker_that_takes_a_killed_ones_place_takes_callers(running: Site) -> None:
    async with healthy(running) as stub:
        await deploy(stub, running, doubling())
        first = workers(running)
        for worker in first:
            worker.kill()
        await until(lambda: not any(worker.is_running() for worker in first))
        await all_take_callers(running)
        assert await served_version(running) == 1


async def test_all_workers_are_replaced_one_by_one_and_no_request_fails(running: Site) -> None:
    async with healthy(running) as stub:
        await deploy(stub, running, doubling())
        async with Load(running).on() as load:
            first = {worker.pid for worker in workers(running)}
            os.kill(running.process.pid, signal.SIGHUP)
            await until(lambda: not first & {worker.pid for worker in workers(running)})
            await until(lambda: len(workers(running)) == WORKERS)
            await load.answered_again()
        assert load.failures == []
    assert await running.process.stopped(within_seconds=20) == 0


async def test_workers_that_are_replaced_read_the_keys_anew(running: Site) -> None:
    async with healthy(running) as stub:
        await deploy(stub, running, doubling())
    path = Path(running.process.environment["ERGONAUT_KEYS_FILE"])
    _, running.process.keys = key_ring_file(path.parent, (running.tenant,))
    first = {worker.pid for worker in workers(running)}
    os.kill(running.process.pid, signal.SIGHUP)
    await until(lambda: len(workers(running)) == WORKERS and not first & {worker.pid for worker in workers(running)})
    assert await served_version(running) == 1


async def test_callers_are_shared_among_the_workers(running: Site) -> None:
    async with healthy(running) as stub:
        await deploy(stub, running, doubling())
        async with Load(running).on() as load:
            ports = {caller.port for caller in load.http}
            each = [len(callers_ports(running, worker) & ports) for worker in workers(running)]
    assert sum(each) == HTTP_CALLERS
    assert min(each) >= HTTP_CALLERS // WORKERS // 2


async def test_a_change_that_was_answered_is_known_to_every_worker(running: Site) -> None:
    async with healthy(running) as stub:
        metadata = running.process.metadata(running.tenant)
        for version in (1, 2, 3):
            await deploy(stub, running, doubling(f"file {version}"))
            assert {await served_version(running) for _ in range(8)} == {version}
        for version in (1, 2, 3):
            request = pb.SetModelAliasRequest(name="doubling", alias="champion", version=str(version))
            await stub.SetModelAlias(request, metadata=metadata, timeout=PATIENCE_SECONDS)
            assert {await served_version(running) for _ in range(8)} == {version}


async def test_one_page_of_metrics_counts_for_all_workers_and_never_falls(running: Site) -> None:
    async with healthy(running) as stub:
        await deploy(stub, running, doubling())
        await all_take_callers(running)
        for _ in range(20):
            await served_version(running)
        assert requests_counted(await scraped(running)) == 20
        workers(running)[0].kill()
        await until(lambda: len(workers(running)) == WORKERS)
        assert requests_counted(await scraped(running)) == 20
        for _ in range(4):
            await served_version(running)
        assert requests_counted(await scraped(running)) == 24


async def test_nothing_is_left_of_a_gateway_whose_parent_is_killed_and_another_has_the_ports(running: Site) -> None:
    async with healthy(running) as stub:
        await deploy(stub, running, doubling())
    orphans = workers(running)
    running.process.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, orphans, PATIENCE_SECONDS)
    assert alive == []
    running.process.start()
    async with healthy(running):
        assert await served_version(running) == 1


async def test_a_stop_lets_all_workers_finish_and_ends_the_parent_last(running: Site) -> None:
    async with healthy(running) as stub:
        await deploy(stub, running, doubling())
    await all_take_callers(running)
    children = workers(running)
    assert await running.process.stopped(within_seconds=20) == 0
    assert not any(child.is_running() for child in children)
    log = running.process.log.read_text()
    assert Counter(line.count("service stopped") for line in log.splitlines())[1] == WORKERS
    assert "Traceback" not in log
    assert "destroyed" not in log


def test_a_bad_setting_ends_parent_and_workers_at_once(site: Site) -> None:
    site.process.environment["ERGONAUT_GATEWAY_OPENAI_ROUTES"] = str(site.process.folder / "absent.yaml")
    with site.process.running():
        assert site.process.exit_code() == 1
    assert "absent.yaml" in site.process.log.read_text()


def test_a_taken_port_is_named_by_the_parent(site: Site) -> None:
    import socket

    host, _, port = site.http_address.rpartition(":")
    with socket.create_server((host, int(port))), site.process.running():
        assert site.process.exit_code() == 1
    assert f"cannot listen on {site.http_address}" in site.process.log.read_text()


async def test_a_parent_has_one_thread_when_it_forks(running: Site) -> None:
    async with healthy(running):
        assert psutil.Process(running.process.pid).num_threads() == 1
