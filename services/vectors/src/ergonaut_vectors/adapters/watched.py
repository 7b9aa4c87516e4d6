"""What changes in a key-value bucket, however often its watch ends. Used by adapters whose records several processes change."""

import asyncio
from collections.abc import AsyncIterator

from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

from ergonaut_common.bus import next_entry, watching
from ergonaut_common.observe import get_logger

IDLE_SECONDS = 60.0
"""After so long without a change the bucket is watched anew: a subscription can die unnoticed, and records change seldom."""

REOPEN_SECONDS = 0.5
"""Pause before that, and after a failure."""

log = get_logger(__name__)


async def entries_of(bucket: KeyValue) -> AsyncIterator[KeyValue.Entry]:
    """The newest entry of every key, then each that is written, without end; all of them again where the watch ended."""
    while True:
        try:
            async with watching(bucket) as watcher:
                while True:
                    entry = await next_entry(watcher, IDLE_SECONDS)
                    if entry is not None:
                        yield entry
        except (NatsError, TimeoutError) as error:
            log.debug("bucket is watched anew", bucket=bucket._name, error=str(error))
        await asyncio.sleep(REOPEN_SECONDS)
