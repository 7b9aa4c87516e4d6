"""Composition of the gateway: build, enter, wait, leave."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import REGISTRY

from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import background, stop_requested
from ergonaut_common.observe import serving_metrics
from ergonaut_common.rpc import serving
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway import h2
from ergonaut_gateway.adapters.files import ObjectModelFiles
from ergonaut_gateway.adapters.onnx import OnnxLoader, Sessions
from ergonaut_gateway.adapters.references import BUCKET as REFERENCES_BUCKET
from ergonaut_gateway.adapters.references import KvReferences
from ergonaut_gateway.adapters.registry import BUCKET, FILES_BUCKET, KvFileNotes, KvModelRegistry
from ergonaut_gateway.adapters.signatures import TrustedKeys
from ergonaut_gateway.domain.drift.watch import Windows
from ergonaut_gateway.domain.request_log import Redaction
from ergonaut_gateway.http import Callers, HttpLimits, InferenceDoor, QualityDoor, Router, serving_http
from ergonaut_gateway.openai import opened_door
from ergonaut_gateway.rpc import NAMES, door
from ergonaut_gateway.service import Catalogue, EngineLimits, Models, Predictions
from ergonaut_gateway.service.drifts import Watching
from ergonaut_gateway.service.files import SharedFiles
from ergonaut_gateway.service.labels import Keeping
from ergonaut_gateway.service.models import Limits, World
from ergonaut_gateway.service.quality import Quality
from ergonaut_gateway.service.request_log import Logging
from ergonaut_gateway.service.spool import Spool
from ergonaut_gateway.service.trust import Trust
from ergonaut_gateway.settings import Settings


async def main(platform: PlatformSettings) -> None:
    """The whole life of the process."""
    settings = Settings()
    keys = KeyRing.load(platform.keys_file)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving_metrics(settings.metrics_address))
        bus = await stack.enter_async_context(open_bus(platform, "gateway"))
        await bus.ensure_streams("models", "inference")
        models, catalogue = await _models(settings, platform, bus)
        quality = await stack.enter_async_context(_watching(settings, bus))
        watch = quality.served if quality is not None else None
        predictions = Predictions(catalogue, bus, SystemClock(), _engine_limits(settings), watch)
        stack.callback(predictions.close)
        await stack.enter_async_context(
            background(catalogue.follow(SystemClock(), resync_seconds=settings.resync_seconds))
        )
        await stack.enter_async_context(background(models.keep_finishing(every_seconds=settings.resync_seconds)))
        await stack.enter_async_context(_reporting(predictions, settings))
        router = Router()
        callers = Callers(keys)
        InferenceDoor(models, catalogue, predictions, callers).add_to(router)
        if quality is not None:
            QualityDoor(quality, callers).add_to(router)
        await stack.enter_async_context(opened_door(settings.openai_routes, callers, router))
        add = door(models, catalogue, predictions)
        own = await stack.enter_async_context(h2.opened(add, predictions, keys, NAMES, _h2_limits(settings)))
        await stack.enter_async_context(
            serving_http(settings.http_address, router, _http_limits(settings), h2_factory=own)
        )
        opened = await stack.enter_async_context(
            serving(settings.grpc_address, service="gateway", add=add, keys=keys, names=NAMES)
        )
        await stop_requested()
        await opened.set_serving(False)
        await own.set_serving(False)
        await predictions.finish(within_seconds=settings.stop_seconds)


async def _models(settings: Settings, platform: PlatformSettings, bus: Bus) -> tuple[Models, Catalogue]:
    """The models, those of the registry loaded."""
    spool = Spool(platform.data_dir / "gateway" / "spool", file_bytes_max=settings.model_bytes_max)
    registry, files = KvModelRegistry(await bus.key_value(BUCKET)), ObjectModelFiles(bus)
    shared = SharedFiles(files, KvFileNotes(await bus.key_value(FILES_BUCKET)), SystemClock())
    trust = Trust(TrustedKeys.load(settings.trusted_keys), settings.signature_policy)
    loader = OnnxLoader(Sessions(settings.providers, settings.intra_op_threads))
    catalogue = Catalogue(registry, files, loader, spool, trust)
    await catalogue.load_all()
    world = World(registry, files, shared, loader, announcer=bus, clock=SystemClock(), trust=trust)
    limits = Limits(deployments=settings.deployments_max, models=settings.models_max, versions=settings.versions_max)
    return Models(world, catalogue, spool, limits), catalogue


@asynccontextmanager
async def _reporting(predictions: Predictions, settings: Settings) -> AsyncIterator[None]:
    """Tell what was served every few seconds while the block runs, and the rest when it ends."""
    async with background(predictions.keep_reporting(every_seconds=settings.report_seconds)):
        yield
    await predictions.try_report()


@asynccontextmanager
async def _watching(settings: Settings, bus: Bus) -> AsyncIterator[Quality | None]:
    """What sees each answered request while the block runs; nothing where nothing is to be watched."""
    quality_settings = (settings.watch_rows_per_second, settings.labels_waiting_max, settings.request_log_rate)
    if not any((*quality_settings, *settings.request_log_rates.values())):
        yield None
        return
    references = KvReferences(await bus.key_value(REFERENCES_BUCKET))
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


def _http_limits(settings: Settings) -> HttpLimits:
    return HttpLimits(
        body_bytes=settings.body_bytes_max,
        all_bodies_bytes=settings.bodies_bytes_max,
        connections=settings.connections_max,
        body_seconds=settings.body_timeout_seconds,
        head_seconds=settings.head_timeout_seconds,
        idle_seconds=settings.idle_timeout_seconds,
        write_seconds=settings.write_timeout_seconds,
    )


def _h2_limits(settings: Settings) -> h2.H2Limits:
    return h2.H2Limits(
        connections=settings.connections_max,
        all_messages_bytes=settings.bodies_bytes_max,
        idle_seconds=max(settings.idle_timeout_seconds, h2.H2Limits().idle_seconds),
        write_seconds=settings.write_timeout_seconds,
        body_seconds=settings.body_timeout_seconds,
    )


def _engine_limits(settings: Settings) -> EngineLimits:
    return EngineLimits(
        threads=settings.run_threads,
        waiting=settings.waiting_max,
        model_waiting=settings.model_waiting_max,
        batch_rows=settings.batch_rows_max,
        run_timeout_seconds=settings.run_timeout_seconds,
        cache_bytes=settings.cache_bytes_max,
    )
