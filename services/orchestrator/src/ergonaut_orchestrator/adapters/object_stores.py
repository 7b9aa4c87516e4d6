"""Sources and artifacts in JetStream's object stores, one bucket a tenant for each. Fills the ports `Sources` and `Artifacts`."""

import asyncio
import contextlib
import io
import tempfile
from collections.abc import Awaitable, Callable
from typing import IO, Any, BinaryIO, TypeVar, cast

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError
from nats.js.object_store import ObjectStore

from ergonaut.errors import Broken, NotFound, Unavailable
from ergonaut.jobs import source_digest
from ergonaut_common.bus import Bus

TRANSFER_TIMEOUT_SECONDS = 300.0
"""For one object: a gigabyte at a few megabytes a second. nats-py itself would wait for ever on a server that went away."""

T = TypeVar("T")


class ObjectSources:
    """Sources that the scheduler stored."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def fetch(self, tenant: str, digest: str) -> bytes:
        store = await self._bus.object_store(f"sources-{tenant}")
        try:
            # Into a file, since nats-py copies all that it has for each piece that comes where it is given none.
            archive = await _bounded(lambda: _content(store, digest), doing=f"fetching the source {digest}")
        except NotFoundError as error:
            raise NotFound(f"job.source: {digest} is not stored; upload it first") from error
        if await asyncio.to_thread(source_digest, archive) != digest:
            raise Broken(f"the stored source {digest} is damaged; upload it again")
        return archive


class ObjectArtifacts:
    """Files that runs leave."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def keep(self, tenant: str, name: str, content: BinaryIO) -> None:
        bucket = f"artifacts-{tenant}"
        store: Any = await self._bus.object_store(bucket)
        await _bounded(lambda: store.put(name, content), doing=f"keeping {name} in {bucket}")

    async def fetch(self, tenant: str, name: str) -> BinaryIO:
        bucket = f"artifacts-{tenant}"
        store: Any = await self._bus.object_store(bucket)
        file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - whoever asked closes it
        try:
            await _bounded(lambda: store.get(name, writeinto=file), doing=f"fetching {name} from {bucket}")
        except NotFoundError as error:
            file.close()
            raise NotFound(f"{name} is not kept in {bucket}") from error
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return cast(BinaryIO, file)

    async def drop(self, tenant: str, name: str) -> None:
        bucket = f"artifacts-{tenant}"
        store: Any = await self._bus.object_store(bucket)
        with contextlib.suppress(NotFoundError):
            await _bounded(lambda: store.delete(name), doing=f"dropping {name} from {bucket}")


async def _content(store: ObjectStore, name: str) -> bytes:
    content = io.BytesIO()
    await store.get(name, writeinto=content)
    return content.getvalue()


async def _bounded(transfer: Callable[[], Awaitable[T]], *, doing: str) -> T:
    """A transfer with a deadline; what can be tried again becomes Unavailable, a missing object stays one."""
    try:
        return await asyncio.wait_for(transfer(), TRANSFER_TIMEOUT_SECONDS)
    except NotFoundError:
        raise
    except (TimeoutError, NatsError, JetStreamError) as error:
        raise Unavailable(f"{doing}: {error or type(error).__name__}") from error
