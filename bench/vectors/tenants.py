"""Very many small collections in one service, as where every customer has one: what they cost while they rest, a start among
them, the first question to one that rests. Called by `run.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from service import KERNELS_SECONDS_MAX, bus, client_of
from sets import Array
from telling import bar, failures, progress, tell

from ergonaut.client import AsyncClient
from ergonaut.errors import ErgonautError
from ergonaut_common.testing import ServiceProcess

COLLECTIONS, QUICK_COLLECTIONS = 10_000, 1_000
ROWS, DIMENSION = 100, 128
AT_ONCE = 8
"""Collections that are made at the same time."""

ASKED = 200
"""Collections that are asked once after a start, and then once more."""

RESTING_KIB_MAX = 16.0
"""Of the service's memory for a collection that nobody asks for."""

START_SECONDS_MAX = 10.0
COLD_MS_P50_MAX = 50.0

SETTINGS = {
    "ERGONAUT_VECTORS_COLLECTIONS_MAX": str(2 * COLLECTIONS),
    # NATS sets that much of its disk aside for each.
    "ERGONAUT_VECTORS_LOG_BYTES_MAX": str(1 << 20),
    "ERGONAUT_VECTORS_IDLE_SECONDS": "5",
}


def tenants_part(*, quick: bool) -> None:
    """All that is asked of them."""
    try:
        asyncio.run(_tenants(QUICK_COLLECTIONS if quick else COLLECTIONS))
    except (ErgonautError, AssertionError, TimeoutError, OSError) as error:
        failures.append(f"tenants: {error}")
        tell(f"  the service failed: {str(error)[:300]}")


async def _tenants(count: int) -> None:
    rows = np.random.default_rng(0).standard_normal((ROWS, DIMENSION), np.float32)
    with TemporaryDirectory() as folder:
        process = ServiceProcess("vectors", Path(folder) / "vectors", SETTINGS, patience_seconds=KERNELS_SECONDS_MAX)
        logs = Path(folder) / "nats"
        with bus(logs) as (address, _):
            process.environment["ERGONAUT_NATS_URL"] = address
            empty_bytes = await _filled(process, count, rows)
        _tell_disk(count, logs=logs, states=process.folder / "data")
        begun = time.perf_counter()
        with bus(logs) as (address, nats):
            nats_seconds = time.perf_counter() - begun
            process.environment["ERGONAUT_NATS_URL"] = address
            await _among(process, count, rows, empty_bytes)
            tell(f"  NATS started in {nats_seconds:.1f} s, and has {_own_bytes(nats) / 1024 / count:.1f} KiB each")


async def _filled(process: ServiceProcess, count: int, rows: Array) -> int:
    """Make the collections; gives the memory of a service without any."""
    with process.running():
        # A start that compiles kernels holds more memory than any other.
        await process.wait_healthy()
        await process.stopped(KERNELS_SECONDS_MAX)
    with process.running():
        await process.wait_healthy()
        empty_bytes = _own_bytes(process.pid)
        async with client_of(process) as client:
            await _made(client, count, rows)
        await process.stopped(KERNELS_SECONDS_MAX)
    return empty_bytes


async def _among(process: ServiceProcess, count: int, rows: Array, empty_bytes: int) -> None:
    """Start among them, and ask some."""
    begun = time.perf_counter()
    with process.running():
        await process.wait_healthy()
        seconds = time.perf_counter() - begun
        resting_kib = (_own_bytes(process.pid) - empty_bytes) / 1024 / count
        async with client_of(process) as client:
            cold_ms, warm_ms = await _asked(client, count, rows)
        await process.stopped(KERNELS_SECONDS_MAX)
    tell(f"  {count:,} collections of {ROWS} x {DIMENSION}: {resting_kib:.1f} KiB each while they rest")
    tell(f"  started in {seconds:.1f} s; a question to one at rest {cold_ms:.1f} ms (p50), again {warm_ms:.1f} ms")
    bar("tenants_resting_kib_each", resting_kib, RESTING_KIB_MAX, least=False)
    bar("tenants_start_seconds", seconds, START_SECONDS_MAX, least=False)
    bar("tenants_cold_question_ms_p50", cold_ms, COLD_MS_P50_MAX, least=False)


async def _made(client: AsyncClient, count: int, rows: Array) -> None:
    """Make the collections, each with its vectors."""
    progress(f"{count:,} collections are made")
    ids = [f"p{at}" for at in range(len(rows))]

    async def made(number: int) -> None:
        await client.vectors.create(_name(number), DIMENSION)
        await client.vectors.write(_name(number), ids, rows)

    seconds = await _timed(range(count), made)
    tell(f"  made and written in {sum(seconds) / AT_ONCE:.0f} s, {median(seconds) * 1e3:.0f} ms each (p50)")


async def _asked(client: AsyncClient, count: int, rows: Array) -> tuple[float, float]:
    """Milliseconds of a first question to some of them, and of a second; one after the other."""
    chosen = np.random.default_rng(1).choice(count, min(ASKED, count), replace=False).tolist()

    async def asked(number: int) -> None:
        found = await client.vectors.nearest(_name(number), rows[:1], 10)
        assert found.ids[0][0] == "p0", f"{_name(number)} does not find what is in it"

    cold, warm = [await _timed(chosen, asked, at_once=1) for _ in range(2)]
    return median(cold) * 1e3, median(warm) * 1e3


async def _timed(
    numbers: Sequence[int], ask: Callable[[int], Awaitable[None]], *, at_once: int = AT_ONCE
) -> list[float]:
    """Do it for each, so many at once; gives the seconds of each."""
    waiting, seconds = iter(numbers), []

    async def asking() -> None:
        for number in waiting:
            begun = time.perf_counter()
            await ask(number)
            seconds.append(time.perf_counter() - begun)

    await asyncio.gather(*(asking() for _ in range(at_once)))
    return seconds


def _name(number: int) -> str:
    return f"small-{number}"


def _own_bytes(pid: int) -> int:
    """Memory of a process that is no file's."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def _tell_disk(count: int, *, logs: Path, states: Path) -> None:
    """What the files of NATS and of the service take up."""
    of_logs, of_states = (_disk_bytes(folder) / 1024 / count for folder in (logs, states))
    numbers_kib = ROWS * DIMENSION * 4 / 1024
    tell(f"  on disk {of_logs:.0f} KiB each in NATS, {of_states:.0f} in the service, of {numbers_kib:.0f} of numbers")


def _disk_bytes(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
