"""Parts of the composition that are chosen by settings: where snapshots are kept, and whether this process is a node of several.

`main` calls.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from grpc import aio

from ergonaut.errors import Broken, ErgonautError
from ergonaut_common.bus import Bus
from ergonaut_common.bus.connection import ANSWER_TIMEOUT_SECONDS, until_answered
from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import stopped
from ergonaut_common.observe import get_logger
from ergonaut_vectors.adapters.book import BUCKET, KeyValueBook
from ergonaut_vectors.adapters.mirrors import EVERY_SECONDS, Mirrors
from ergonaut_vectors.adapters.node_links import is_guarded
from ergonaut_vectors.adapters.past_log import JetStreamPast
from ergonaut_vectors.adapters.saved_shards import SavedShards
from ergonaut_vectors.adapters.shelves import FolderShelf, ObjectShelf
from ergonaut_vectors.archive.archive import Archive, Sources
from ergonaut_vectors.archive.ports import Shelf
from ergonaut_vectors.archive.scrubbing import Scrubbing
from ergonaut_vectors.archive.shelved import Shelved
from ergonaut_vectors.archive.trimming import Around, Trimming
from ergonaut_vectors.ports import CollectionBook, Log
from ergonaut_vectors.rpc.shared import Behind
from ergonaut_vectors.service import Vectors
from ergonaut_vectors.settings import Settings
from ergonaut_vectors.splitting import Splitting
from ergonaut_vectors.workers import Workers

SHELF_THREADS = 2
"""They read and write files: one for what writers may wait for, one beside it for a snapshot."""

FILES_WAITING_MAX = 4096
"""Pieces of their work that may wait, of which a snapshot or a state on its way has one at a time."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shelving:
    """What brings states to the shelf and back."""

    shelved: Shelved
    saved: SavedShards
    threads: Workers


@contextlib.asynccontextmanager
async def shelving(settings: Settings, bus: Bus, folder: Path) -> AsyncIterator[Shelving]:
    """The shelf that the settings name, while the block runs; with threads of its own, since it must not hold up segments."""
    saved = SavedShards(folder / "shards")
    async with Workers("files", threads=SHELF_THREADS, waiting_max=FILES_WAITING_MAX) as threads:
        shelved = Shelved(shelf_of(settings, bus), saved, threads, folder / "archive")
        shelved.start()
        yield Shelving(shelved, saved, threads)


@contextlib.asynccontextmanager
async def archiving(
    settings: Settings, bus: Bus, service: tuple[Vectors, CollectionBook, Log], shelf: Shelving
) -> AsyncIterator[tuple[Archive, Splitting | None]]:
    """The snapshots of collections and who splits shards; logs of open shards are kept small while the block runs."""
    (vectors, book, logs), past, clock = service, JetStreamPast(bus.jetstream), SystemClock()
    archive = Archive(shelf.shelved, Sources(book, past, shelf.saved), vectors, threads=shelf.threads, clock=clock)
    around = Around(logs, past, shelf.saved, shelf.shelved, shelf.threads, clock)
    trimming = Trimming(vectors.opening.kept, around, settings.log_bytes_max)
    scrubbing = Scrubbing(vectors.opening, shelf.shelved, (shelf.saved, shelf.threads), clock)
    async with trimming.running(), scrubbing.running():
        if settings.mirror_domain:
            # A mirrored log is split at home.
            yield archive, None
            return
        splitting = Splitting(vectors, (shelf.shelved, shelf.saved, shelf.threads, clock), settings.shard_vectors_max)
        # A node looks for what is to be split when it knows the maps.
        async with contextlib.nullcontext() if settings.node_name else splitting.running():
            yield archive, splitting


def shelf_of(settings: Settings, bus: Bus) -> Shelf:
    """Where snapshots are kept. Raises Broken where what that needs is not installed."""
    if not settings.snapshots:
        return ObjectShelf(bus)
    told = urlsplit(settings.snapshots)
    if told.scheme != "s3":
        return FolderShelf(Path(settings.snapshots))
    try:
        from ergonaut_vectors.adapters.s3_shelf import S3Shelf
    except ImportError as error:
        message = f"ERGONAUT_VECTORS_SNAPSHOTS: {settings.snapshots} needs `pip install ergonaut-vectors[s3]`"
        raise Broken(message) from error
    return S3Shelf(told.netloc, told.path, endpoint_url=settings.snapshots_endpoint_url or None)


@contextlib.asynccontextmanager
async def mirroring(settings: Settings, bus: Bus, book: CollectionBook) -> AsyncIterator[None]:
    """Mirror another region's collections while the block runs, where the settings say so."""
    if not settings.mirror_domain:
        yield
        return
    running = asyncio.create_task(_mirror(settings, bus, book))
    try:
        yield
    finally:
        await stopped(running)


async def _mirror(settings: Settings, bus: Bus, book: CollectionBook) -> None:
    source = bus.connection.jetstream(timeout=ANSWER_TIMEOUT_SECONDS, domain=settings.mirror_domain)
    what = f"opening the book of the domain {settings.mirror_domain}"
    while True:
        try:
            bucket = await until_answered(lambda: source.key_value(BUCKET), what=what)
            break
        except ErgonautError as error:
            log.warning("region to mirror does not answer", domain=settings.mirror_domain, error=str(error))
            await asyncio.sleep(EVERY_SECONDS)
    books = (KeyValueBook(bucket), book)
    await Mirrors(settings.mirror_domain, bus.jetstream, books, settings.log_bytes_max).keep()


def node_of(
    settings: Settings, key: str, bus: Bus, service: tuple[Vectors, Behind], folder: Path
) -> AbstractAsyncContextManager[Callable[[aio.Server], None]]:
    """This process as a node of several. Raises Broken without the services' key, or where others would tell it in clear."""
    # Loaded here, since most processes are no node of several, and shall not wait for it.
    from ergonaut_vectors.cluster.node import Own, clustered

    if not key:
        raise Broken(
            "ERGONAUT_VECTORS_NODE_NAME: nodes know each other by the services' key; set ERGONAUT_SERVICE_KEY_FILE"
        )
    address = settings.node_address or settings.grpc_address
    plain_allowed = settings.node_plain_allowed
    if not (plain_allowed or is_guarded(address)):
        raise Broken(
            f"ERGONAUT_VECTORS_NODE_ADDRESS: at {address} other nodes would tell the services' key in clear; name "
            "ERGONAUT_VECTORS_TLS_CERTIFICATE and _KEY and an address that begins with https://, or set "
            "ERGONAUT_VECTORS_NODE_PLAIN_ALLOWED where the network is guarded otherwise"
        )
    own = Own(
        settings.node_name, address, settings.node_zone, settings.node_weight, key, folder / "shards", plain_allowed
    )
    return clustered(own, bus, *service)
