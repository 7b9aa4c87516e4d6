"""A connection to NATS with the settings that it needs to survive, and the few things that services do with JetStream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import nats
from nats.aio.client import Client
from nats.errors import (
    ConnectionClosedError,
    MaxPayloadError,
    NoRespondersError,
    NoServersError,
    OutboundBufferLimitError,
)
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, ObjectStoreConfig, StorageType, StreamConfig
from nats.js.errors import APIError, BucketNotFoundError, NoStreamResponseError, NotFoundError, ServiceUnavailableError
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from ergonaut.errors import Broken, Unavailable
from ergonaut.events import STREAMS, Event, StreamSpec
from ergonaut.events.envelope import headers_of
from ergonaut_common.observe import get_logger, span, trace_headers
from ergonaut_common.settings import PlatformSettings

START_PATIENCE_SECONDS = 30.0
"""How long a service waits for NATS when it starts; on one machine NATS may start after it."""

PUBLISH_PATIENCE_SECONDS = 10.0
"""How long one event is tried; longer outages are the caller's to bridge, who knows whether it may wait."""

ANSWER_TIMEOUT_SECONDS = 2.0
"""How long JetStream may take for one answer; its own default of 5 s hides a server that is gone."""

CLOSE_PATIENCE_SECONDS = 2.0
"""How long closing may take; a server that is gone must not hold up a stop."""

PING_INTERVAL_SECONDS = 2
"""nats-py's 120 s would leave a half-open link unnoticed for minutes."""

DUPLICATE_WINDOW_SECONDS = 120.0
"""How long JetStream remembers message ids; repeats after that are caught by the ledger's key."""

BUCKET_BYTES_MAX = 64 * 1024 * 1024
"""A key-value bucket holds small records of one machine; the bound keeps a fault from filling the disk."""

log = get_logger(__name__)
T = TypeVar("T")

PASSING = (
    NatsTimeoutError,
    NoRespondersError,
    ConnectionClosedError,
    NoStreamResponseError,
    NoServersError,
    OutboundBufferLimitError,
)
"""Failures that pass when NATS is back."""

CLOSED = "the handler is closed"
"""What uvloop says of a socket that closed a moment ago, before nats-py has noticed; it has no class of its own."""


class Bus:
    """What a service may do with NATS."""

    def __init__(self, connection: Client) -> None:
        self.connection = connection
        self.jetstream: JetStreamContext = connection.jetstream(timeout=ANSWER_TIMEOUT_SECONDS)

    async def publish(self, event: Event) -> None:
        """Tell a fact; it is stored when this returns, once, however often it is told. Raises Unavailable after 10 s."""
        with span("publish", subject=event.subject):
            headers = headers_of(event) | trace_headers()
            await self.publish_ready(event.subject, event.model_dump_json().encode(), headers)

    async def publish_ready(self, subject: str, payload: bytes, headers: dict[str, str]) -> None:
        """The same for an event that is in bytes already, with the headers of `headers_of`; no span is made for it."""
        await until_answered(
            lambda: self.jetstream.publish(subject, payload, headers=headers),
            what=f"publishing {headers.get('ce-type', 'an event')} {headers.get('ce-id', '')} on {subject}",
        )

    async def ensure_streams(self, *areas: str) -> None:
        """Make the streams of these areas, and that of dead letters, where they are not there yet."""
        for area in (*areas, "dead"):
            await self._ensure_stream(STREAMS[area])

    async def key_value(self, bucket: str) -> KeyValue:
        """The bucket of this name, made when absent."""

        async def open_or_make() -> KeyValue:
            try:
                return await self.jetstream.key_value(bucket)
            except BucketNotFoundError:
                config = KeyValueConfig(bucket=bucket, history=1, storage=StorageType.FILE, max_bytes=BUCKET_BYTES_MAX)
                return await self.jetstream.create_key_value(config)

        return await until_answered(open_or_make, what=f"opening the bucket {bucket}")

    async def object_store(self, bucket: str) -> ObjectStore:
        """The object store of this name, made when absent."""

        async def open_or_make() -> ObjectStore:
            try:
                return await self.jetstream.object_store(bucket)
            except NotFoundError:
                # Without a bound of its own, since JetStream would set it aside at once; `max_file_store` bounds them all.
                return await self.jetstream.create_object_store(bucket, ObjectStoreConfig(storage=StorageType.FILE))

        return await until_answered(open_or_make, what=f"opening the object store {bucket}")

    async def _ensure_stream(self, spec: StreamSpec) -> None:
        config = StreamConfig(
            name=spec.name,
            subjects=spec.subjects,
            max_bytes=spec.bytes_max,
            max_age=spec.age_max_seconds,
            storage=StorageType.FILE,
            duplicate_window=DUPLICATE_WINDOW_SECONDS,
        )

        async def find_or_make() -> None:
            try:
                await self.jetstream.stream_info(spec.name)
            except NotFoundError:
                await self.jetstream.add_stream(config)

        await until_answered(find_or_make, what=f"making the stream {spec.name}")


async def until_answered(
    ask: Callable[[], Awaitable[T]], *, what: str, patience_seconds: float = PUBLISH_PATIENCE_SECONDS
) -> T:
    """Ask NATS again, with growing pauses, while it does not answer. Raises Unavailable, or Broken where NATS says no."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + patience_seconds
    pause_seconds = 0.05
    while True:
        try:
            return await ask()
        except (TimeoutError, RuntimeError, *PASSING) as error:
            if isinstance(error, RuntimeError) and CLOSED not in str(error):
                raise
            if loop.time() + pause_seconds >= give_up_at:
                raise Unavailable(f"{what}: NATS did not answer within {patience_seconds:g} s") from error
        except APIError as error:
            # 503 is JetStream that has no leader or is still reading its files after a restart; nats-py's own class for it has no
            # code where nobody answers at all, as when another domain's servers are away.
            if error.code != 503 and not isinstance(error, ServiceUnavailableError):
                raise Broken(f"{what}: NATS refused: {error.description}") from error
            if loop.time() + pause_seconds >= give_up_at:
                raise Unavailable(f"{what}: JetStream is not ready: {error.description}") from error
        except MaxPayloadError as error:
            raise Broken(f"{what}: the message is larger than NATS takes, so trying again is of no use") from error
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, 1.0)


def connection_options(service: str, ping_interval_seconds: float = PING_INTERVAL_SECONDS) -> dict[str, Any]:
    """How anything of ours connects to NATS: for ever, noticing a dead link within seconds, quiet about it."""

    async def told(error: Exception) -> None:
        log.warning("NATS connection", error=str(error) or type(error).__name__)

    return {
        "name": f"ergonaut-{service}",
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.25,
        "connect_timeout": 2,
        "ping_interval": ping_interval_seconds,
        "error_cb": told,
    }


@contextlib.asynccontextmanager
async def open_bus(
    platform: PlatformSettings, service: str, *, ping_interval_seconds: float = PING_INTERVAL_SECONDS
) -> AsyncIterator[Bus]:
    """Connect, waiting for NATS with a bound; closes when the block ends. Raises Unavailable.

    Who publishes every second learns from that whether the link lives, and may ping more seldom.
    """
    credentials = {"user": platform.nats_user, "password": platform.nats_password()} if platform.nats_user else {}
    try:
        connection = await asyncio.wait_for(
            nats.connect(platform.nats_url, **credentials, **connection_options(service, ping_interval_seconds)),
            START_PATIENCE_SECONDS,
        )
    except TimeoutError as error:
        raise Unavailable(f"NATS at {platform.nats_url} does not answer; is it running?") from error
    try:
        yield Bus(connection)
    finally:
        with contextlib.suppress(Exception):
            # Not drained: whoever publishes waits for the acknowledgement, and what was not handled comes again.
            await asyncio.wait_for(connection.close(), CLOSE_PATIENCE_SECONDS)
