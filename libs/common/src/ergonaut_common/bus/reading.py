"""The fast way in: many messages of a stream at once, handled together, acknowledged after the work. Used by the ledger."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from ergonaut.events import STREAMS
from ergonaut_common.bus.connection import Bus
from ergonaut_common.bus.pulling import ConsumerGone, Pull, number_in_stream, open_pull
from ergonaut_common.bus.settling import delay_seconds, park
from ergonaut_common.observe import get_logger

BATCH_BYTES_MAX = 32 * 1024 * 1024
"""Bytes of one batch at most, whatever its number of messages, so that memory is bounded: those that are handled, one that is
being fetched meanwhile, and what the handler makes of them."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it was delivered."""

    stream: str
    sequence: int
    subject: str
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A delivery that can never be handled, and why; it is put with the dead letters."""

    delivery: Delivery
    because: str


HANDLING_MAX = 2
"""Batches of one stream that are handled at once: while one is written, the next one is read. More would only cost memory."""

Handle = Callable[[Sequence[Delivery]], Awaitable[Sequence[Malformed]]]


@contextlib.asynccontextmanager
async def reading(
    bus: Bus, areas: Sequence[str], durable: str, handle: Handle, *, batch_max: int = 2_000, wait_seconds: float = 0.25
) -> AsyncIterator[None]:
    """Hand over the messages of these areas in batches, an area at a time, while the block runs.

    `handle` may be called with a batch while it is still at work on the one before, and in any order after a failure. A batch
    is acknowledged when it returns, but for what it says is malformed, which is parked; when it raises, the whole batch comes
    again after a growing delay, for ever: what the stream still holds is never given up.
    """
    await bus.ensure_streams(*areas)
    async with asyncio.TaskGroup() as group:
        readers = [
            group.create_task(_Reader(bus, area, durable, handle).run(batch_max, wait_seconds)) for area in areas
        ]
        try:
            yield
        finally:
            for reader in readers:
                reader.cancel()


class _Reader:
    """Reads one area's stream."""

    def __init__(self, bus: Bus, area: str, durable: str, handle: Handle) -> None:
        self._bus = bus
        self._stream = STREAMS[area].name
        self._durable = durable
        self._handle = handle
        self._failures = 0
        self._pull: Pull | None = None

    async def run(self, batch_max: int, wait_seconds: float) -> None:
        """Read for ever; an outage of NATS is waited out."""
        this_task = asyncio.current_task()
        room = asyncio.Semaphore(HANDLING_MAX)
        async with asyncio.TaskGroup() as group:
            # nats-py may turn a cancellation that meets its own timeout into that timeout; asked once, we must not go on.
            while not (this_task and this_task.cancelling()):
                messages = await self._fetched(batch_max, wait_seconds)
                if messages:
                    await room.acquire()
                    group.create_task(self._settled(messages)).add_done_callback(lambda _: room.release())

    async def _fetched(self, batch_max: int, wait_seconds: float) -> list[Msg]:
        """The next batch; empty when none came in time, or when NATS is away."""
        try:
            self._pull = self._pull or await open_pull(self._bus, self._stream, self._durable)
            return await self._pull.fetch(batch_max, BATCH_BYTES_MAX, wait_seconds)
        except (NatsError, ConnectionError, TimeoutError) as error:
            log.warning("reading is interrupted", stream=self._stream, because=str(error) or type(error).__name__)
            if isinstance(error, ConsumerGone) and self._pull:
                await self._pull.close()
                self._pull = None
            await asyncio.sleep(0.5)
            return []

    async def _settled(self, messages: Sequence[Msg]) -> None:
        """Handle a batch and settle every message of it."""
        deliveries = [
            Delivery(
                self._stream, number_in_stream(message.reply), message.subject, message.data, message.headers or {}
            )
            for message in messages
        ]
        try:
            malformed = {bad.delivery.sequence: bad.because for bad in await self._handle(deliveries)}
        except Exception as error:
            await self._again(messages, error)
            return
        self._failures = 0
        for message, delivery in zip(messages, deliveries, strict=True):
            # An ack that is lost with the connection makes the message come again; the handler's key makes that harmless.
            with contextlib.suppress(NatsError):
                if delivery.sequence in malformed:
                    await park(
                        self._bus.jetstream, message, consumer=self._durable, because=malformed[delivery.sequence]
                    )
                else:
                    await message.ack()

    async def _again(self, messages: Sequence[Msg], error: Exception) -> None:
        self._failures += 1
        pause_seconds = delay_seconds(self._failures)
        log.error("batch will be tried again", stream=self._stream, messages=len(messages), error=str(error))
        for message in messages:
            with contextlib.suppress(NatsError):
                await message.nak(delay=pause_seconds)
        await asyncio.sleep(pause_seconds)
