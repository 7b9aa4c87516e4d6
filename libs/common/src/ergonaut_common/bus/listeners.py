"""The NATS door of the control plane: one async function an event type, on faststream, settled by hand."""

import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from functools import partial, wraps
from types import TracebackType
from typing import Any, TypeVar

from faststream import AckPolicy, BaseMiddleware
from faststream.exceptions import IgnoredException
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.security import SASLPlaintext
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig
from nats.js.errors import NotFoundError
from pydantic import ValidationError

from ergonaut.errors import Broken, Refused, Unavailable
from ergonaut.events import STREAMS, Event, subject_of
from ergonaut.faults import in_words
from ergonaut_common.bus.connection import Bus, connection_options, until_answered
from ergonaut_common.bus.settling import (
    ACK_WAIT_SECONDS,
    DELIVERIES_LIMIT,
    DELIVERIES_UNLIMITED,
    park,
    try_later,
)
from ergonaut_common.observe import carried_context, span
from ergonaut_common.settings import PlatformSettings

FETCH_BATCH = 16
"""Messages fetched at once; handlers of the control plane do real work, so few are in flight."""

FETCH_TIMEOUT_SECONDS = 2.0
"""How long one fetch waits; also how long a stop may take to be noticed."""

E = TypeVar("E", bound=Event)
Handler = Callable[[E], Awaitable[None]]

_subject: ContextVar[str] = ContextVar("subject")
"""The subject of the message that is being handled; each message is handled in a task of its own."""


class Listeners:
    """The events that a service listens to, and what it does with each."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.handlers: list[tuple[type[Event], str, Handler[Any]]] = []
        self.never_give_up: set[str] = set()

    def on(
        self, event_type: type[E], *, durable: str = "", gives_up: bool = True
    ) -> Callable[[Handler[E]], Handler[E]]:
        """Call the decorated function for each event of this type; it may see one twice, late or out of order.

        Where nothing else makes good what was not done, `gives_up=False` tries for ever while a part is away.
        """
        name = durable or f"{self.service}-{event_type.TYPE.replace('.', '-')}"
        if not gives_up:
            self.never_give_up.add(name)

        def register(handler: Handler[E]) -> Handler[E]:
            self.handlers.append((event_type, name, handler))
            return handler

        return register

    @property
    def areas(self) -> set[str]:
        """Areas whose streams must be there."""
        return {event_type.TYPE.split(".")[0] for event_type, _, _ in self.handlers}

    def deliveries_limit(self, durable: str) -> int:
        """How often JetStream delivers a message that is not settled."""
        return DELIVERIES_UNLIMITED if durable in self.never_give_up else DELIVERIES_LIMIT

    def subscribe(self, broker: NatsBroker) -> None:
        """Put every handler on a broker; also used to write the AsyncAPI file."""
        for event_type, durable, handler in self.handlers:
            config = ConsumerConfig(ack_wait=ACK_WAIT_SECONDS, max_deliver=self.deliveries_limit(durable))
            broker.subscriber(
                subject_of(event_type.TYPE),
                stream=JStream(STREAMS[event_type.TYPE.split(".")[0]].name, declare=False),
                durable=durable,
                config=config,
                pull_sub=PullSub(batch_size=FETCH_BATCH, timeout=FETCH_TIMEOUT_SECONDS),
                ack_policy=AckPolicy.MANUAL,
                title=event_type.TYPE,
                description=inspect.getdoc(event_type),
            )(_own_errors(handler, event_type))


def _own_errors(handler: Handler[E], event_type: type[E]) -> Callable[[Any], Awaitable[None]]:
    """Keep a ValueError inside a handler apart from one of the message: only the latter is the sender's fault."""

    @wraps(handler)
    async def handle(event: Any) -> None:
        _must_match_subject(event, _subject.get())
        try:
            await handler(event)
        except ValueError as error:
            because = in_words(error) if isinstance(error, ValidationError) else str(error)
            raise Broken(f"handling {event_type.TYPE}: {because}") from error

    # faststream reads the signature to decode the message and to describe it.
    handle.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("event", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=event_type)],
        return_annotation=None,
    )
    handle.__annotations__ = {"event": event_type, "return": None}
    return handle


def _must_match_subject(event: Event, subject: str) -> None:
    """NATS checked who may tell under this subject; a body that says otherwise would speak for another tenant."""
    if event.subject != subject:
        raise Refused(f"the body tells of {event.subject}, the subject is {subject}")


@contextlib.asynccontextmanager
async def listening(listeners: Listeners, platform: PlatformSettings, bus: Bus) -> AsyncIterator[NatsBroker]:
    """Deliver events to the listeners while the block runs."""
    await bus.ensure_streams(*listeners.areas)
    security = SASLPlaintext(platform.nats_user, platform.nats_password()) if platform.nats_user else None
    broker = NatsBroker(
        platform.nats_url,
        security=security,
        middlewares=[_settling(bus, listeners)],
        logger=logging.getLogger("ergonaut.listeners"),
        log_level=logging.DEBUG,
        **connection_options(f"{listeners.service}-listeners"),
    )
    await _lift_limits(listeners, bus)
    listeners.subscribe(broker)
    async with broker:
        _tell_fetches_apart_from_failures(broker)
        await broker.start()
        yield broker


def _tell_fetches_apart_from_failures(broker: NatsBroker) -> None:
    """Have each fetch that brings nothing end with NATS's own TimeoutError. Where a busy loop looks late, nats-py raises that of
    Python, which faststream takes for a failure of its task: it writes a traceback to the log and begins anew."""
    jetstream: JetStreamContext = broker.config.connection_state.stream
    subscribe = jetstream.pull_subscribe

    async def pull_subscribe(*arguments: Any, **named: Any) -> JetStreamContext.PullSubscription:
        subscription = await subscribe(*arguments, **named)
        fetch = subscription.fetch

        async def fetched(*arguments: Any, **named: Any) -> list[Any]:
            try:
                return await fetch(*arguments, **named)
            except TimeoutError as error:
                raise NatsTimeoutError from error

        subscription.fetch = fetched  # type: ignore[method-assign]
        return subscription

    jetstream.pull_subscribe = pull_subscribe  # type: ignore[method-assign]


async def _lift_limits(listeners: Listeners, bus: Bus) -> None:
    """Let consumers deliver for ever that an older version has made with a limit: who subscribes changes none."""
    for event_type, durable, _ in listeners.handlers:
        if durable in listeners.never_give_up:
            lift = partial(_lift_limit, bus, STREAMS[event_type.TYPE.split(".")[0]].name, durable)
            await until_answered(lift, what=f"lifting the limit of the consumer {durable}")


async def _lift_limit(bus: Bus, stream: str, durable: str) -> None:
    with contextlib.suppress(NotFoundError):
        config = (await bus.jetstream.consumer_info(stream, durable)).config
        if config.max_deliver != DELIVERIES_UNLIMITED:
            await bus.jetstream.add_consumer(stream, config.evolve(max_deliver=DELIVERIES_UNLIMITED))


def _settling(bus: Bus, listeners: Listeners) -> type[BaseMiddleware[Any, Any]]:
    """A middleware that settles each message when its handler is through."""

    class Settling(BaseMiddleware[Any, Any]):
        async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
            _subject.set(self.msg.subject)
            with (
                carried_context(self.msg.headers or {}),
                span("handle", subject=self.msg.subject, service=listeners.service),
            ):
                return await call_next(msg)

        async def after_processed(
            self,
            exc_type: type[BaseException] | None = None,  # noqa: ARG002 - the middleware contract
            exc_val: BaseException | None = None,
            exc_tb: TracebackType | None = None,  # noqa: ARG002
        ) -> bool:
            if isinstance(exc_val, IgnoredException) or (exc_val and not isinstance(exc_val, Exception)):
                return False
            await settle(bus, self.msg, exc_val, listeners)
            return True

    return Settling


async def settle(bus: Bus, message: Any, error: BaseException | None, listeners: Listeners) -> None:
    """Acknowledge what was done; park what never can be done; try the rest again later."""
    consumer = message.metadata.consumer or listeners.service
    if error is None:
        await message.ack()
    elif isinstance(error, ValidationError):
        await park(bus.jetstream, message, consumer=consumer, because=in_words(error))
    elif isinstance(error, Refused | ValueError):
        await park(bus.jetstream, message, consumer=consumer, because=str(error))
    else:
        because = str(error) or type(error).__name__
        gives_up = consumer not in listeners.never_give_up or not isinstance(error, Unavailable)
        await try_later(bus.jetstream, message, consumer=consumer, because=because, gives_up=gives_up)
