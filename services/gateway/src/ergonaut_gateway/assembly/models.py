"""Models as they are kept in JetStream and run by onnxruntime."""

from ergonaut_common.bus import Bus
from ergonaut_common.clock import SystemClock
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway import memory
from ergonaut_gateway.adapters.files import ObjectModelFiles
from ergonaut_gateway.adapters.onnx import OnnxLoader, Sessions
from ergonaut_gateway.adapters.registry import BUCKET, FILES_BUCKET, KvFileNotes, KvModelRegistry
from ergonaut_gateway.adapters.signatures import TrustedKeys
from ergonaut_gateway.adapters.trials import TriedFirst
from ergonaut_gateway.service import Catalogue, Models
from ergonaut_gateway.service.dozing import Dozers
from ergonaut_gateway.service.files import SharedFiles
from ergonaut_gateway.service.loading import LoadLimits
from ergonaut_gateway.service.models import Limits, World
from ergonaut_gateway.service.spool import Spool
from ergonaut_gateway.service.trust import Trust
from ergonaut_gateway.settings import Provider, Settings, cores
from ergonaut_gateway.workers.place import Place


async def open_models(
    settings: Settings, platform: PlatformSettings, bus: Bus, place: Place, dozers: Dozers | None = None
) -> tuple[Models, Catalogue]:
    """The models, those of the registry loaded."""
    spool = model_spool(settings, platform)
    registry, files = place.registry(KvModelRegistry(await bus.key_value(BUCKET))), ObjectModelFiles(bus)
    shared = SharedFiles(files, KvFileNotes(await bus.key_value(FILES_BUCKET)), SystemClock())
    trust = Trust(TrustedKeys.load(settings.trusted_keys), settings.signature_policy)
    loader = model_loader(settings)
    catalogue = Catalogue(registry, files, loader, spool, trust, dozers)
    await catalogue.load_all(_load_limits(settings))
    has_accelerators = settings.providers != (Provider.CPU,)
    tried = TriedFirst(loader, memory_bytes_max=settings.model_memory_bytes_max, for_memory_only=has_accelerators)
    world = World(registry, files, shared, tried, announcer=bus, clock=SystemClock(), trust=trust)
    limits = Limits(deployments=settings.deployments_max, models=settings.models_max, versions=settings.versions_max)
    return Models(world, catalogue, spool, limits), catalogue


def _load_limits(settings: Settings) -> LoadLimits:
    """A core for each model, and half of the memory that is left, shared among the workers, since all load at the same time."""
    there_bytes = memory.available_bytes() or LoadLimits().memory_bytes
    return LoadLimits(max(1, cores() // settings.workers), there_bytes // 2 // settings.workers)


def model_spool(settings: Settings, platform: PlatformSettings) -> Spool:
    """Where files of models are on their way in and out."""
    return Spool(platform.data_dir / "gateway" / "spool", file_bytes_max=settings.model_bytes_max)


def model_loader(settings: Settings) -> OnnxLoader:
    """What makes runners of files."""
    return OnnxLoader(Sessions(settings.providers, settings.intra_op_threads, _memory_bytes_max(settings)))


def _memory_bytes_max(settings: Settings) -> int:
    """What runs may take whose memory depends on values: no more than there is when the gateway starts; 0 is any."""
    return min(settings.model_memory_bytes_max, memory.available_bytes() or settings.model_memory_bytes_max)
