"""Records in a JetStream key-value bucket, written by compare-and-set only: what all adapters that keep such have in common."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import InvalidKeyError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from ergonaut.errors import Broken, Conflict
from ergonaut_common.bus import next_entry, watching
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger

log = get_logger(__name__)
T = TypeVar("T")


def key_of(tenant: str, name: str) -> str:
    """The key of a tenant's record."""
    return f"{tenant}.{name}"


async def asked(bucket: KeyValue, key: str, *, what: str) -> KeyValue.Entry | None:
    """What stands under a key; None where nothing does. Raises Unavailable."""

    async def ask() -> KeyValue.Entry | None:
        try:
            return await bucket.get(key)
        except (KeyNotFoundError, InvalidKeyError):
            # Whoever asks by a name that cannot be is told that there is none, as with any other.
            return None

    return await until_answered(ask, what=what)


async def written(bucket: KeyValue, key: str, value: bytes, revision: int, *, what: str) -> int:
    """The new revision. Raises Conflict where the given one is not the newest; 0 is that there is none yet."""

    async def ask() -> int:
        try:
            if revision:
                return await bucket.update(key, value, last=revision)
            return await bucket.create(key, value)
        except KeyWrongLastSequenceError as error:
            raise Conflict(f"{what} was changed by another") from error

    return await until_answered(ask, what=f"writing the record of {what}")


def readable(given: KeyValue.Entry, read: Callable[[KeyValue.Entry], T | None]) -> T | None:
    """The entry, or None for one that is damaged: among many it must not keep the others away. Who asks for it is told."""
    try:
        return read(given)
    except Broken as error:
        log.error("record not known", key=given.key, error=str(error))
        return None


async def changes_of(
    bucket: KeyValue, read: Callable[[KeyValue.Entry], T | None], *, seconds: float, what: str
) -> AsyncIterator[T]:
    """All records and then each change, for about so long. Raises Unavailable."""
    end_at = asyncio.get_running_loop().time() + seconds
    async with AsyncExitStack() as stack:
        # A watch of its own each time: one whose beginning failed cannot begin again.
        watcher = await until_answered(
            lambda: stack.enter_async_context(watching(bucket)), what=f"watching the records of {what}"
        )
        while (left_seconds := end_at - asyncio.get_running_loop().time()) > 0:
            try:
                given = await next_entry(watcher, left_seconds)
            except NatsTimeoutError:
                return
            if given is not None and (entry := readable(given, read)):
                yield entry
