"""The NATS door: every area's events, in batches, each acknowledged once it is kept. Dead letters stay where they are."""

import time
from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import Counter, Histogram

from ergonaut.events import STREAMS
from ergonaut_common.bus import Delivery, Malformed
from ergonaut_ledger.domain.bounds import Message
from ergonaut_ledger.service import Keeping

AREAS = tuple(area for area in STREAMS if area != "dead")
"""All that is told is kept, but for what was already found to be malformed."""

DURABLE = "ledger"
"""Name of the consumers; JetStream remembers under it how far the ledger is."""

_kept = Counter("ergonaut_ledger_messages_kept_total", "Messages kept, repeats included.", ["stream"])
_malformed = Counter("ergonaut_ledger_messages_malformed_total", "Messages put with the dead letters.", ["stream"])
_seconds = Histogram("ergonaut_ledger_keep_seconds", "Time to keep one batch, from understanding to disk.")


def keeper(keeping: Keeping) -> Callable[[Sequence[Delivery]], Awaitable[list[Malformed]]]:
    """What `reading` calls with each batch: keeps it and names what never can be kept."""

    async def keep(deliveries: Sequence[Delivery]) -> list[Malformed]:
        began = time.perf_counter()
        messages = [Message(each.stream, each.sequence, each.subject, each.data) for each in deliveries]
        results = await keeping.keep(messages)
        malformed = [
            Malformed(delivery, result.because)
            for delivery, result in zip(deliveries, results, strict=True)
            if result is not None
        ]
        _seconds.observe(time.perf_counter() - began)
        if deliveries:
            _kept.labels(deliveries[0].stream).inc(len(deliveries) - len(malformed))
            _malformed.labels(deliveries[0].stream).inc(len(malformed))
        return malformed

    return keep
