"""The port `Log` on JetStream: one stream a collection, `VEC_<tenant>_<name>`, on a subject outside of the public ones.

Nobody but this service reads or writes these streams. A write names the position behind which it belongs, so that of two
writers only one succeeds, and an attempt that is repeated because its answer got lost finds what the first one wrote. (Ids
of messages would not help: JetStream looks at the position first, and forgets ids after a while.)
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    Header,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import APIError, NotFoundError

from ergonaut.errors import Conflict, NotFound, Refused
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.ports import LogMessage

IDLE_SECONDS = 2.0
"""After so long without a message the stream is asked whether there is one: a subscription can die unnoticed."""

REOPEN_SECONDS = 0.5
"""Pause before a lost subscription is made anew; it is made anew for as long as the service lives."""

_STREAM_IS_FULL = 10077
_NOT_LAST = (10071, 10164)
_NO_ROOM = (10023, 10028, 10047)

log = get_logger(__name__)


class JetStreamLog:
    """Logs as streams of bounded size, which refuse what does not fit rather than forget what they have."""

    def __init__(self, jetstream: JetStreamContext, bytes_max: int) -> None:
        self._jetstream = jetstream
        self._bytes_max = bytes_max

    async def make(self, key: Key) -> None:
        async def find_or_make() -> None:
            try:
                await self._jetstream.stream_info(_stream(key))
            except NotFoundError:
                await self._add(key)

        await until_answered(find_or_make, what=f"making the log of {key}")

    async def remove(self, key: Key) -> None:
        async def delete() -> None:
            try:
                await self._jetstream.delete_stream(_stream(key))
            except NotFoundError:
                return

        await until_answered(delete, what=f"removing the log of {key}")

    async def last(self, key: Key) -> LogMessage | None:
        async def ask() -> LogMessage | None:
            state = (await self._fitted(key)).state
            if state.last_seq == 0:
                return None
            message = await self._jetstream.get_msg(_stream(key), seq=state.last_seq)
            return LogMessage(state.last_seq, message.data or b"")

        return await until_answered(ask, what=f"reading the end of the log of {key}")

    async def append(self, key: Key, content: bytes, after: int) -> int:
        async def publish() -> int:
            headers: dict[str, Any] = {Header.EXPECTED_LAST_SEQUENCE.value: str(after)}
            try:
                ack = await self._jetstream.publish(_subject(key), content, stream=_stream(key), headers=headers)
            except APIError as error:
                if error.err_code in _NOT_LAST and await self._stands_at(key, after + 1, content):
                    return after + 1
                raise _meaning(error, key) from error
            return ack.seq

        return await until_answered(publish, what=f"writing to collection {key.name}")

    async def follow(self, key: Key, after: int) -> AsyncGenerator[LogMessage, None]:
        while True:
            try:
                async with aclosing(self._subscribed(key, after)) as messages:
                    async for message in messages:
                        after = message.sequence
                        yield message
            except NotFoundError as error:
                raise NotFound(f"collection {key} has no log") from error
            except (NatsError, TimeoutError) as error:
                log.warning("log is followed anew", collection=str(key), after=after, error=str(error))
            await asyncio.sleep(REOPEN_SECONDS)

    async def _subscribed(self, key: Key, after: int) -> AsyncGenerator[LogMessage, None]:
        """The messages of one subscription; ends when it has missed one."""
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=after + 1, ack_policy=AckPolicy.NONE
        )
        subscription = await self._jetstream.subscribe(
            _subject(key), stream=_stream(key), ordered_consumer=True, config=config
        )
        first = True
        try:
            while True:
                try:
                    message = await subscription.next_msg(timeout=IDLE_SECONDS)
                except NatsTimeoutError:
                    if (await self._jetstream.stream_info(_stream(key))).state.last_seq > after:
                        return
                    continue
                sequence = message.metadata.sequence.stream
                if sequence <= after:
                    continue
                if sequence > after + 1 and not first:
                    return
                # What is missing at the beginning of a subscription is missing in the stream; the reader will find the hole.
                after, first = sequence, False
                yield LogMessage(sequence, message.data)
        finally:
            await _unsubscribed(subscription)

    async def _stands_at(self, key: Key, sequence: int, content: bytes) -> bool:
        """Whether this is in the log at this place: an earlier attempt wrote it, and its answer got lost."""
        try:
            return (await self._jetstream.get_msg(_stream(key), seq=sequence)).data == content
        except NotFoundError:
            return False

    async def _fitted(self, key: Key) -> StreamInfo:
        """What a log is like, after it was given the size of today's settings. Raises NotFound without a log."""
        try:
            info = await self._jetstream.stream_info(_stream(key))
        except NotFoundError as error:
            raise NotFound(f"collection {key} has no log") from error
        if info.config.max_bytes != self._bytes_max:
            info = await self._jetstream.update_stream(info.config, max_bytes=self._bytes_max)
        return info

    async def _add(self, key: Key) -> None:
        config = StreamConfig(
            name=_stream(key),
            subjects=[_subject(key)],
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_bytes=self._bytes_max,
            deny_delete=True,
        )
        try:
            await self._jetstream.add_stream(config)
        except APIError as error:
            raise _meaning(error, key) from error


def _stream(key: Key) -> str:
    return f"VEC_{key.tenant}_{key.name}"


def _subject(key: Key) -> str:
    return f"ergonaut-log.v1.{key.tenant}.vectors.{key.name}"


def _meaning(error: APIError, key: Key) -> Exception:
    """What JetStream's refusal means; a refusal that means nothing to us goes on as it is."""
    if error.err_code == _STREAM_IS_FULL:
        message = (
            f"the log of collection {key.name} is full and takes no more writes; "
            "raise ERGONAUT_VECTORS_LOG_BYTES_MAX, or copy what is needed to a new collection"
        )
        return Refused(message, field="collection")
    if error.err_code in _NOT_LAST:
        return Conflict(f"the log of {key} does not end where the write belongs: {error.description}")
    if error.err_code in _NO_ROOM:
        return Refused(f"NATS has no room for another log: {error.description}", field="collection")
    return error


async def _unsubscribed(subscription: JetStreamContext.PushSubscription) -> None:
    try:
        await subscription.unsubscribe()
    except NatsError as error:
        log.warning("subscription did not end well", error=str(error))
