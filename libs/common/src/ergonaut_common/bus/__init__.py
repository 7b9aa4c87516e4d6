"""NATS as services use it: typed events out, typed events in, settled by hand, nothing lost and nothing done twice."""

from ergonaut_common.bus.buckets import listed, next_entry, watching
from ergonaut_common.bus.connection import Bus, open_bus
from ergonaut_common.bus.following import following
from ergonaut_common.bus.lag import watching_lag
from ergonaut_common.bus.listening import Listeners, listening
from ergonaut_common.bus.reading import Delivery, Malformed, reading
from ergonaut_common.bus.settling import DELIVERIES_MAX, delay_seconds

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
