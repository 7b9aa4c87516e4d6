"""The files of models in JetStream's object store, one bucket a tenant."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from nats.js.errors import APIError, DigestMismatchError, ObjectNotFoundError
from nats.js.object_store import ObjectStore

from ergonaut.errors import Broken, NotFound, Refused, Unavailable
from ergonaut_common.bus.connection import until_answered

TRANSFER_TIMEOUT_SECONDS = 120.0
"""How long a file may travel: 512 MiB at 5 MB/s, far below what a local NATS does."""

STREAM_FULL = 10077
"""JetStream's number for a write that its bucket has no room for; its status is the one of passing troubles."""

T = TypeVar("T")


class ObjectStores(Protocol):
    """What opens object stores; the bus does."""

    async def object_store(self, bucket: str) -> ObjectStore:
        """The store of this name, made when absent."""
        ...


class ObjectModelFiles:
    """Fills `ModelFiles`."""

    def __init__(self, stores: ObjectStores) -> None:
        self._stores = stores

    async def store(self, tenant: str, file: str, source: Path) -> None:
        bucket = await self._bucket(tenant)

        async def put() -> None:
            with source.open("rb") as content:
                try:
                    await bucket.put(file, content)
                except APIError as error:
                    if error.err_code == STREAM_FULL:
                        raise Refused("there is no room for the file; remove models first", field="chunk") from error
                    raise

        await _transferred(put, what=f"storing the model file {file}")

    async def exists(self, tenant: str, file: str) -> bool:
        bucket = await self._bucket(tenant)

        async def look() -> bool:
            try:
                await bucket.get_info(file)
            except ObjectNotFoundError:
                return False
            return True

        return await until_answered(look, what=f"looking for the model file {file}")

    async def fetch(self, tenant: str, file: str, target: Path) -> None:
        bucket = await self._bucket(tenant)

        async def get() -> None:
            with target.open("wb") as content:
                try:
                    await bucket.get(file, writeinto=content)
                except ObjectNotFoundError as error:
                    raise NotFound(f"the model file {file} is not kept any more; deploy the model anew") from error
                except DigestMismatchError as error:
                    raise Broken(f"the model file {file} is damaged; deploy the model anew") from error

        await _transferred(get, what=f"fetching the model file {file}")

    async def delete(self, tenant: str, file: str) -> None:
        bucket = await self._bucket(tenant)

        async def forget() -> None:
            try:
                await bucket.delete(file)
            except ObjectNotFoundError:
                return

        await until_answered(forget, what=f"deleting the model file {file}")

    async def _bucket(self, tenant: str) -> ObjectStore:
        return await self._stores.object_store(f"models-{tenant}")


async def _transferred(transfer: Callable[[], Awaitable[T]], *, what: str) -> T:
    """Bounded as a whole: nats-py waits for ever for the rest of an object whose consumer was lost."""
    try:
        async with asyncio.timeout(TRANSFER_TIMEOUT_SECONDS):
            return await until_answered(transfer, what=what)
    except TimeoutError as error:
        raise Unavailable(f"{what}: not done within {TRANSFER_TIMEOUT_SECONDS:g} s") from error
