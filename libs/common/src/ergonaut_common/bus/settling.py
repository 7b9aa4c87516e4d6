"""What becomes of a message after the work: acknowledged, tried again later, or put with the dead letters.

faststream's own NACK_ON_ERROR burns all deliveries within milliseconds, so we settle by hand, with growing delay.
"""

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from prometheus_client import Counter

from ergonaut.ids import derived_id
from ergonaut_common.bus.messages import tenant_of
from ergonaut_common.observe import get_logger

DELIVERIES_MAX = 8
"""Deliveries before a message is parked: with the delays below that is about 25 s of trying."""

DELIVERIES_LIMIT = 64
"""JetStream's own bound; above ours, since a process that is killed burns deliveries without settling."""

DELIVERIES_UNLIMITED = -1
"""JetStream's word for no bound, for who does not give up."""

ACK_WAIT_SECONDS = 30.0
"""After this long without a word JetStream delivers again: longer than any control-plane handler should take."""

FIRST_DELAY_SECONDS = 0.2
LAST_DELAY_SECONDS = 30.0

log = get_logger(__name__)
_retried = Counter("ergonaut_messages_retried_total", "Messages to be delivered again, by consumer.", ["consumer"])
_parked = Counter("ergonaut_messages_parked_total", "Messages put with the dead letters, by consumer.", ["consumer"])


def delay_seconds(deliveries: int) -> float:
    """How long to wait before the next delivery.

    >>> [delay_seconds(n) for n in (1, 2, 3, 20)]
    [0.2, 0.4, 0.8, 30.0]
    """
    return float(min(FIRST_DELAY_SECONDS * 2.0 ** min(deliveries - 1, 30), LAST_DELAY_SECONDS))


async def try_later(
    jetstream: JetStreamContext, message: Msg, *, consumer: str, because: str, gives_up: bool = True
) -> None:
    """Have the message delivered again after a growing delay, or parked when it has been tried often enough.

    Who does not give up tries for ever, every 30 s in the end.
    """
    deliveries = message.metadata.num_delivered or 1
    if gives_up and deliveries >= DELIVERIES_MAX:
        await park(jetstream, message, consumer=consumer, because=because)
        return
    log.warning("message will be tried again", subject=message.subject, consumer=consumer, because=because)
    _retried.labels(consumer).inc()
    await message.nak(delay=delay_seconds(deliveries))


async def park(jetstream: JetStreamContext, message: Msg, *, consumer: str, because: str) -> None:
    """Put the message with the dead letters, then have it delivered no more. A person decides about it."""
    metadata = message.metadata
    log.error("message parked", subject=message.subject, consumer=consumer, because=because)
    headers = {
        "Nats-Msg-Id": derived_id("dead", consumer, metadata.stream, str(metadata.sequence.stream)),
        "ergonaut-subject": message.subject,
        "ergonaut-consumer": consumer,
        "ergonaut-because": " ".join(because.split())[:500],
    }
    subject = f"ergonaut.v1.{tenant_of(message.subject)}.dead.message.parked.{consumer}"
    await jetstream.publish(subject, message.data, headers=headers)
    await message.term()
    _parked.labels(consumer).inc()
