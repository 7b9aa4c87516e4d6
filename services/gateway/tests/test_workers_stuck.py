"""Workers that are stuck, on a real NATS: their parent notices, tells why, and has others take their place."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest

from ergonaut_common.testing import key_ring_file

from .onnx_models import comparing, doubling
from .test_process import PATIENCE_SECONDS, Site, deploy, healthy, made_site, scraped, served_version
from .test_workers_process import WORKERS, all_take_callers, callers_ports, until, workers

pytestmark = pytest.mark.integration

STUCK_SECONDS = 3.0
"""Longer than a busy machine leaves a worker without a core."""

BLOCKS_THE_LOOP = "import signal, time\nsignal.signal(signal.SIGUSR2, lambda *_: time.sleep(600))\n"
"""Run at the start of the interpreter: a signal then keeps the thread that runs the loop busy, as a fault of ours would."""

BOXES = 400_000
"""To be compared: a minute and more at one operator, which nothing can interrupt."""


@pytest.fixture
def site(nats_url: str, tmp_path: Path) -> Site:
    tenant = f"t-{uuid4().hex[:8]}"
    site = made_site(nats_url, tmp_path / "one", key_ring_file(tmp_path, (tenant,)), tenant)
    (tmp_path / "sitecustomize.py").write_text(BLOCKS_THE_LOOP)
    site.process.environment |= {
        "ERGONAUT_GATEWAY_WORKERS": str(WORKERS),
        "ERGONAUT_GATEWAY_STUCK_SECONDS": str(STUCK_SECONDS),
        "PYTHONPATH": str(tmp_path),
    }
    return site


@pytest.fixture
def running(site: Site) -> Iterator[Site]:
    with site.process.running():
        yield site


def replaced(page: dict[str, float]) -> dict[str, float]:
    name = "ergonaut_gateway_workers_replaced_total"
    return {
        because: page[f'{name}{{because="{because}"}}']
        for because in ("ended", "silent", "overdue")
        if page[f'{name}{{because="{because}"}}']
    }


def told_of(site: Site) -> str:
    return "\n".join(line for line in site.process.log.read_text().splitlines() if "worker stuck" in line)


async def taken_by_another(site: Site, stuck: psutil.Process) -> None:
    """Return when another worker has its place and takes callers."""
    await until(lambda: len(workers(site)) == WORKERS and stuck.pid not in [each.pid for each in workers(site)])
    await all_take_callers(site)


async def taken_in_by(site: Site, worker: psutil.Process) -> None:
    """Return when a new caller is this worker's."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with site.http as http:
                answer = await http.get("/v2/health/ready")
                port = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
                if port in callers_ports(site, worker):
                    return


@pytest.mark.parametrize(("number", "told"), [(signal.SIGSTOP, "not told"), (signal.SIGUSR2, "sitecustomize.py")])
async def test_a_worker_whose_loop_stands_still_is_replaced_and_it_is_told_where_it_stood(
    running: Site, number: signal.Signals, told: str
) -> None:
    async with healthy(running) as stub:
        await deploy(stub, running, doubling())
        await all_take_callers(running)
        stuck, other = workers(running)
        os.kill(stuck.pid, number)
        await taken_by_another(running, stuck)
        assert await served_version(running) == 1
    assert replaced(await scraped(running)) == {"silent": 1}
    assert other.is_running()
    assert f"stood still for {STUCK_SECONDS:g} s" in told_of(running)
    assert told in told_of(running)
    assert await running.process.stopped(within_seconds=20) == 0


async def test_a_caller_of_a_worker_that_is_stuck_is_cut_off_and_answered_when_he_asks_again(running: Site) -> None:
    async with healthy(running) as stub:
        await deploy(stub, running, doubling())
        await all_take_callers(running)
        async with running.http as http:
            answer = await http.get("/v2/health/ready")
            port = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
            stuck = next(worker for worker in workers(running) if port in callers_ports(running, worker))
            os.kill(stuck.pid, signal.SIGSTOP)
            with pytest.raises(httpx.TransportError):
                await http.get("/v2/models/doubling")
            assert (await http.get("/v2/models/doubling")).status_code == 200


async def test_a_worker_with_a_run_that_does_not_end_is_replaced_and_no_request_fails(running: Site) -> None:
    running.process.kill()
    shorter = {"ERGONAUT_GATEWAY_RUN_TIMEOUT_SECONDS": "1", "ERGONAUT_GATEWAY_STOP_SECONDS": "1"}
    running.process.environment |= shorter
    running.process.start()
    async with healthy(running) as stub:
        await deploy(stub, running, doubling())
        await deploy(stub, running, comparing(), "comparing")
        await all_take_callers(running)
        boxes = {"name": "count", "shape": [1], "datatype": "INT64", "data": [BOXES]}
        first = {worker.pid for worker in workers(running)}
        async with running.http as http:
            answer = await http.post("/v2/models/comparing/infer", json={"inputs": [boxes]})
            assert (answer.status_code, "longer than 1 s" in answer.text) == (503, True)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while first <= {worker.pid for worker in workers(running)}:
                    assert await served_version(running) == 1
        await until(lambda: len(workers(running)) == WORKERS)
        assert await served_version(running) == 1
    assert replaced(await scraped(running)) == {"overdue": 1}
    assert f"a run is at work {STUCK_SECONDS:g} s after it was told to end" in told_of(running)


async def test_a_gateway_that_was_stopped_as_a_whole_for_a_while_replaces_nobody(running: Site) -> None:
    async with healthy(running):
        everybody = [psutil.Process(running.process.pid), *workers(running)]
        # What must not happen would within these times, and there is nothing to wait for.
        for number, seconds in ((signal.SIGSTOP, STUCK_SECONDS + 1), (signal.SIGCONT, 1)):
            for process in everybody:
                os.kill(process.pid, number)
            await asyncio.sleep(seconds)
        assert replaced(await scraped(running)) == {}
        assert [each.pid for each in workers(running)] == [each.pid for each in everybody[1:]]


@pytest.fixture
def supervised(site: Site) -> Iterator[Site]:
    site.process.environment |= {"ERGONAUT_GATEWAY_WORKERS": "1", "ERGONAUT_GATEWAY_SUPERVISED": "true"}
    site.process.environment["ERGONAUT_GATEWAY_STOP_SECONDS"] = "2"
    with site.process.running():
        yield site


async def test_a_single_worker_that_is_killed_is_replaced_and_nobody_is_refused_meanwhile(supervised: Site) -> None:
    async with healthy(supervised) as stub:
        await deploy(stub, supervised, doubling())
        (first,) = workers(supervised)
        first.kill()
        # Without a port, this would be refused; with one, whoever comes waits until there is a worker.
        assert await served_version(supervised) == 1
        assert [worker.pid for worker in workers(supervised)] != [first.pid]
    assert replaced(await scraped(supervised)) == {"ended": 1}
    assert await supervised.process.stopped(within_seconds=20) == 0


async def test_one_that_dies_before_the_one_it_replaced_has_left_is_replaced_itself(supervised: Site) -> None:
    async with healthy(supervised) as stub, supervised.http as silent:
        await deploy(stub, supervised, doubling())
        assert (await silent.get("/v2/health/ready")).status_code == 200
        (old,) = workers(supervised)
        os.kill(supervised.process.pid, signal.SIGHUP)
        await until(lambda: len(workers(supervised)) == 2)
        new = next(worker for worker in workers(supervised) if worker.pid != old.pid)
        await taken_in_by(supervised, new)
        new.kill()
        await until(lambda: not {old.pid, new.pid} & {worker.pid for worker in workers(supervised)})
        assert await served_version(supervised) == 1
