"""The models that this process holds ready: a cache of the registry, kept current by watching it. Predictions read it."""

from dataclasses import dataclass

from ergonaut.errors import Broken, ErgonautError, NotFound, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.models import Entry, ModelRecord
from ergonaut_gateway.ports import ModelFiles, ModelLoader, ModelRegistry, Runner
from ergonaut_gateway.service.spool import Spool

WATCH_PAUSE_SECONDS = 1.0
"""How long to wait before the registry is watched again after a failure."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReadyModel:
    """A version that requests can go to."""

    record: ModelRecord
    runner: Runner


@dataclass(frozen=True, slots=True)
class _Held:
    """A model's newest entry, and the version to use, which is older while the newest cannot be loaded."""

    entry: Entry
    ready: ReadyModel | None


class Catalogue:
    """Holds a runner for each served model."""

    def __init__(self, registry: ModelRegistry, files: ModelFiles, loader: ModelLoader, spool: Spool) -> None:
        self._registry = registry
        self._files = files
        self._loader = loader
        self._spool = spool
        self._held: dict[tuple[str, str], _Held] = {}

    def find(self, tenant: str, name: str, version: str = "") -> ReadyModel:
        """The model to use. Raises NotFound, or Unavailable where it is served but could not be loaded here."""
        held = self._held.get((tenant, name))
        if held is None or (held.ready is None and not held.entry.record.served):
            raise NotFound(f"no model {name} is served")
        if held.ready is None:
            raise Unavailable(f"model {name} could not be loaded; it is tried again, or deploy it anew")
        if version and version != str(held.ready.record.version):
            raise NotFound(f"version {version} of model {name} is not served, version {held.ready.record.version} is")
        return held.ready

    def is_current(self, record: ModelRecord) -> bool:
        """Whether exactly this version is ready here."""
        held = self._held.get((record.tenant, record.name))
        return held is not None and held.ready is not None and held.ready.record.file == record.file

    def list(self, tenant: str) -> list[ModelRecord]:
        """The served models of a tenant by name, also those that could not be loaded."""
        records = [held.entry.record for key, held in self._held.items() if key[0] == tenant]
        return sorted((record for record in records if record.served), key=lambda record: record.name)

    def served_count(self) -> int:
        """How many models are served, of all tenants."""
        return sum(held.entry.record.served for held in self._held.values())

    def adopt(self, entry: Entry, runner: Runner) -> None:
        """Use a version whose runner is there already."""
        if not self._is_old(entry):
            self._held[_key(entry)] = _Held(entry, ReadyModel(entry.record, runner))

    async def apply(self, entry: Entry) -> None:
        """Do what an entry says: load, keep or let go. One that is older than what is known changes nothing."""
        held = self._held.get(_key(entry))
        if self._is_old(entry):
            return
        if not entry.record.served:
            self._held[_key(entry)] = _Held(entry, None)
            return
        if held is not None and held.ready is not None and held.ready.record.file == entry.record.file:
            self.adopt(entry, held.ready.runner)
            return
        try:
            self.adopt(entry, await self._load(entry.record))
        except ErgonautError as error:
            self._keep_previous(entry)
            log.error("model not loaded", model=entry.record.name, version=entry.record.version, error=str(error))

    async def load_all(self) -> None:
        """Hold ready whatever the registry says; one that cannot be loaded does not keep the others away."""
        for entry in await self._registry.entries():
            await self.apply(entry)

    async def follow(self, clock: Clock, *, resync_seconds: float) -> None:
        """Keep current, for ever, also with what other gateways deploy; each round begins with all entries anew."""
        while True:
            try:
                async for entry in self._registry.changes(seconds=resync_seconds):
                    await self.apply(entry)
            except (Unavailable, Broken) as error:
                log.warning("registry not watched", error=str(error))
                await clock.sleep(WATCH_PAUSE_SECONDS)

    def _is_old(self, entry: Entry) -> bool:
        held = self._held.get(_key(entry))
        return held is not None and held.entry.revision > entry.revision

    def _keep_previous(self, entry: Entry) -> None:
        """The version that works stays in use until the newer one can be loaded, which each round tries again."""
        if self._is_old(entry):
            return
        held = self._held.get(_key(entry))
        self._held[_key(entry)] = _Held(entry, held.ready if held else None)

    async def _load(self, record: ModelRecord) -> Runner:
        async with self._spool.room() as path:
            await self._files.fetch(record.tenant, record.file, path)
            return await self._loader.load(path)


def _key(entry: Entry) -> tuple[str, str]:
    return entry.record.tenant, entry.record.name
