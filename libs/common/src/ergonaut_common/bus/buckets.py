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
            found: list[KeyValue.Entry] = []
            # The entry that says how many follow is the sure sign of the end: on a busy machine nats-py may say that
            # nothing is there because it has not yet handled what is.
            pending = -1
            while pending:
                entry = await next_entry(watcher, ENTRY_PATIENCE_SECONDS)
                if entry is not None:
                    found.append(entry)
                    pending = entry.delta or 0
                elif found or await _is_empty(bucket, pattern):
                    break
            return sorted((entry for entry in found if entry.operation is None), key=lambda entry: entry.key)

    return await until_answered(entries, what=f"listing the bucket {bucket._name}")


async def _is_empty(bucket: KeyValue, pattern: str) -> bool:
    """Whether the bucket's stream holds nothing under the pattern, by its own count."""
    info = await bucket._js.stream_info(bucket._stream, subjects_filter=f"{bucket._pre}{pattern}")
    return not info.state.subjects


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
