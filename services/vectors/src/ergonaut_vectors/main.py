"""Composition: what the service is made of, from the settings, in the order in which it starts."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ergonaut_common.auth import KeyRing
from ergonaut_common.beginning import loaded
from ergonaut_common.bus import open_bus
from ergonaut_common.h2 import serving
from ergonaut_common.lifetimes import background, stop_requested
from ergonaut_common.observe import get_logger, serving_metrics
from ergonaut_common.settings import PlatformSettings
from ergonaut_vectors.adapters.kernel_cache import place_kernel_cache
from ergonaut_vectors.settings import Settings
from ergonaut_vectors.workers import Workers

if TYPE_CHECKING:
    from ergonaut_vectors.live import Limits

EVERY_SHARD = 1_000_000
"""Each open shard has at most one piece of work with those who apply, and two with those who build; so many no machine has."""

log = get_logger(__name__)


async def main(platform: PlatformSettings) -> None:
    """Run with the settings of the environment."""
    await run(Settings(), platform)


async def run(settings: Settings, platform: PlatformSettings) -> None:
    """Build, open the door when the kernels are there, and leave when told to."""
    domain = Path(__file__).parent / "domain"
    place_kernel_cache(domain, settings.kernel_cache_dir or platform.data_dir / "vectors" / "kernels")
    # These import numba, which reads where its cache is when it is imported.
    warm = _warming()
    from ergonaut_vectors.adapters.announcing import BusAnnouncer
    from ergonaut_vectors.adapters.book import BUCKET, KeyValueBook
    from ergonaut_vectors.adapters.log import JetStreamLog
    from ergonaut_vectors.adapters.shard_folders import ShardFolders
    from ergonaut_vectors.assembly import archiving, mirroring, node_of, shelving
    from ergonaut_vectors.changes import Changes
    from ergonaut_vectors.live import Threads
    from ergonaut_vectors.quotas import quotas_of
    from ergonaut_vectors.rpc.door import SERVICE_NAME, behind_of, door_before
    from ergonaut_vectors.service import Vectors, open_vectors

    keys = KeyRing.load(platform.keys_file)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving_metrics(settings.metrics_address))
        threads = Threads(
            searching=await stack.enter_async_context(
                Workers("searches", threads=settings.search_threads, waiting_max=settings.searches_waiting_max)
            ),
            applying=await stack.enter_async_context(
                Workers("logs", threads=settings.apply_threads, waiting_max=EVERY_SHARD)
            ),
            building=await stack.enter_async_context(
                Workers("segments", threads=settings.build_threads, waiting_max=EVERY_SHARD)
            ),
        )
        bus = await stack.enter_async_context(open_bus(platform, "vectors"))
        await bus.ensure_streams("vectors")
        book = KeyValueBook(await bus.key_value(BUCKET))
        logs = JetStreamLog(bus.jetstream, settings.log_bytes_max)
        folder = platform.data_dir / "vectors"
        announcer = BusAnnouncer(bus)
        shelf = await stack.enter_async_context(shelving(settings, bus, folder))
        vectors = Vectors(book, logs, ShardFolders(folder / "shards"), announcer, _limits(settings))
        await stack.enter_async_context(open_vectors(vectors, threads, shelf.shelved))
        changes = await stack.enter_async_context(Changes(announcer).running())
        vectors.opening.opened = changes.note_end
        await stack.enter_async_context(mirroring(settings, bus, book))
        archive, splitting = await stack.enter_async_context(archiving(settings, bus, (vectors, book, logs), shelf))
        behind = behind_of(vectors, quotas_of(settings), threads.searching, archive, changes, splitting)
        add = door_before(behind)
        if settings.node_name:
            add = await stack.enter_async_context(
                node_of(settings, platform.service_key(), bus, (vectors, behind), folder)
            )
        await _ready(warm)
        await stack.enter_async_context(
            serving(
                settings.grpc_address, service="vectors", add=add, keys=keys, names=[SERVICE_NAME], tls=settings.tls
            )
        )
        async with background(_compute_as(settings)):
            await stop_requested()


async def _compute_as(settings: Settings) -> None:
    """Look for a GPU when the door is open: that takes a twentieth of a second, and only large batches are for it."""
    from ergonaut_vectors.domain.indexes.away import compute_with, place_of

    def told(error: Exception) -> None:
        log.warning("GPU failed, and the CPU goes on", error=f"{type(error).__name__}: {error}")

    compute_with(await asyncio.to_thread(place_of, settings.compute, told))


def _warming() -> "asyncio.Future[None]":
    """Load the kernels in a thread, beside all else that is loaded, connected and opened at a start."""
    from ergonaut_vectors.domain.warming import warm_up

    return asyncio.get_running_loop().run_in_executor(None, warm_up)


async def _ready(warm: "asyncio.Future[None]") -> None:
    started = time.perf_counter()
    await warm
    log.info("kernels are ready", seconds=round(time.perf_counter() - started, 2))
    loaded()


def _limits(settings: Settings) -> "Limits":
    from ergonaut_vectors.domain.segments.work import Policy
    from ergonaut_vectors.live import Limits

    return Limits(
        settings.collections_bound,
        settings.writes_waiting_max,
        settings.wait_seconds,
        settings.shards_open_max,
        settings.idle_seconds,
        Policy(settings.head_rows_max),
        settings.log_bytes_max,
    )
