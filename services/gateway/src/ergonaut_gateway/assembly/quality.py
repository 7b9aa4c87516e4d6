"""Drift, labels and the request log, where a setting asks for one of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY

from ergonaut_common.bus import Bus
from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import background
from ergonaut_gateway.adapters.references import BUCKET, KvReferences
from ergonaut_gateway.domain.drift.watch import Windows
from ergonaut_gateway.domain.request_log import Redaction
from ergonaut_gateway.service.drifts import Watching
from ergonaut_gateway.service.labels import Keeping
from ergonaut_gateway.service.quality import Quality
from ergonaut_gateway.service.request_log import Logging
from ergonaut_gateway.settings import Settings


@asynccontextmanager
async def watching(settings: Settings, bus: Bus) -> AsyncIterator[Quality | None]:
    """What sees each answered request while the block runs; nothing where nothing is to be watched."""
    quality_settings = (settings.watch_rows_per_second, settings.labels_waiting_max, settings.request_log_rate)
    if not any((*quality_settings, *settings.request_log_rates.values())):
        yield None
        return
    references = KvReferences(await bus.key_value(BUCKET))
    quality = Quality(
        bus,
        references,
        SystemClock(),
        watching=_watching_rules(settings),
        keeping=Keeping(settings.labels_waiting_max),
        logging=_logging(settings),
    )
    REGISTRY.register(quality)
    try:
        async with background(quality.keep_checking()):
            yield quality
        await quality.check()
    finally:
        REGISTRY.unregister(quality)


def _watching_rules(settings: Settings) -> Watching:
    windows = Windows(reference_rows=settings.watch_reference_rows)
    return Watching(settings.watch_rows_per_second, settings.watch_check_seconds, windows)


def _logging(settings: Settings) -> Logging:
    redaction = Redaction(
        frozenset(settings.request_log_dropped),
        frozenset(settings.request_log_hashed),
        frozenset(settings.request_log_texts),
        settings.request_log_salt.get_secret_value().encode(),
    )
    return Logging(
        settings.request_log_rate, settings.request_log_rates, settings.request_log_per_second_max, redaction
    )
