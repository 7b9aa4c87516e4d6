"""Composition of the gateway: build, enter, wait, leave. What a topic needs to be built is in `assembly`, a file a topic."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import open_bus
from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import background
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway import h2
from ergonaut_gateway.assembly.addresses import with_real_port
from ergonaut_gateway.assembly.demand import planning_demand
from ergonaut_gateway.assembly.dozing import dozing
from ergonaut_gateway.assembly.endpoints import serving_endpoints
from ergonaut_gateway.assembly.energy import counting_energy
from ergonaut_gateway.assembly.limits import engine_limits, h2_limits, http_limits
from ergonaut_gateway.assembly.models import open_models
from ergonaut_gateway.assembly.openai import serving_openai
from ergonaut_gateway.assembly.peers import balancing
from ergonaut_gateway.assembly.pipelines import serving_pipelines
from ergonaut_gateway.assembly.quality import watching
from ergonaut_gateway.endpoint_rpc import endpoint_door
from ergonaut_gateway.http import (
    Callers,
    HttpServer,
    InferenceDoor,
    PagesDoor,
    PeopleDoor,
    QualityDoor,
    Router,
    opened_http,
)
from ergonaut_gateway.pipeline_rpc import pipeline_door
from ergonaut_gateway.rpc import NAMES, door
from ergonaut_gateway.service import Catalogue, Models, Predictions
from ergonaut_gateway.service.quality import Quality
from ergonaut_gateway.settings import Settings
from ergonaut_gateway.workers.place import Seat, taken


async def main(platform: PlatformSettings, seat: Seat | None = None) -> None:
    """The whole life of the process: one of several workers where it has a seat among them, else the only one."""
    settings = Settings()
    keys = KeyRing.load(platform.keys_file)
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(taken(settings, seat))
        bus = await stack.enter_async_context(open_bus(platform, "gateway"))
        await bus.ensure_streams("models", "inference")
        dozers = await stack.enter_async_context(dozing(settings))
        models, catalogue = await open_models(settings, platform, bus, place, dozers)
        quality = await stack.enter_async_context(watching(settings, bus))
        watch = quality.served if quality is not None else None
        predictions = Predictions(catalogue, bus, SystemClock(), engine_limits(settings), watch)
        stack.callback(predictions.close)
        await stack.enter_async_context(counting_energy(predictions.energy, settings, bus))
        await stack.enter_async_context(
            background(catalogue.follow(SystemClock(), resync_seconds=settings.resync_seconds))
        )
        demand = await stack.enter_async_context(planning_demand(settings, bus))
        if place.finishes:
            await stack.enter_async_context(background(models.keep_finishing(every_seconds=settings.resync_seconds)))
        await stack.enter_async_context(_reporting(predictions, settings))
        served = (models, catalogue, predictions)
        pipelines = await stack.enter_async_context(serving_pipelines(settings, platform, bus, served, place))
        endpoints = await stack.enter_async_context(serving_endpoints(settings, bus, served, quality, place))
        callers = Callers(keys)
        router = _router(served, quality, callers)
        await stack.enter_async_context(serving_openai(settings, bus, callers, router, predictions))
        add = door(models, catalogue, predictions, pipeline_door(pipelines), endpoint_door(endpoints))
        grpc = await stack.enter_async_context(h2.opened(add, predictions, keys, NAMES, h2_limits(settings)))
        http = await stack.enter_async_context(opened_http(place.http, router, http_limits(settings), h2_factory=grpc))
        http.count_also(lambda: len(grpc.connections))
        grpc.elsewhere = lambda: http.connections
        await stack.enter_async_context(grpc.listening(place.grpc))
        place.opened(lambda: http.connections + len(grpc.connections), predictions.overdue_seconds)
        announcing = await stack.enter_async_context(
            balancing(with_real_port(settings, place.grpc.port), platform, bus, (catalogue, predictions), demand)
        )
        others_serve = await place.leave_requested()
        await announcing.leave()
        if others_serve:
            place.grpc.close()
            await _part(http, grpc, within_seconds=settings.stop_seconds)
        await grpc.set_serving(False)
        await predictions.finish(within_seconds=settings.stop_seconds)


async def _part(http: HttpServer, grpc: h2.H2Door, *, within_seconds: float) -> None:
    """Part from callers, who find others that serve."""
    async with asyncio.TaskGroup() as group:
        group.create_task(http.let_go(within_seconds=within_seconds))
        group.create_task(grpc.let_go(within_seconds=within_seconds))


def _router(served: tuple[Models, Catalogue, Predictions], quality: Quality | None, callers: Callers) -> Router:
    """What the HTTP port answers by."""
    router = Router()
    InferenceDoor(*served, callers).add_to(router)
    PeopleDoor(*served, callers).add_to(router)
    PagesDoor().add_to(router)
    if quality is not None:
        QualityDoor(quality, callers).add_to(router)
    return router


@asynccontextmanager
async def _reporting(predictions: Predictions, settings: Settings) -> AsyncIterator[None]:
    """Tell what was served every few seconds while the block runs, and the rest when it ends."""
    async with background(predictions.keep_reporting(every_seconds=settings.report_seconds)):
        yield
    await predictions.report()
