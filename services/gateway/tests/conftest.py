"""What the tests of the gateway share: the service on its fakes, and a nats-server where one is asked for."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from ergonaut_common.clock import FakeClock
from ergonaut_common.testing import nats_server
from ergonaut_gateway.domain.models import Lineage, ModelRecord
from ergonaut_gateway.domain.trust import SignaturePolicy
from ergonaut_gateway.fakes import (
    FakeAnnouncer,
    FakeFileNotes,
    FakeModelFiles,
    FakeModelLoader,
    FakeModelRegistry,
    FakeSignatureChecker,
)
from ergonaut_gateway.ports import ModelLoader, SignatureChecker
from ergonaut_gateway.service import Catalogue, Deployment, EngineLimits, Models, Predictions
from ergonaut_gateway.service.dozing import Dozers
from ergonaut_gateway.service.files import SharedFiles
from ergonaut_gateway.service.models import Limits, World
from ergonaut_gateway.service.spool import Spool
from ergonaut_gateway.service.trust import Trust

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    """What deals with sockets itself must hold on the gateway's own loop as well."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in ("test_http_connection.py", "test_tls.py"):
        factories["uvloop"] = uvloop.new_event_loop
    return factories


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@dataclass
class Gateway:
    """One gateway process's parts; several may share registry, files and announcer."""

    registry: FakeModelRegistry
    files: FakeModelFiles
    notes: FakeFileNotes
    announcer: FakeAnnouncer
    clock: FakeClock
    catalogue: Catalogue
    models: Models
    predictions: Predictions
    spool_folder: Path

    async def deploy(
        self, content: bytes, name: str = "digits", *, tenant: str = "default", run_id: str = "", signature: str = ""
    ) -> ModelRecord:
        wish = Deployment(tenant, name, Lineage(run_id=run_id), signature)
        return await self.models.deploy(wish, chunks(content))


class Gateways:
    """Makes gateways on the same registry, files and announcer."""

    def __init__(self, folder: Path) -> None:
        self.registry = FakeModelRegistry()
        self.files = FakeModelFiles()
        self.notes = FakeFileNotes()
        self.announcer = FakeAnnouncer()
        self.clock = FakeClock()
        self.folder = folder

    def another(
        self,
        loader: ModelLoader | None = None,
        *,
        file_bytes_max: int = 10_000,
        checker: SignatureChecker | None = None,
        policy: SignaturePolicy = SignaturePolicy.OFF,
        limits: EngineLimits | None = None,
        models_max: int = 3,
        dozers: Dozers | None = None,
    ) -> Gateway:
        loader = loader or FakeModelLoader()
        spool = Spool(self.folder, file_bytes_max=file_bytes_max)
        trust = Trust(checker or FakeSignatureChecker(), policy)
        catalogue = Catalogue(self.registry, self.files, loader, spool, trust, dozers)
        shared = SharedFiles(self.files, self.notes, self.clock)
        world = World(self.registry, self.files, shared, loader, self.announcer, self.clock, trust)
        models = Models(world, catalogue, spool, Limits(deployments=2, models=models_max, versions=3))
        predictions = Predictions(catalogue, self.announcer, self.clock, limits)
        return Gateway(
            self.registry,
            self.files,
            self.notes,
            self.announcer,
            self.clock,
            catalogue,
            models,
            predictions,
            self.folder,
        )


@pytest.fixture
async def gateways(tmp_path: Path) -> Gateways:
    await asyncio.sleep(0)
    return Gateways(tmp_path / "spool")


@pytest.fixture
def gateway(gateways: Gateways) -> Gateway:
    return gateways.another()


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as url:
        yield url
