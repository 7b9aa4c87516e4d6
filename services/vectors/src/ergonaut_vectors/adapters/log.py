"""The port `Log` on JetStream: one stream a shard, `VEC_<tenant>_<name>`, on a subject outside of the public ones.

The shard's number is behind the name, but for the first shard. Several writes may be under way at once, each behind the one
before: they go out in the order in which they were begun, and JetStream takes them in that order or not at all.

Nobody but this service reads or writes these streams. A write names the position behind which it belongs, so that of two
writers only one succeeds, and an attempt that is repeated because its answer got lost finds what the first one wrote. (Ids
of messages alone would not help, for JetStream forgets them after a while; they tell a write that is begun before the one
that it belongs behind has arrived whether it is that one.)
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
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
    StreamSourceInfo,
)
from nats.js.errors import APIError, NotFoundError

from ergonaut.errors import Conflict, NotFound, Refused
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_vectors.domain.batches import lost_end
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.ports import Extent, LogFull, LogMessage

IDLE_SECONDS = 2.0
"""After so long without a message the stream is asked whether there is one: a subscription can die unnoticed."""

REOPEN_SECONDS = 0.5
"""Pause before a lost subscription is made anew; it is made anew for as long as the service lives."""

TOGETHER_MAX = 64
TOGETHER_BYTES_MAX = 4 * 1024 * 1024
"""Messages that are handed on at a time: as many as are applied in some ten milliseconds, since a writer waits for the last."""

_STREAM_IS_FULL = 10077
NOT_LAST = (10070, 10071, 10164)
"""What JetStream calls a write that does not belong behind what stands last."""
_NO_ROOM = (10023, 10028, 10047)
_IN_PROCESS = 10158
"""What is told of a message that was sent again, by a cluster whose servers have not agreed on the first one yet."""

_OWNER = "ergonaut_collection"
"""In the metadata of a stream: the uid of its collection."""

log = get_logger(__name__)


class JetStreamLog:
    """Logs as streams of bounded size, which refuse what does not fit, and forget only what they are told to."""

    def __init__(self, jetstream: JetStreamContext, bytes_max: int) -> None:
        self._jetstream = jetstream
        self._bytes_max = bytes_max

    async def make(self, key: Key, begin: LogMessage | None = None, *, owner: str = "") -> None:
        async def find_or_make() -> bool:
            try:
                info = await self._jetstream.stream_info(stream_of(key))
            except NotFoundError:
                await self._add(key, begin.sequence if begin else 1, owner)
                return True
            if is_of_another(info, owner):
                raise Conflict(f"the log of {key} is another collection's")
            # One that mirrors another gets its messages from there.
            return not info.state.messages and info.config.mirror is None

        is_empty = await until_answered(find_or_make, what=f"making the log of {key}")
        if begin is not None and is_empty:
            # Another process may make it as well, with the same message, and have written behind that already.
            with suppress(Conflict):
                await self.append(key, begin.content, begin.sequence - 1)

    async def remove(self, key: Key, *, owner: str = "") -> None:
        async def delete() -> None:
            try:
                if not is_of_another(await self._jetstream.stream_info(stream_of(key)), owner):
                    await self._jetstream.delete_stream(stream_of(key))
            except NotFoundError:
                return

        await until_answered(delete, what=f"removing the log of {key}")

    async def last(self, key: Key) -> LogMessage | None:
        async def ask() -> LogMessage | None:
            state = (await self._fitted(key)).state
            if not state.messages:
                return None
            message = await self._jetstream.get_msg(stream_of(key), seq=state.last_seq)
            return LogMessage(state.last_seq, message.data or b"")

        return await until_answered(ask, what=f"reading the end of the log of {key}")

    async def extent(self, key: Key) -> Extent:
        async def ask() -> Extent:
            state = (await self._fitted(key)).state
            return Extent(state.first_seq if state.messages else state.last_seq + 1, state.last_seq, state.bytes)

        return await until_answered(ask, what=f"asking how far the log of {key} goes")

    async def trim(self, key: Key, first: int) -> None:
        async def purge() -> None:
            last = (await self._fitted(key)).state.last_seq
            await self._jetstream.purge_stream(stream_of(key), seq=min(first, last))

        await until_answered(purge, what=f"trimming the log of {key}")

    async def append(self, key: Key, content: bytes, after: int, *, name: str = "", behind: str = "") -> int:
        headers: dict[str, Any] = {Header.EXPECTED_LAST_SEQUENCE.value: str(after)}
        if name:
            headers[Header.MSG_ID.value] = name
        if behind:
            headers[Header.EXPECTED_LAST_MSG_ID.value] = behind

        async def publish() -> int:
            try:
                ack = await self._jetstream.publish(subject_of(key), content, stream=stream_of(key), headers=headers)
            except APIError as error:
                if error.err_code in NOT_LAST and await self._stands_at(key, after + 1, content):
                    return after + 1
                raise _meaning(error, key) from error
            if ack.seq != after + 1:
                raise Conflict(f"this message stands at {ack.seq} in the log of {key}, not behind {after}")
            return ack.seq

        return await until_answered(publish, what=f"writing to collection {key.name}")

    async def follow(self, key: Key, after: int) -> AsyncGenerator[Sequence[LogMessage], None]:
        while True:
            try:
                async with aclosing(self._subscribed(key, after)) as messages:
                    async for some in messages:
                        after = some[-1].sequence
                        yield some
            except NotFoundError as error:
                raise NotFound(f"collection {key} has no log") from error
            except (NatsError, TimeoutError) as error:
                log.warning("log is followed anew", collection=str(key), after=after, error=str(error))
            await asyncio.sleep(REOPEN_SECONDS)

    async def _subscribed(self, key: Key, after: int) -> AsyncGenerator[Sequence[LogMessage], None]:
        """The messages of one subscription; ends when it has missed one."""
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=after + 1, ack_policy=AckPolicy.NONE
        )
        subscription = await self._jetstream.subscribe(
            subject_of(key), stream=stream_of(key), ordered_consumer=True, config=config
        )
        first = True
        try:
            while True:
                try:
                    received = await _next_of(subscription)
                except NatsTimeoutError:
                    last = (await self._jetstream.stream_info(stream_of(key))).state.last_seq
                    if last < after:
                        raise lost_end(last, after) from None
                    if last > after:
                        return
                    continue
                some: list[LogMessage] = []
                missed = False
                for message in received:
                    if message.sequence <= after:
                        continue
                    # What is missing at the beginning of a subscription is missing in the stream; the reader will find the hole.
                    missed = message.sequence > after + 1 and not first
                    if missed:
                        break
                    after, first = message.sequence, False
                    some.append(message)
                if some:
                    yield some
                if missed:
                    return
        finally:
            await _unsubscribed(subscription)

    async def _stands_at(self, key: Key, sequence: int, content: bytes) -> bool:
        """Whether this is in the log at this place: an earlier attempt wrote it, and its answer got lost."""
        try:
            return (await self._jetstream.get_msg(stream_of(key), seq=sequence)).data == content
        except NotFoundError:
            return False

    async def _fitted(self, key: Key) -> StreamInfo:
        """What a log is like, after it was given the size of today's settings. Raises NotFound without a log."""
        try:
            info = await self._jetstream.stream_info(stream_of(key))
        except NotFoundError as error:
            raise NotFound(f"collection {key} has no log") from error
        if info.cluster is not None and not info.cluster.leader:
            # Who answers for a stream that has no leader just now tells of an empty one; a log that was lost looks like that.
            raise TimeoutError(f"the log of {key} has no leader")
        if info.mirror is not None and not info.state.last_seq and _is_to_come(info.mirror):
            raise TimeoutError(f"nothing of the log of {key} has come from the region that it mirrors")
        if info.config.max_bytes != self._bytes_max:
            info = await self._jetstream.update_stream(info.config, max_bytes=self._bytes_max)
        return info

    async def _add(self, key: Key, first: int, owner: str) -> None:
        """Make a stream whose first message will stand at this position."""
        config = StreamConfig(
            name=stream_of(key),
            subjects=[subject_of(key)],
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_bytes=self._bytes_max,
            deny_delete=True,
            first_seq=first,
            metadata=metadata_of(owner),
        )
        try:
            await self._jetstream.add_stream(config)
        except APIError as error:
            raise _meaning(error, key) from error


async def _next_of(subscription: JetStreamContext.PushSubscription) -> list[LogMessage]:
    """The next message, waited for, and those that came with it."""
    received = [await subscription.next_msg(timeout=IDLE_SECONDS)]
    size = len(received[0].data)
    while subscription.pending_msgs and len(received) < TOGETHER_MAX and size < TOGETHER_BYTES_MAX:
        received.append(await subscription.next_msg(timeout=IDLE_SECONDS))
        size += len(received[-1].data)
    return [LogMessage(message.metadata.sequence.stream, message.data) for message in received]


def stream_of(key: Key) -> str:
    """The stream of a shard's log."""
    return f"VEC_{key.tenant}_{key.name}" + (f"_{key.shard}" if key.shard else "")


def subject_of(key: Key) -> str:
    """The subject of its messages."""
    return f"ergonaut-log.v1.{key.tenant}.vectors.{key.name}" + (f".{key.shard}" if key.shard else "")


def metadata_of(owner: str) -> dict[str, str]:
    """How a stream says which collection it is of: its name alone is that of every collection of this name."""
    return {_OWNER: owner} if owner else {}


def is_of_another(info: StreamInfo, owner: str) -> bool:
    """Whether a stream is of another collection than this one, as far as both are known."""
    told = (info.config.metadata or {}).get(_OWNER, "")
    return bool(owner and told) and told != owner


def _is_to_come(source: StreamSourceInfo) -> bool:
    """Whether a mirror that is empty may be so only because its source has not been heard yet, or has more than it sent."""
    return source.active is None or source.active < 0 or bool(source.lag)


def _meaning(error: APIError, key: Key) -> Exception:
    """What JetStream's refusal means; a refusal that means nothing to us goes on as it is."""
    if error.err_code == _STREAM_IS_FULL:
        message = (
            f"the log of collection {key.name} is full until what came first has reached the shelf; try again later, "
            "and raise ERGONAUT_VECTORS_LOG_BYTES_MAX where this comes often"
        )
        return LogFull(message)
    if error.err_code in NOT_LAST:
        return Conflict(f"the log of {key} does not end where the write belongs: {error.description}")
    if error.err_code in _NO_ROOM:
        return Refused(f"NATS has no room for another log: {error.description}", field="collection")
    if error.err_code == _IN_PROCESS:
        return TimeoutError(error.description)
    return error


async def _unsubscribed(subscription: JetStreamContext.PushSubscription) -> None:
    try:
        await subscription.unsubscribe()
    except NatsError as error:
        log.warning("subscription did not end well", error=str(error))
