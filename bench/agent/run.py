"""What the agent costs its host, and how soon a reading is seen.

`make bench-agent`. Starts a real NATS and the agent, and counts the agent's CPU time as the kernel does, over two minutes in
which nothing else happens; then over a minute with eight runs that sleep, and over another in which its /metrics is scraped
every 5 s as well. Run it on a quiet machine, since a busy one makes every waking dearer. Then starts the ledger as well and a
run, and tells for each sample how long after its end it was seen: over gRPC, in Prometheus, and in ClickHouse, by asking each
all the time. `ERGONAUT_BENCH_SECONDS` changes the two minutes; the parts with runs take half of it each.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nats
from grpc import aio

from ergonaut.api.ledger.v1 import ledger_pb2
from ergonaut.api.ledger.v1.ledger_pb2_grpc import LedgerServiceStub
from ergonaut.api.telemetry.v1 import telemetry_pb2
from ergonaut.api.telemetry.v1.telemetry_pb2_grpc import TelemetryServiceStub
from ergonaut.events import PowerSampled
from ergonaut.runcontext import RunContext
from ergonaut_common.testing import ServiceProcess, free_port, nats_server

QUIET_SECONDS = float(os.environ.get("ERGONAUT_BENCH_SECONDS", "120"))
RUNS_SECONDS = QUIET_SECONDS / 2
RUNS = 8
SCRAPE_EVERY_SECONDS = 5.0
SETTLING_SECONDS = 10
WATCHED_SAMPLES = 60
ASK_AGAIN_SECONDS = 0.02
CPU_SECONDS_PER_HOUR_MAX = 3.0
VISIBLE_SECONDS_MAX = 1.0
RUN_ID = "run-bench"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """What a process has used, all its threads, in nanoseconds' steps where the kernel tells them."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def kernel_cpu_seconds(pid: int) -> float:
    """The same as `ps` tells it, threads that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


async def serves(service: ServiceProcess) -> None:
    """Return once it is healthy."""
    while await service.health() != "SERVING":
        if not service.lives:
            raise SystemExit(f"{service.name} has ended; its log: {service.log.read_text()[-2000:]}")
        await asyncio.sleep(0.2)


def cost(agent: ServiceProcess, meanwhile: str, seconds: float) -> float:
    """CPU-seconds an hour of the agent over so long, once it has settled; told with what happens meanwhile."""
    time.sleep(SETTLING_SECONDS)
    before, by_kernel, began = cpu_seconds(agent.pid), kernel_cpu_seconds(agent.pid), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    hourly = (cpu_seconds(agent.pid) - before) / passed * 3600
    told = (kernel_cpu_seconds(agent.pid) - by_kernel) / passed * 3600
    print(
        f"agent, {meanwhile}: {hourly:.2f} CPU-seconds an hour over {passed:.0f} s, {told:.2f} by /proc/PID/stat; "
        f"host's load {os.getloadavg()[0]:.2f}",
        flush=True,
    )
    return hourly


def costs(agent: ServiceProcess, port: int) -> None:
    """What the agent costs an idle host, one with runs that sleep, and one that is scraped as well; a bar for each."""
    bar("agent_cpu_seconds_per_hour", cost(agent, "nothing else happens", QUIET_SECONDS), CPU_SECONDS_PER_HOUR_MAX)
    name = f"agent_cpu_seconds_per_hour_{RUNS}_runs"
    with ExitStack() as stack:
        for number in range(RUNS):
            stack.enter_context(a_run(f"{RUN_ID}-{number}"))
        bar(name, cost(agent, f"{RUNS} runs sleep", RUNS_SECONDS), CPU_SECONDS_PER_HOUR_MAX)
        seen = sum(f'"{RUN_ID}-{number}"' in metrics(port) for number in range(RUNS))
        if seen != RUNS:
            raise SystemExit(
                f"the agent's /metrics tells of {seen} of {RUNS} runs, so that their cost was not measured"
            )
        meanwhile = f"{RUNS} runs sleep and /metrics is scraped every {SCRAPE_EVERY_SECONDS:g} s"
        with scraping(port):
            bar(f"{name}_scraped", cost(agent, meanwhile, RUNS_SECONDS), CPU_SECONDS_PER_HOUR_MAX)


def metrics(port: int) -> str:
    """What a scrape is answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


@contextmanager
def scraping(port: int) -> Iterator[None]:
    """Scrapes as Prometheus does, from a thread of this process; a scrape that fails fails the block at its end."""
    over, failures = threading.Event(), []

    def scrape() -> None:
        while not over.wait(SCRAPE_EVERY_SECONDS):
            try:
                metrics(port)
            except OSError as error:
                failures.append(error)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise SystemExit(f"{len(failures)} scrapes of the agent failed, the last with: {failures[-1]}")


class Seen:
    """When each sample ended, and when each way of looking showed it."""

    def __init__(self) -> None:
        self.ended_at: list[float] = []
        self.delays: dict[str, list[float]] = {}

    async def hear(self, message: object) -> None:
        """Note a sample's end from the event itself."""
        event = PowerSampled.model_validate_json(message.data)  # type: ignore[attr-defined]
        mine = [sample for sample in event.samples if sample.run_id == RUN_ID]
        if mine:
            self.ended_at.append(max(sample.ended_at for sample in mine).timestamp())

    def note(self, way: str, ended_at: float) -> None:
        """A sample is seen now."""
        self.delays.setdefault(way, []).append(time.time() - ended_at)

    def enough(self, way: str) -> bool:
        """Whether this way has shown as many samples as are to be watched."""
        return len(self.delays.get(way, ())) >= WATCHED_SAMPLES


async def watch_grpc(agent: ServiceProcess, seen: Seen) -> None:
    """Each answer of WatchRun."""
    async with aio.insecure_channel(agent.address) as channel:
        request = telemetry_pb2.WatchRunRequest(run_id=RUN_ID)
        async for answer in TelemetryServiceStub(channel).WatchRun(request, metadata=agent.metadata()):
            seen.note("grpc", answer.sampled_at.ToNanoseconds() / 1e9)
            if seen.enough("grpc"):
                return


async def watch_prometheus(port: int, seen: Seen) -> None:
    """Scrapes without a pause."""

    def newest() -> float:
        lines = metrics(port).splitlines()
        return next(
            float(line.split()[1]) for line in lines if line.startswith("ergonaut_last_sample_timestamp_seconds ")
        )

    await _each_new(newest_of=lambda: asyncio.to_thread(newest), way="prometheus", seen=seen)


async def watch_clickhouse(ledger: ServiceProcess, seen: Seen) -> None:
    """How many of the run's samples the ledger finds in its tables; each interval has one for each component and one of rent."""
    async with aio.insecure_channel(ledger.address) as channel:
        stub, request = LedgerServiceStub(channel), ledger_pb2.GetRunFootprintRequest(run_id=RUN_ID)

        async def newest() -> float:
            try:
                answer = await stub.GetRunFootprint(request, metadata=ledger.metadata(), timeout=10)
            except aio.AioRpcError:
                return 0.0
            whole = answer.samples // max(1, len(answer.components))
            return seen.ended_at[whole - 1] if 0 < whole <= len(seen.ended_at) else 0.0

        await _each_new(newest_of=newest, way="clickhouse", seen=seen)


async def _each_new(newest_of: Callable[[], Awaitable[float]], way: str, seen: Seen) -> None:
    last = await newest_of()
    while not seen.enough(way):
        newest = await newest_of()
        if newest > last:
            seen.note(way, newest)
            last = newest
        await asyncio.sleep(ASK_AGAIN_SECONDS)


async def visible(url: str, agent: ServiceProcess, ledger: ServiceProcess, port: int) -> Seen:
    """Watch a run's samples in every way at once."""
    seen = Seen()
    connection = await nats.connect(url)
    await connection.subscribe("ergonaut.v1.default.telemetry.power.sampled.>", cb=seen.hear)
    with a_run(), ledger.running():
        await serves(ledger)
        async with asyncio.timeout(WATCHED_SAMPLES * 10), asyncio.TaskGroup() as group:
            group.create_task(watch_grpc(agent, seen))
            group.create_task(watch_prometheus(port, seen))
            group.create_task(watch_clickhouse(ledger, seen))
    await connection.close()
    return seen


@contextmanager
def a_run(run_id: str = RUN_ID) -> Iterator[None]:
    """A program of a run that does nothing."""
    environment = {**os.environ, **RunContext(run_id=run_id, metered=True).to_environment()}
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], env=environment) as program:
        try:
            yield
        finally:
            program.kill()


def percentile_99(values: list[float]) -> float:
    """The value that one in a hundred passes; of fewer, the largest."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def bar(name: str, value: float, bound: float) -> None:
    """One line a bar: what was promised and what was seen."""
    print(f"BAR {name} {value:.3f} {bound:g} {'ok' if value <= bound else 'short'}", flush=True)


def main() -> None:
    """Measure and tell."""
    with tempfile.TemporaryDirectory() as folder, nats_server(Path(folder) / "nats") as url:
        port = free_port()
        settings = {"ERGONAUT_NATS_URL": url, "ERGONAUT_TELEMETRY_METRICS_ADDRESS": f"127.0.0.1:{port}"}
        agent = ServiceProcess("telemetry", Path(folder) / "agent", settings)
        ledger = ServiceProcess("ledger", Path(folder) / "ledger", {"ERGONAUT_NATS_URL": url})
        with agent.running():
            asyncio.run(serves(agent))
            costs(agent, port)
            seen = asyncio.run(visible(url, agent, ledger, port))
    for way, delays in seen.delays.items():
        print(
            f"{way}: median {sorted(delays)[len(delays) // 2]:.3f} s, worst {max(delays):.3f} s, {len(delays)} samples"
        )
        bar(f"visible_seconds_p99_{way}", percentile_99(delays), VISIBLE_SECONDS_MAX)


if __name__ == "__main__":
    main()
