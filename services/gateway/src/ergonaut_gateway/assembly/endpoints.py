"""Endpoints as they are kept in JetStream."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from ergonaut.ids import new_id
from ergonaut_common.bus import Bus
from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import background
from ergonaut_gateway.adapters.endpoints import BUCKET, FIGURES_BUCKET, KvEndpointBook, KvFiguresBook
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.service import Catalogue, Models, Predictions
from ergonaut_gateway.service.endpoints import Endpoints, EndpointWorld
from ergonaut_gateway.service.quality import Quality
from ergonaut_gateway.service.traffic import Traffic
from ergonaut_gateway.settings import Settings
from ergonaut_gateway.workers.place import Place


@asynccontextmanager
async def serving_endpoints(
    settings: Settings,
    bus: Bus,
    served: tuple[Models, Catalogue, Predictions],
    quality: Quality | None,
    place: Place,
) -> AsyncIterator[Endpoints]:
    """The endpoints, those of the records held ready and followed while the block runs."""
    models, catalogue, predictions = served

    def find(tenant: str, model: str, version: str) -> ModelRecord:
        return catalogue.find(tenant, model, version).record

    traffic = Traffic(
        predictions.submit_model, find, predictions.statistics_of, lambda: predictions.is_loaded, SystemClock()
    )
    book = place.endpoint_book(KvEndpointBook(await bus.key_value(BUCKET)))
    figures = KvFiguresBook(await bus.key_value(FIGURES_BUCKET))
    world = EndpointWorld(book, figures, bus, SystemClock(), models)
    endpoints = Endpoints(world, predictions.plans, traffic, process=new_id("process"))
    await endpoints.load_all()
    models.hold_by(endpoints.holds)
    if quality is not None:
        quality.labels.hear = endpoints.labelled
    async with AsyncExitStack() as stack:
        stack.push_async_callback(endpoints.tell_figures)
        await stack.enter_async_context(background(endpoints.follow(resync_seconds=settings.resync_seconds)))
        await stack.enter_async_context(background(endpoints.keep_telling()))
        if place.finishes:
            await stack.enter_async_context(background(endpoints.keep_finishing(every_seconds=settings.resync_seconds)))
            await stack.enter_async_context(background(endpoints.keep_folding()))
        yield endpoints
