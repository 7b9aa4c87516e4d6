"""Consumers that deliver again within seconds what a killed process held, so that no test waits half a minute for that."""

from nats.js.api import AckPolicy, ConsumerConfig

from ergonaut.events import STREAMS
from ergonaut_common.bus import Bus
from ergonaut_common.bus.pulling import PENDING_MAX
from ergonaut_ledger.listeners import AREAS, DURABLE

ACK_WAIT_SECONDS = 3.0
"""Long enough for the ledger to keep a batch on a busy machine; else it comes twice, which changes nothing."""


async def deliver_again_soon(bus: Bus) -> None:
    """Make the ledger's consumers before the ledger does; it takes those that are there."""
    for area in AREAS:
        config = ConsumerConfig(
            durable_name=DURABLE,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            max_ack_pending=PENDING_MAX,
        )
        await bus.jetstream.add_consumer(STREAMS[area].name, config)
