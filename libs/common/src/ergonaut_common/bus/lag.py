"""How far a reader is behind its streams, as metrics: a stream that is full drops its oldest messages, read or not."""

import asyncio
from collections.abc import Sequence

from nats.errors import Error as NatsError
from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError
from prometheus_client import Gauge

from ergonaut.events import STREAMS
from ergonaut_common.bus.connection import Bus
from ergonaut_common.observe import get_logger

LOOK_SECONDS = 15.0
"""Seconds between two looks; Prometheus asks no more often by default."""

_unread = Gauge(
    "ergonaut_stream_unread_messages", "Messages of a stream that its reader has not settled.", ["stream", "consumer"]
)
_unread_ratio = Gauge(
    "ergonaut_stream_unread_ratio",
    "Share of a stream's bound that unsettled messages take; from 1 on the oldest of them are dropped.",
    ["stream", "consumer"],
)

log = get_logger(__name__)


async def watching_lag(bus: Bus, areas: Sequence[str], durable: str, look_seconds: float = LOOK_SECONDS) -> None:
    """Keep the metrics of this reader up to date until cancelled. While NATS is away they stay as they were last seen."""
    while True:
        for area in areas:
            try:
                await _look(bus, STREAMS[area].name, durable)
            except NotFoundError:
                # The reader makes it when it has come so far.
                continue
            except (NatsError, ConnectionError, TimeoutError) as error:
                log.warning("the lag is not known", area=area, because=str(error) or type(error).__name__)
        await asyncio.sleep(look_seconds)


async def _look(bus: Bus, stream: str, durable: str) -> None:
    consumer = await bus.jetstream.consumer_info(stream, durable)
    info = await bus.jetstream.stream_info(stream)
    unread = (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)
    _unread.labels(stream, durable).set(unread)
    _unread_ratio.labels(stream, durable).set(unread_ratio(info, unread))


def unread_ratio(info: StreamInfo, unread: int) -> float:
    """The share of the stream's bound that this many of its messages take, by their mean size."""
    messages, bytes_max = info.state.messages, info.config.max_bytes or 0
    # Between the two answers messages may have come or gone, which must not make more than all of them.
    share = min(1.0, unread / messages) if messages else 0.0
    return share * info.state.bytes / bytes_max if bytes_max > 0 else 0.0
