"""The models that this process holds ready: a cache of the registry, kept current by watching it. Predictions read it."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from ergonaut.errors import Broken, ErgonautError, NotFound, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.models import Entry, Model, ModelRecord, ready_count
from ergonaut_gateway.ports import ModelFiles, ModelLoader, ModelRegistry, Runner
from ergonaut_gateway.service.dozing import Dozers, Dozing
from ergonaut_gateway.service.loading import LoadLimits, LoadRoom
from ergonaut_gateway.service.spool import Spool
from ergonaut_gateway.service.trust import Trust

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
    """A model's newest entry, the versions loaded here, and to which of them each wish leads: a number, an alias or none."""

    entry: Entry
    loaded: Mapping[int, ReadyModel] = field(default_factory=dict)
    ready: Mapping[str, ReadyModel] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)
    """Why versions that are to be ready could not be loaded, when it was last tried."""


class Catalogue:
    """Holds a runner for each version that is to be ready."""

    def __init__(
        self,
        registry: ModelRegistry,
        files: ModelFiles,
        loader: ModelLoader,
        spool: Spool,
        trust: Trust,
        dozers: Dozers | None = None,
    ) -> None:
        self._registry = registry
        self._files = files
        self._loader = loader
        self._spool = spool
        self._trust = trust
        self._dozers = dozers
        self._held: dict[tuple[str, str], _Held] = {}

    def find(self, tenant: str, name: str, version: str = "") -> ReadyModel:
        """The version that a number, an alias or nothing means. Raises NotFound, or Unavailable where it could not be loaded."""
        held = self._held.get((tenant, name))
        if held is not None:
            ready = held.ready.get(version)
            if ready is not None:
                return ready
        raise _missing(held, name, version)

    def number_of(self, tenant: str, name: str, version: str = "") -> int | None:
        """The number of the version that is to be served for a wish, also where it could not be loaded here; None for none."""
        held = self._held.get((tenant, name))
        if held is None or not held.entry.model.is_kept:
            return None
        try:
            record = held.entry.model.named(version)
        except NotFound:
            return None
        return record.version if record.served else None

    def loaded(self) -> Iterator[tuple[str, str, int]]:
        """All versions that are held ready here: tenant, model, number."""
        for (tenant, name), held in list(self._held.items()):
            for version in {ready.record.version for ready in (*held.loaded.values(), *held.ready.values())}:
                yield tenant, name, version

    def is_current(self, record: ModelRecord) -> bool:
        """Whether exactly this version is ready here."""
        held = self._held.get((record.tenant, record.name))
        ready = held.loaded.get(record.version) if held is not None else None
        return ready is not None and ready.record.file == record.file

    def problem(self, record: ModelRecord) -> str:
        """Why a version that is to be ready is not ready here; nothing where it is, or is not to be."""
        if not record.served or self.is_current(record):
            return ""
        held = self._held.get((record.tenant, record.name))
        because = held.failed.get(record.version) if held is not None else None
        return f"could not be loaded: {because}; it is tried again" if because else "is not loaded yet"

    def models(self, tenant: str) -> list[Model]:
        """The models of a tenant by name, with all their versions, as this process knows them."""
        models = [held.entry.model for key, held in self._held.items() if key[0] == tenant]
        return sorted((model for model in models if model.is_kept), key=lambda model: model.name)

    def list(self, tenant: str) -> list[ModelRecord]:
        """The version of each of a tenant's models that is served by default, by name, also where it could not be loaded."""
        served = [model.default for model in self.models(tenant)]
        return [record for record in served if record is not None]

    def served_count(self) -> int:
        """How many versions are to be held ready, of all tenants."""
        return ready_count(held.entry.model for held in self._held.values())

    async def runner_of(self, record: ModelRecord) -> Runner:
        """The runner of a version, loaded now if it is not held. Raises what keeps it from being loaded."""
        held = self._held.get((record.tenant, record.name))
        ready = held.loaded.get(record.version) if held is not None else None
        return ready.runner if ready is not None and ready.record.file == record.file else await self._load(record)

    async def apply(self, entry: Entry, runners: Mapping[int, Runner] | None = None) -> None:
        """Do what an entry says: load, keep or let go. One that is older than what is known changes nothing."""
        if self._is_old(entry):
            return
        loaded: dict[int, ReadyModel] = {}
        failed: dict[int, str] = {}
        for record in entry.model.ready:
            try:
                given = (runners or {}).get(record.version)
                loaded[record.version] = ReadyModel(
                    record, self._wrapped(record, given or await self.runner_of(record))
                )
            except ErgonautError as error:
                log.error("model not loaded", model=record.name, version=record.version, error=str(error))
                failed[record.version] = str(error)
        # Looked at again: another entry, or the same one by who made it, may have been applied while files were fetched.
        if not self._is_old(entry):
            held = self._held.get(_key(entry))
            loaded = {each.record.version: self._first(each) for each in loaded.values()}
            now = _held_of(entry, loaded, held.ready.get("") if held else None)
            self._held[_key(entry)] = replace(now, failed=failed)

    async def load_all(self, limits: LoadLimits | None = None) -> None:
        """Hold ready whatever the registry says, so many at once; one that cannot be loaded does not keep the others away."""
        room = LoadRoom(limits or LoadLimits())

        async def load(entry: Entry) -> None:
            async with room.taken(_largest_bytes(entry)):
                await self.apply(entry)

        # The largest first, or at last everybody would wait for one that nothing else is left to be loaded beside.
        entries = sorted(await self._registry.entries(), key=_largest_bytes, reverse=True)
        async with asyncio.TaskGroup() as group:
            for entry in entries:
                group.create_task(load(entry))

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

    def _first(self, ready: ReadyModel) -> ReadyModel:
        """The same version with the runner that is held already, if there is one: requests are at work on it."""
        held = self._held.get((ready.record.tenant, ready.record.name))
        there = held.loaded.get(ready.record.version) if held is not None else None
        return ReadyModel(ready.record, there.runner) if there and there.record.file == ready.record.file else ready

    def _wrapped(self, record: ModelRecord, runner: Runner) -> Runner:
        """The same runner, where models may doze off as one that does."""
        if self._dozers is None or isinstance(runner, Dozing):
            return runner
        return self._dozers.wrapped(record, runner, partial(self._load, record))

    async def _load(self, record: ModelRecord) -> Runner:
        async with self._spool.room() as path:
            await self._files.fetch(record.tenant, record.file, path)
            await self._trust.check_file(record, path)
            return await self._loader.load(path)


def _held_of(entry: Entry, loaded: Mapping[int, ReadyModel], previous: ReadyModel | None) -> _Held:
    """What a wish for each version leads to, looked up once here rather than at each request."""
    model = entry.model
    ready = {str(version): each for version, each in loaded.items()}
    ready |= {alias: loaded[version] for alias, version in model.aliases.items() if version in loaded}
    default = model.default
    if default is not None:
        # The version that works stays in use until the one that should be can be loaded, which each round tries again.
        stays = previous if previous is not None and model.numbered(previous.record.version) else None
        chosen = loaded.get(default.version) or stays
        if chosen is not None:
            ready[""] = chosen
            loaded = {**loaded, chosen.record.version: chosen}
    return _Held(entry, loaded, ready)


def _missing(held: _Held | None, name: str, version: str) -> NotFound | Unavailable:
    """Why a wish leads nowhere."""
    if held is None or not held.entry.model.is_kept:
        return NotFound(f"no model {name} is served")
    model = held.entry.model
    try:
        record = model.named(version)
    except NotFound as error:
        return error
    if not record.served:
        told = f"version {record.version} of model {name}"
        return NotFound(f"{told} is not loaded; load it: ergonaut models load {name} {record.version}")
    because = f": {held.failed[record.version]}" if record.version in held.failed else ""
    return Unavailable(f"model {name} could not be loaded{because}; it is tried again, or deploy it anew")


def _largest_bytes(entry: Entry) -> int:
    return max((record.size_bytes for record in entry.model.ready), default=0)


def _key(entry: Entry) -> tuple[str, str]:
    return entry.model.tenant, entry.model.name
