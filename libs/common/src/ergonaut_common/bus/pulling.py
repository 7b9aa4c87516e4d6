"""Takes messages from a durable pull consumer by number and by bytes, whichever bound is met first. Used by `reading`.

nats-py's own `fetch` bounds the number only: 2,000 messages of 1 MiB would not fit its buffer, and what does not fit is dropped.
"""

import asyncio
import contextlib
import json

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from ergonaut_common.bus.connection import Bus
from ergonaut_common.bus.settling import ACK_WAIT_SECONDS

PENDING_MAX = 20_000
"""Messages that may be out unacknowledged on one reader; above two batches nothing is gained."""

SLACK_SECONDS = 1.0
"""How long the server's own word that a pull has ended is waited for before the link is taken to be broken."""

NEXT = "$JS.API.CONSUMER.MSG.NEXT"

WORDS_WITHOUT_DOMAIN = 9
"""`$JS.ACK.<stream>.<consumer>.<deliveries>.<number in stream>...`; the longer form has domain and account before the stream."""

_STATUS = "Status"
_TOO_LARGE = "Message Size Exceeds MaxBytes"


class ConsumerGone(NatsError):
    """The consumer or its stream is not there (any more), or JetStream is not ready; it is to be looked up again."""


class Pull:
    """One consumer's messages, a batch at a time. One caller at a time."""

    def __init__(self, bus: Bus, consumer: str, inbox: str) -> None:
        self._connection = bus.connection
        self._next = f"{NEXT}.{consumer}"
        self._inbox = inbox
        self._subscription: Subscription | None = None
        self._arrived: list[Msg] = []
        self._wanted = 0
        self._ended_because: str | None = None
        self._done = asyncio.Event()

    async def open(self) -> None:
        """Begin to listen. What may arrive is bounded by what is asked for, so the client sets no bound of its own."""
        self._subscription = await self._connection.subscribe(
            self._inbox, cb=self._on_message, pending_msgs_limit=-1, pending_bytes_limit=-1
        )

    async def close(self) -> None:
        """Listen no more; what was not acknowledged comes again to whoever pulls next."""
        if self._subscription is not None:
            with contextlib.suppress(NatsError, ConnectionError):
                await self._subscription.unsubscribe()

    async def fetch(self, messages_max: int, bytes_max: int, wait_seconds: float) -> list[Msg]:
        """What comes within a time, up to either bound. Raises ConsumerGone, or NATS's own errors while it is away."""
        because = await self._asked({"batch": messages_max, "max_bytes": bytes_max}, messages_max, wait_seconds)
        if because == _TOO_LARGE and not self._arrived:
            # A single message beyond the bound would hold up the stream for ever; it is taken alone.
            because = await self._asked({"batch": 1}, 1, wait_seconds)
        if because is not None and because != _TOO_LARGE and not self._arrived:
            raise ConsumerGone(f"pulling from {self._next.removeprefix(NEXT + '.')}: {because}")
        arrived, self._arrived = self._arrived, []
        return arrived

    async def _asked(self, request: dict[str, int], messages_max: int, wait_seconds: float) -> str | None:
        """Ask once and wait for the end of the answer; gives the server's reason where it ended it for one."""
        self._done.clear()
        self._ended_because = None
        self._wanted = messages_max
        expires = {"expires": int(wait_seconds * 1e9)}
        await self._connection.publish(self._next, json.dumps(request | expires).encode(), self._inbox)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._done.wait(), wait_seconds + SLACK_SECONDS)
        return self._ended_because

    async def _on_message(self, message: Msg) -> None:
        # What is to be acknowledged has a subject to answer to; the server's own words have none.
        if message.reply:
            self._arrived.append(message)
            if len(self._arrived) >= self._wanted:
                self._done.set()
            return
        status = (message.headers or {}).get(_STATUS, "")
        if status == "100":
            return
        # 404 and 408 end a pull that had nothing (more) to give; 409 and 503 end one for a reason.
        if status not in ("404", "408"):
            self._ended_because = (message.headers or {}).get("Description") or f"status {status}"
        self._done.set()


def number_in_stream(reply: str) -> int:
    """A message's number in its stream, from the subject on which it is acknowledged. nats-py's `metadata` reads all of it,
    times included, and keeps that with the message, which took longer than to acknowledge it.

    >>> number_in_stream("$JS.ACK.STREAM.consumer.1.4711.12.1767225600000000000.0")
    4711
    >>> number_in_stream("$JS.ACK._.hash.STREAM.consumer.1.4711.12.1767225600000000000.0.random")
    4711
    """
    words = reply.split(".")
    return int(words[5 if len(words) == WORDS_WITHOUT_DOMAIN else 7])


async def open_pull(bus: Bus, stream: str, durable: str) -> Pull:
    """The consumer of this name, made where it is not there yet. Raises NATS's own errors."""
    try:
        await bus.jetstream.consumer_info(stream, durable)
    except NotFoundError:
        config = ConsumerConfig(
            durable_name=durable,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            max_ack_pending=PENDING_MAX,
        )
        await bus.jetstream.add_consumer(stream, config)
    pull = Pull(bus, f"{stream}.{durable}", bus.connection.new_inbox())
    await pull.open()
    return pull
