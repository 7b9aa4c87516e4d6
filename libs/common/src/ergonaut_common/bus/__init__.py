"""NATS as services use it: typed events out, typed events in, settled by hand, nothing lost and nothing done twice.

What listens is loaded when it is first used: faststream takes its time, which a service that only tells need not wait for.
"""

from typing import TYPE_CHECKING

from ergonaut.lazy import lazy_names
from ergonaut_common.bus.buckets import listed, next_entry, watching
from ergonaut_common.bus.connection import Bus, open_bus
from ergonaut_common.bus.following import following
from ergonaut_common.bus.lag import watching_lag
from ergonaut_common.bus.reading import Delivery, Malformed, reading
from ergonaut_common.bus.settling import DELIVERIES_MAX, delay_seconds

if TYPE_CHECKING:
    from ergonaut_common.bus.listeners import Listeners, listening

__getattr__ = lazy_names(__name__, dict.fromkeys(("Listeners", "listening"), "ergonaut_common.bus.listeners"))

__all__ = [
    "DELIVERIES_MAX",
    "Bus",
    "Delivery",
    "Listeners",
    "Malformed",
    "delay_seconds",
    "following",
    "listed",
    "listening",
    "next_entry",
    "open_bus",
    "reading",
    "watching",
    "watching_lag",
]
