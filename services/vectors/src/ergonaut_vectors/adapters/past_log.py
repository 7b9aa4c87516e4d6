"""The port `Past` on the streams that `log.py` writes: read from a position on to the end, with the time of each message."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamState
from nats.js.errors import NotFoundError

from ergonaut.errors import NotFound, Unavailable
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_vectors.adapters.log import stream_of, subject_of
from ergonaut_vectors.archive.ports import PastMessage, Until
from ergonaut_vectors.domain.records import Key

TOGETHER_MAX = 256
"""Messages that are handed on at a time, 16 MB where they are as large as they get here."""

IDLE_SECONDS = 2.0
"""NATS sends what is there without a pause; a longer silence means that the subscription died."""

TRIES_MAX = 5
"""Subscriptions in a row that gave nothing before whoever reads is told that NATS is away."""

FIRST_FORM_TOKENS = 9
"""Of what NATS tells beside a message; a later form tells the domain and the account too, before the rest."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = get_logger(__name__)


class JetStreamPast:
    """Reads what there was when it began, and follows nothing."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._jetstream = jetstream

    async def end(self, key: Key) -> int:
        return (await self._state(key)).last_seq

    async def begin(self, key: Key) -> int:
        state = await self._state(key)
        return state.first_seq if state.messages else state.last_seq + 1

    async def written_at(self, key: Key, position: int) -> datetime | None:
        async def ask() -> datetime | None:
            try:
                message = await self._jetstream.get_msg(stream_of(key), seq=position)
            except NotFoundError:
                return None
            return message.time.astimezone(UTC) if message.time else None

        return await until_answered(ask, what=f"reading message {position} of the log of {key}")

    async def messages(self, key: Key, after: int, until: Until) -> AsyncGenerator[Sequence[PastMessage], None]:
        end = await self.end(key)
        end = end if until.position is None else min(end, until.position)
        tries = 0
        while after < end:
            before = after
            try:
                async with aclosing(self._read(key, after, end)) as batches:
                    async for some in batches:
                        wanted = until.taken(some)
                        if wanted:
                            after = wanted[-1].sequence
                            yield wanted
                        if len(wanted) < len(some):
                            return
            except NotFoundError as error:
                raise NotFound(f"collection {key} has no log") from error
            except (NatsError, TimeoutError) as error:
                log.warning("log is read anew", collection=str(key), after=after, error=str(error))
            tries = tries + 1 if after == before else 0
            if tries == TRIES_MAX:
                raise Unavailable(f"the log of {key} was read to message {after} of {end}, and NATS gives no more")

    async def _state(self, key: Key) -> StreamState:
        async def ask() -> StreamState:
            try:
                return (await self._jetstream.stream_info(stream_of(key))).state
            except NotFoundError as error:
                raise NotFound(f"collection {key} has no log") from error

        return await until_answered(ask, what=f"asking how far the log of {key} goes")

    async def _read(self, key: Key, after: int, end: int) -> AsyncGenerator[list[PastMessage], None]:
        """The messages of one subscription, as far as it goes."""
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=after + 1, ack_policy=AckPolicy.NONE
        )
        subscription = await self._jetstream.subscribe(
            subject_of(key), stream=stream_of(key), ordered_consumer=True, config=config
        )
        try:
            while after < end:
                some: list[PastMessage] = []
                while after < end and (not some or (subscription.pending_msgs and len(some) < TOGETHER_MAX)):
                    message = await subscription.next_msg(timeout=IDLE_SECONDS)
                    sequence = message.metadata.sequence.stream
                    if sequence > after:
                        after = sequence
                        some.append(PastMessage(after, message.data, _written_at(message)))
                yield [message for message in some if message.sequence <= end]
        except NatsTimeoutError:
            return
        finally:
            await subscription.unsubscribe()


def _written_at(message: Msg) -> datetime:
    """When NATS kept it, in whole microseconds as `get_msg` tells them. nats-py rounds the nanoseconds of a subscription up as
    often as down, and a message would come after the moment at which it was written."""
    told = message.reply.split(".")
    nanoseconds = int(told[7] if len(told) == FIRST_FORM_TOKENS else told[9])
    return EPOCH + timedelta(microseconds=nanoseconds // 1_000)
