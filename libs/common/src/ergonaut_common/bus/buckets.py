"""Reading key-value buckets of JetStream: everything that is in one now, and what changes."""

import contextlib
from collections.abc import AsyncIterator

from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

from ergonaut_common.bus.connection import until_answered

ENTRY_PATIENCE_SECONDS = 5.0
"""How long the next entry of a listing may take; NATS sends them without a pause, so a longer silence means that it is away."""


async def listed(bucket: KeyValue, pattern: str = ">", *, keys_only: bool = False) -> list[KeyValue.Entry]:
    """The newest entry of every key that has a value, sorted by key. Raises Unavailable.

    Not by nats-py's `keys()`, which waits for ever for a server that dies in the middle.
    """

    async def entries() -> list[KeyValue.Entry]:
        async with watching(bucket, pattern, keys_only=keys_only) as watcher:
            found = []
            while (entry := await next_entry(watcher, ENTRY_PATIENCE_SECONDS)) is not None:
                if entry.operation is None:
                    found.append(entry)
            return sorted(found, key=lambda entry: entry.key)

    return await until_answered(entries, what=f"listing the bucket {bucket._name}")


@contextlib.asynccontextmanager
async def watching(
    bucket: KeyValue, pattern: str = ">", *, keys_only: bool = False
) -> AsyncIterator[KeyValue.KeyWatcher]:
    """Tell every key's newest entry, then nothing once, then each change, while the block runs. Raises nats-py's errors."""
    watcher = await bucket.watch(pattern, meta_only=keys_only)
    try:
        yield watcher
    finally:
        with contextlib.suppress(NatsError, TimeoutError):
            await watcher.stop()  # type: ignore[no-untyped-call]


async def next_entry(watcher: KeyValue.KeyWatcher, seconds: float) -> KeyValue.Entry | None:
    """The next entry, or None, once, where all that was there has come. Raises nats-py's TimeoutError."""
    entry: KeyValue.Entry | None = await watcher.updates(timeout=seconds)  # type: ignore[no-untyped-call]
    return entry
