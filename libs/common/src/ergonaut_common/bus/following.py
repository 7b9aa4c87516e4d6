"""The quiet way in, for facts of which only the newest matters: no consumer that is asked again and again, nothing to settle.

Used by who must cost next to nothing while nothing happens, such as the agent of a host. What is told arrives at once; what was
told before, or while the link was away, is looked up when the block begins and from time to time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from pydantic import ValidationError

from ergonaut.errors import ErgonautError, Unavailable
from ergonaut.events import STREAMS, Event, subject_of
from ergonaut.faults import in_words
from ergonaut_common.bus.connection import Bus, until_answered
from ergonaut_common.lifetimes import stopped
from ergonaut_common.observe import get_logger

if TYPE_CHECKING:
    from ergonaut_common.bus.listeners import Handler, Listeners

LOOK_UP_SECONDS = 600.0
"""How often the newest are looked up again. Only what was told while the link was away is missed until then."""

FETCH_BATCH = 256
"""Facts fetched at once; more come in further fetches."""

FETCH_TIMEOUT_SECONDS = 2.0
"""How long one fetch may take; it is asked only for what is there."""

CONSUMER_SECONDS = 30.0
"""How long NATS keeps what a look-up was made with, should we die in its middle."""

log = get_logger(__name__)


@contextlib.asynccontextmanager
async def following(listeners: "Listeners", bus: Bus) -> AsyncIterator[None]:
    """Call the listeners with the newest fact of every subject, then with each new one, while the block runs.

    A fact may be told again, and one may be passed over for a newer one. What cannot be understood is logged and left.
    Raises Unavailable where NATS does not answer at the beginning.
    """
    await bus.ensure_streams(*listeners.areas)
    subscriptions = []
    for event_type, _, handler in listeners.handlers:
        subject = subject_of(event_type.TYPE)
        subscriptions.append(await bus.connection.subscribe(subject, cb=_heard(event_type, handler)))
    await _look_up(listeners, bus)
    task = asyncio.create_task(_look_up_again(listeners, bus))
    try:
        yield
    finally:
        await stopped(task)
        for subscription in subscriptions:
            with contextlib.suppress(NatsError):
                await subscription.unsubscribe()


async def _look_up_again(listeners: "Listeners", bus: Bus) -> None:
    while True:
        await asyncio.sleep(LOOK_UP_SECONDS)
        try:
            await _look_up(listeners, bus)
        except ErgonautError as error:
            log.warning("what may have been missed is looked up later", error=str(error))


async def _look_up(listeners: "Listeners", bus: Bus) -> None:
    for event_type, _, handler in listeners.handlers:
        heard = _heard(event_type, handler)
        for message in await until_answered(partial(_newest, bus, event_type), what=f"looking up {event_type.TYPE}"):
            await heard(message)


async def _newest(bus: Bus, event_type: type[Event]) -> list[Msg]:
    """The newest message of every subject of a type."""
    stream = STREAMS[event_type.TYPE.split(".")[0]].name
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT, ack_policy=AckPolicy.NONE, inactive_threshold=CONSUMER_SECONDS
    )
    subscription = await bus.jetstream.pull_subscribe(subject_of(event_type.TYPE), stream=stream, config=config)
    info = await subscription.consumer_info()
    try:
        pending, messages = info.num_pending or 0, list[Msg]()
        while pending > 0:
            messages += await subscription.fetch(min(pending, FETCH_BATCH), timeout=FETCH_TIMEOUT_SECONDS)
            pending = messages[-1].metadata.num_pending or 0
        return messages
    finally:
        with contextlib.suppress(NatsError, TimeoutError):
            await subscription.unsubscribe()
            await bus.jetstream.delete_consumer(stream, info.name)


def _heard(event_type: type[Event], handler: "Handler[Any]") -> Callable[[Msg], Awaitable[None]]:
    async def heard(message: Msg) -> None:
        try:
            event = event_type.model_validate_json(message.data)
            if event.subject != message.subject:
                raise ValueError(f"the body tells of {event.subject}")
            await handler(event)
        except ValidationError as error:
            log.error("what was told is not understood", subject=message.subject, because=in_words(error))
        except Unavailable as error:
            log.warning("what was told is looked up again later", subject=message.subject, because=str(error))
        except (ErgonautError, ValueError) as error:
            log.error("what was told is left alone", subject=message.subject, because=str(error))

    return heard
