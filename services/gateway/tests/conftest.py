"""What the tests of the gateway share: the service on its fakes, and a nats-server where one is asked for."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ergonaut_common.clock import FakeClock
from ergonaut_common.testing import nats_server
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.fakes import FakeAnnouncer, FakeModelFiles, FakeModelLoader, FakeModelRegistry
from ergonaut_gateway.ports import ModelLoader
from ergonaut_gateway.service import Catalogue, Deployment, Models, Predictions
from ergonaut_gateway.service.models import Limits, World
from ergonaut_gateway.service.spool import Spool


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@dataclass
class Gateway:
    """One gateway process's parts; several may share registry, files and announcer."""

    registry: FakeModelRegistry
    files: FakeModelFiles
    announcer: FakeAnnouncer
    clock: FakeClock
    catalogue: Catalogue
    models: Models
    predictions: Predictions
    spool_folder: Path

    async def deploy(
        self, content: bytes, name: str = "digits", *, tenant: str = "default", run_id: str = ""
    ) -> ModelRecord:
        return await self.models.deploy(Deployment(tenant, name, run_id), chunks(content))


class Gateways:
    """Makes gateways on the same registry, files and announcer."""

    def __init__(self, folder: Path) -> None:
        self.registry = FakeModelRegistry()
        self.files = FakeModelFiles()
        self.announcer = FakeAnnouncer()
        self.clock = FakeClock()
        self._folder = folder

    def another(self, loader: ModelLoader | None = None, *, file_bytes_max: int = 10_000) -> Gateway:
        loader = loader or FakeModelLoader()
        spool = Spool(self._folder, file_bytes_max=file_bytes_max)
        catalogue = Catalogue(self.registry, self.files, loader, spool)
        world = World(self.registry, self.files, loader, self.announcer, self.clock)
        models = Models(world, catalogue, spool, Limits(deployments=2, models=3))
        predictions = Predictions(catalogue, self.announcer, self.clock)
        return Gateway(
            self.registry,
            self.files,
            self.announcer,
            self.clock,
            catalogue,
            models,
            predictions,
            self._folder,
        )


@pytest.fixture
async def gateways(tmp_path: Path) -> Gateways:
    await asyncio.sleep(0)
    return Gateways(tmp_path / "spool")


@pytest.fixture
def gateway(gateways: Gateways) -> Gateway:
    return gateways.another()


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as url:
        yield url
