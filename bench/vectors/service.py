"""The service as its callers have it: vectors taken in over gRPC, single queries, a start with vectors there. Called by `run.py`.

One nats-server that writes to the disk before it acknowledges (`sync_interval: always`), one vectors service and one client share
the machine. Timed is by the clock; a write counts once it was acknowledged.
"""

import asyncio
import itertools
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from curves import Wish
from sets import Array, Set
from telling import bar, failures, progress, tell

from ergonaut.client import AsyncClient
from ergonaut.client.connection import Connection
from ergonaut.client.vectors import Ask
from ergonaut.errors import ErgonautError
from ergonaut_common.lifetimes import background
from ergonaut_common.testing import ServiceProcess, binary, free_port, running

INGEST_PER_SECOND_MIN = 30_000
VISIBLE_MS_P99_MAX = 200.0
GRPC_MS_P50_MAX = 1.5
READY_SECONDS_MAX = 1.0
FIRST_QUERY_MS_MAX = 50.0

BATCH = 256
"""Vectors of one batch that is told; the service cuts it into messages of its log."""

SINGLES = 1_000
SETTLE_SECONDS_MAX = 300.0
"""How long a run waits until indexes are built."""

LOOK_SECONDS = 12.0
IDLE_PART = 0.05
"""A service that takes so little of one processor for so long builds nothing: after 5 s without a write it would have begun."""

KNOCK_SECONDS = 0.005

KERNELS_SECONDS_MAX = 300.0
"""How long the first start may take, which compiles the kernels where nobody has yet."""

BUS_SECONDS_MAX = 120.0
"""How long NATS may take to start with ten thousand streams, which it reads one by one after it was killed."""

NAME, SEEN, ALONE = "bench", "seen", "alone"
"""Collections: what is asked of, what is written to while somebody looks when that is seen, and what gets one vector a call."""

CALLERS = 60
CALLING_SECONDS = 8.0
"""As many as a collection lets wait at once, and for how long they write."""


@contextmanager
def bus(folder: Path) -> Iterator[tuple[str, int]]:
    """A nats-server that writes through, with what the folder has; gives its address and its process."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nats.conf"
    storage = {"store_dir": str(folder), "sync_interval": "always"}
    config.write_text(json.dumps({"listen": f"127.0.0.1:{port}", "max_payload": 8 * 1024 * 1024, "jetstream": storage}))
    command = [binary("nats-server"), "-c", str(config)]
    with running(command, folder / "nats.log", port, patience_seconds=BUS_SECONDS_MAX) as process:
        yield f"nats://127.0.0.1:{port}", process.pid


def service_part(of: Set, wish: Wish) -> None:
    """All that is asked of the service over one set."""
    try:
        asyncio.run(_service(of, wish))
    except (ErgonautError, AssertionError, TimeoutError, OSError) as error:
        failures.append(f"service: {error}")
        tell(f"  the service failed: {str(error)[:300]}")


async def _service(of: Set, wish: Wish) -> None:
    rows, queries = np.array(of.base()), of.queries()
    with TemporaryDirectory() as folder, bus(Path(folder) / "nats") as (address, _):
        settings = {"ERGONAUT_NATS_URL": address, "ERGONAUT_VECTORS_LOG_BYTES_MAX": str(4 << 30)}
        process = ServiceProcess("vectors", Path(folder) / "vectors", settings, patience_seconds=KERNELS_SECONDS_MAX)
        with process.running():
            await process.wait_healthy()
            async with client_of(process) as client:
                for name in (NAME, SEEN):
                    await client.vectors.create(
                        name, of.dimension, metric="inner-product" if of.metric == "ip" else "l2"
                    )
                await _watched(client, process, of, rows)
                await _settled(process)
                per_second = await _ingested(client, NAME, of, rows)
                bar(f"{of.name}_ingest_vectors_per_second", per_second, INGEST_PER_SECOND_MIN)
                await _settled(process)
                await _singles(client, of, queries, wish)
                await _one_by_one(client, of, rows)
            await process.stopped(60)
        await _started(process, of, queries)


@asynccontextmanager
async def client_of(process: ServiceProcess) -> AsyncIterator[AsyncClient]:
    """A client of the service."""
    connection = Connection({"vectors": process.address}, process.keys["default"])
    async with AsyncClient(connection) as client:
        yield client


async def _watched(client: AsyncClient, process: ServiceProcess, of: Set, rows: Array) -> None:
    """Have another caller look, while all rows are told, when what it writes is seen; the collection is dropped behind it."""
    seconds: list[float] = []
    async with client_of(process) as other, background(_watch(other, rows, seconds)):
        await _ingested(client, SEEN, of, rows)
    await client.vectors.drop(SEEN)
    p50, p99 = np.percentile(np.array(seconds) * 1e3, [50, 99])
    tell(
        f"  meanwhile each of {len(seconds)} single writes was sent, acknowledged and found: p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    )
    bar(f"{of.name}_visible_ms_p99", float(p99), VISIBLE_MS_P99_MAX, least=False)


async def _ingested(client: AsyncClient, name: str, of: Set, rows: Array) -> float:
    """Tell all rows to a collection; gives how many a second, until the last is acknowledged."""
    progress(f"{of.name}: the service takes {len(rows):,} vectors")
    parts = [
        ([f"p{row}" for row in range(first, min(first + BATCH, len(rows)))], rows[first : first + BATCH])
        for first in range(0, len(rows), BATCH)
    ]
    begun, count = time.perf_counter(), 0
    async for written in client.vectors.write_many(name, parts):
        count += written.count
    took = time.perf_counter() - begun
    tell(f"  {count:,} vectors of {of.dimension} acknowledged in {took:.1f} s")
    return count / took


async def _watch(client: AsyncClient, rows: Array, seconds: list[float]) -> None:
    """Again and again, from the sending of a vector to the answer of a search that had to see it, and found it."""
    for at in itertools.cycle(range(len(rows))):
        row = rows[at : at + 1] * np.float32(1.001)
        begun = time.perf_counter()
        written = await client.vectors.write(SEEN, [f"seen-{at}"], row)
        found = await client.vectors.nearest(SEEN, row, 10, Ask(sequences_min=written.sequences))
        seconds.append(time.perf_counter() - begun)
        assert found.ids


async def _settled(process: ServiceProcess) -> None:
    """Wait until nothing is built or merged any more, which shows in the processor time that the service takes."""
    give_up_at = time.monotonic() + SETTLE_SECONDS_MAX
    while time.monotonic() < give_up_at:
        before = _cpu_seconds(process.pid)
        await asyncio.sleep(LOOK_SECONDS)
        if _cpu_seconds(process.pid) - before < IDLE_PART * LOOK_SECONDS:
            return
    tell(f"  indexes were still built after {SETTLE_SECONDS_MAX:.0f} s")


def _cpu_seconds(pid: int) -> float:
    """What a process has taken until now, as Linux tells it."""
    told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


async def _singles(client: AsyncClient, of: Set, queries: Array, wish: Wish) -> None:
    """One query a call, one caller."""
    truth, medians = np.load(of.folder / "truth.npy")[:, :10], []
    for _ in range(wish.rounds):
        seconds, hits = [], 0
        for at in range(min(SINGLES, len(queries))):
            begun = time.perf_counter()
            found = await client.vectors.nearest(NAME, queries[at : at + 1], 10)
            seconds.append(time.perf_counter() - begun)
            hits += len(set(found.ids[0]) & {f"p{row}" for row in truth[at]})
        medians.append((np.percentile(np.array(seconds) * 1e3, [50, 99]), hits / (10 * len(seconds))))
    (p50, p99), recall = sorted(medians, key=lambda seen: seen[0][0])[len(medians) // 2]
    tell(f"  a query over gRPC: p50 {p50:.2f} ms, p99 {p99:.2f} ms at recall {recall:.3f}")
    bar(f"{of.name}_grpc_query_ms_p50", float(p50), GRPC_MS_P50_MAX, least=False)


async def _one_by_one(client: AsyncClient, of: Set, rows: Array) -> None:
    """Many callers at once write one vector each, again and again: small writes that come together go into the log together."""
    await client.vectors.create(ALONE, of.dimension, metric="inner-product" if of.metric == "ip" else "l2")
    seconds: list[float] = []
    places, begun = itertools.cycle(range(len(rows))), time.perf_counter()

    async def call() -> None:
        while time.perf_counter() < begun + CALLING_SECONDS:
            at, sent = next(places), time.perf_counter()
            await client.vectors.write(ALONE, [f"p{at}"], rows[at : at + 1])
            seconds.append(time.perf_counter() - sent)

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    rate = len(seconds) / (time.perf_counter() - begun)
    p50, p99 = np.percentile(np.array(seconds) * 1e3, [50, 99])
    tell(
        f"  {CALLERS} callers who write one vector each: {rate:,.0f} acknowledged a second, p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    )
    await client.vectors.drop(ALONE)


async def _taking_callers(process: ServiceProcess) -> None:
    """Return within milliseconds of when its port is open; to ask for its health takes as long again where nobody is there."""
    host, _, port = process.address.rpartition(":")
    give_up_at = time.monotonic() + KERNELS_SECONDS_MAX
    while time.monotonic() < give_up_at and process.lives:
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        await asyncio.sleep(KNOCK_SECONDS)


async def _started(process: ServiceProcess, of: Set, queries: Array) -> None:
    """From the start of a new process until it serves, and its first query."""
    begun = time.perf_counter()
    with process.running():
        await _taking_callers(process)
        await process.wait_healthy()
        ready = time.perf_counter() - begun
        async with client_of(process) as client:
            await client.vectors.collections()
            asked = time.perf_counter()
            await client.vectors.nearest(NAME, queries[:1], 10)
            first = (time.perf_counter() - asked) * 1e3
        await process.stopped(60)
    tell(f"  {of.count:,} vectors served {ready:.2f} s after the process was started; first query {first:.1f} ms")
    bar(f"{of.name}_ready_seconds", ready, READY_SECONDS_MAX, least=False)
    bar(f"{of.name}_first_query_ms", first, FIRST_QUERY_MS_MAX, least=False)
