"""Pipelines as they are kept in JetStream and merged by onnx."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from ergonaut_common.bus import Bus
from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import background
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway.adapters.files import ObjectModelFiles
from ergonaut_gateway.adapters.fusing import OnnxFuser
from ergonaut_gateway.adapters.pipelines import BUCKET, KvPipelineBook
from ergonaut_gateway.adapters.registry import BUCKET as MODELS_BUCKET
from ergonaut_gateway.adapters.registry import KvModelRegistry
from ergonaut_gateway.adapters.signatures import OwnKey, TrustedKeys
from ergonaut_gateway.assembly.models import model_loader, model_spool
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.domain.trust import SignaturePolicy
from ergonaut_gateway.ports import ModelSigner
from ergonaut_gateway.service import Catalogue, Models, Predictions
from ergonaut_gateway.service.fusing import Fusing, Tools
from ergonaut_gateway.service.pipeline_runs import Engine
from ergonaut_gateway.service.pipelines import Pipelines, PipelineWorld
from ergonaut_gateway.settings import Settings
from ergonaut_gateway.workers.place import Place


@asynccontextmanager
async def serving_pipelines(
    settings: Settings,
    platform: PlatformSettings,
    bus: Bus,
    served: tuple[Models, Catalogue, Predictions],
    place: Place,
) -> AsyncIterator[Pipelines]:
    """The pipelines, those of the records held ready and followed while the block runs."""
    models, catalogue, predictions = served

    def find(tenant: str, model: str, version: str) -> ModelRecord:
        return catalogue.find(tenant, model, version).record

    engine = Engine(
        predictions.submit_model,
        find,
        SystemClock(),
        in_flight_max=settings.model_waiting_max + settings.run_threads,
        run_timeout_seconds=settings.run_timeout_seconds,
    )
    must_sign = settings.signature_policy is SignaturePolicy.REQUIRE
    tools = Tools(OnnxFuser(), model_loader(settings), ObjectModelFiles(bus), _signer(settings), must_sign)
    fusing = Fusing(models, catalogue, model_spool(settings, platform), tools)
    registry = KvModelRegistry(await bus.key_value(MODELS_BUCKET))
    book = place.pipeline_book(KvPipelineBook(await bus.key_value(BUCKET)))
    world = PipelineWorld(book, bus, SystemClock(), registry, models, fusing)
    pipelines = Pipelines(world, predictions.plans, engine)
    await pipelines.load_all()
    models.hold_by(pipelines.holds)
    models.name_by(pipelines.named)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(background(pipelines.follow(resync_seconds=settings.resync_seconds)))
        if place.finishes:
            await stack.enter_async_context(background(pipelines.keep_finishing(every_seconds=settings.resync_seconds)))
        yield pipelines


def _signer(settings: Settings) -> ModelSigner | None:
    """What signs models that are made here, where the settings name a key."""
    if not settings.fusing_key:
        return None
    return OwnKey.load(Path(settings.fusing_key), TrustedKeys.load(settings.trusted_keys))
