"""Models looked after: deployed, listed, aliased, loaded, removed. The order of effects lets any process die at any moment: a
version is served once its record is written, and by then its file is held; what is left to do is in records and done later."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ergonaut.errors import Conflict, ErgonautError, NotFound, Refused, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain import changes
from ergonaut_gateway.domain.cards import card_json, card_markdown
from ergonaut_gateway.domain.changes import Held, Naming
from ergonaut_gateway.domain.models import (
    Candidate,
    Entry,
    Lineage,
    Model,
    ModelRecord,
    check_alias,
    check_lineage,
    check_name,
)
from ergonaut_gateway.ports import Announcer, ModelFiles, ModelLoader, ModelRegistry, Runner
from ergonaut_gateway.service.catalogue import Catalogue
from ergonaut_gateway.service.files import SharedFiles
from ergonaut_gateway.service.spool import Spool, Upload
from ergonaut_gateway.service.trust import Trust

CLAIMS_MAX = 8
"""How often a change is tried; each failure means that another change of the same model got through."""

SIGNATURE_CHARACTERS_MAX = 16 * 1024
"""A signature of one file has some 2 kB; records must stay small."""

Namer = Callable[[str, str], str]
"""What a tenant's name stands for, if it must not be a model's."""

Holder = Callable[[str, str], Held]
"""Who needs versions of a tenant's model."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Under which name to serve a file that is about to come, and what is known of where it comes from."""

    tenant: str
    name: str
    lineage: Lineage = field(default_factory=Lineage)
    signature_bundle: str = ""
    alias: str = ""
    """That the version gets at once. Another one than the champion's leaves the version served by default as it is."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken in."""

    deployments: int
    models: int
    versions: int = 5


@dataclass(frozen=True, slots=True)
class World:
    """What models are kept in, loaded by and told to."""

    registry: ModelRegistry
    files: ModelFiles
    shared: SharedFiles
    loader: ModelLoader
    announcer: Announcer
    clock: Clock
    trust: Trust


class Models:
    """Looks after the models of all tenants."""

    def __init__(self, world: World, catalogue: Catalogue, spool: Spool, limits: Limits) -> None:
        self._world = world
        self._catalogue = catalogue
        self._spool = spool
        self._limits = limits
        self._deploying = 0
        self._holders: list[Holder] = []
        self._namers: list[Namer] = []

    def hold_by(self, holder: Holder) -> None:
        """Keep and hold ready what this says somebody needs, as what has an alias."""
        self._holders.append(holder)

    def name_by(self, namer: Namer) -> None:
        """Deploy no model under a name that this says is something else's."""
        self._namers.append(namer)

    async def deploy(self, wish: Deployment, chunks: AsyncIterator[bytes]) -> ModelRecord:
        """Serve a file as the name's newest version. Raises Refused for what cannot be served; nothing is kept then."""
        check_name(wish.name)
        for what in filter(None, (namer(wish.tenant, wish.name) for namer in self._namers)):
            raise Refused(f"{what} is called {wish.name}; a model needs another name", field="name")
        check_lineage(wish.lineage)
        if wish.alias:
            check_alias(wish.alias)
        if len(wish.signature_bundle) > SIGNATURE_CHARACTERS_MAX:
            raise Refused(f"is longer than {SIGNATURE_CHARACTERS_MAX} characters", field="signature")
        with self._place():
            async with self._spool.receiving(chunks) as upload:
                signed_by = await self._world.trust.check(upload.digest, wish.signature_bundle, model=wish.name)
                current = await self._world.registry.get(wish.tenant, wish.name)
                if current is not None and (there := await self._there(current, wish, upload.digest, signed_by)):
                    return await self._aliased(wish, there)
                self._check_room(
                    changes.ready_more(current.model if current else None, self._held(wish.tenant, wish.name))
                )
                runner = await self._world.loader.load(upload.path)
                return await self._store(wish, upload, runner, signed_by)

    async def list(self, tenant: str) -> list[Model]:
        """The models by name, each with all its versions."""
        models = [entry.model for entry in await self._world.registry.entries()]
        return sorted((each for each in models if each.tenant == tenant and each.is_kept), key=lambda each: each.name)

    async def get(self, tenant: str, name: str) -> Model:
        """A model with all its versions. Raises NotFound."""
        return (await self._entry(tenant, name)).model

    async def remove(self, tenant: str, name: str, version: str = "") -> None:
        """Keep a version no longer, or the whole model where none is named. Raises NotFound, or Refused for one with an alias."""
        at = self._world.clock.now()
        await self._change(
            tenant, name, lambda model: changes.removed(model, version, at=at, held=self._held(tenant, name))
        )
        log.info("model removed", tenant=tenant, model=name, version=version or "all")

    async def alias(self, tenant: str, name: str, naming: Naming) -> Model:
        """Let an alias name a version, which is loaded first. Raises NotFound, Conflict, or what keeps it from being loaded."""
        at = self._world.clock.now()
        return await self._change(tenant, name, lambda model: changes.aliased(model, naming, at=at))

    async def unalias(self, tenant: str, name: str, naming: Naming) -> Model:
        """Remove an alias; its version stays. Raises NotFound or Conflict."""
        at = self._world.clock.now()
        return await self._change(
            tenant, name, lambda model: changes.unaliased(model, naming, at=at, held=self._held(tenant, name))
        )

    async def load(self, tenant: str, name: str, version: str = "") -> Model:
        """Hold a version ready, or those that matter where none is named, from now on. Raises what keeps it from being loaded."""
        return await self._change(tenant, name, lambda model: changes.loaded(model, version))

    async def unload(self, tenant: str, name: str, version: str = "") -> Model:
        """Hold a version, or the whole model, ready no longer; it is kept. Raises NotFound, or Refused for one with an alias."""
        return await self._change(
            tenant, name, lambda model: changes.unloaded(model, version, held=self._held(tenant, name))
        )

    async def card(self, tenant: str, name: str, version: str = "") -> tuple[str, str]:
        """The card of a version, for programs and for people. Raises NotFound."""
        model = await self.get(tenant, name)
        record = model.named(version)
        return card_json(model, record), card_markdown(model, record)

    async def read(self, tenant: str, name: str, version: str = "") -> AsyncIterator[bytes]:
        """The file of a version, in pieces. Raises NotFound."""
        record = (await self.get(tenant, name)).named(version)
        async with self._spool.room() as path:
            await self._world.files.fetch(tenant, record.file, path)
            await self._world.trust.check_content(record, path)
            async for piece in self._spool.pieces(path):
                yield piece

    async def finish_all(self) -> None:
        """Do what processes that died did not come to: tell facts, and give up files that no version needs."""
        for entry in await self._world.registry.entries():
            await self._finished(entry)
        await self._world.shared.sweep(self._world.registry)

    async def keep_finishing(self, *, every_seconds: float) -> None:
        """Do that again and again, for ever."""
        while True:
            try:
                await self.finish_all()
            except ErgonautError as error:
                log.warning("models not finished", error=str(error))
            await self._world.clock.sleep(every_seconds)

    async def _store(self, wish: Deployment, upload: Upload, runner: Runner, signed_by: str) -> ModelRecord:
        """Hold the file, then write the record, then serve, then tell, then let go of the files of versions that went."""
        hold = self._world.shared.hold_of(wish.name)
        file = await self._world.shared.hold(wish.tenant, upload.digest, upload.path, hold)
        candidate = Candidate(
            digest=upload.digest,
            size_bytes=upload.size_bytes,
            file=file,
            signature=runner.signature,
            lineage=wish.lineage,
            deployment_id=hold.deployment_id,
            signature_bundle=wish.signature_bundle,
            signed_by=signed_by,
        )
        entry, record = await self._claim(wish, candidate)
        if record.deployment_id != hold.deployment_id:
            await self._let_go(replace(record, file=file, deployment_id=hold.deployment_id))
        await self._catalogue.apply(entry, {record.version: runner})
        log.info("model deployed", tenant=wish.tenant, model=wish.name, version=record.version)
        await self._finished(entry)
        return record

    async def _claim(self, wish: Deployment, candidate: Candidate) -> tuple[Entry, ModelRecord]:
        """The version's record, written by us or by another deployment of the same file."""
        for _ in range(CLAIMS_MAX):
            current = await self._world.registry.get(wish.tenant, wish.name)
            model = current.model if current else Model(wish.tenant, wish.name)
            there = changes.same_file(
                model, candidate.digest, is_signed=bool(candidate.signature_bundle), signed_by=candidate.signed_by
            )
            if current is not None and there is not None and there.served and there.file == candidate.file:
                return current, there
            told = await self._finished(current) if current else None
            after = changes.deployed(
                told.model if told else model,
                candidate,
                at=self._world.clock.now(),
                versions_max=self._limits.versions,
                held=self._held(wish.tenant, wish.name),
                alias=wish.alias,
            )
            try:
                entry = await self._world.registry.put(after, revision=told.revision if told else 0)
            except Conflict:
                continue
            return entry, after.versions[-1]
        raise Unavailable(f"other deployments of model {wish.name} keep coming first; ask again")

    async def _aliased(self, wish: Deployment, record: ModelRecord) -> ModelRecord:
        """The version with the alias of its deployment; it was there before."""
        if not wish.alias:
            return record
        naming = Naming(wish.alias, str(record.version))
        return (await self.alias(wish.tenant, wish.name, naming)).named(wish.alias)

    async def _there(self, current: Entry, wish: Deployment, digest: str, signed_by: str) -> ModelRecord | None:
        """The version that is this file already, ready; a record whose file was lost does not count."""
        is_signed = bool(wish.signature_bundle)
        record = changes.same_file(current.model, digest, is_signed=is_signed, signed_by=signed_by)
        if record is None or not await self._world.files.exists(wish.tenant, record.file):
            return None
        if not record.served:
            number = str(record.version)
            model = await self._change(
                wish.tenant, wish.name, lambda model: changes.loaded(model, number, is_pinned=False)
            )
            return model.named(number)
        await self._finished(current)
        return record

    async def _change(self, tenant: str, name: str, change: Callable[[Model], Model]) -> Model:
        """Load what the change makes ready, then write the record, then serve by it, then do what is left. Raises NotFound."""
        for _ in range(CLAIMS_MAX):
            current = await self._finished(await self._entry(tenant, name))
            after = change(current.model)
            if after is current.model:
                return after
            runners = await self._runners(current, after)
            try:
                entry = await self._world.registry.put(after, revision=current.revision)
            except Conflict:
                continue
            await self._catalogue.apply(entry, runners)
            return (await self._finished(entry)).model
        raise Unavailable(f"model {name} is being changed by others; ask again")

    async def _runners(self, current: Entry, after: Model) -> Mapping[int, Runner]:
        """Runners of the versions that a change makes ready, so that it is refused before it is written."""
        before = {record.version for record in current.model.ready}
        coming = [record for record in after.ready if record.version not in before]
        self._check_room(len(after.ready) - len(current.model.ready))
        return {record.version: await self._catalogue.runner_of(record) for record in coming}

    async def _entry(self, tenant: str, name: str) -> Entry:
        check_name(name)
        entry = await self._world.registry.get(tenant, name)
        if entry is None or not entry.model.is_kept:
            raise NotFound(f"no model {name} is served")
        return entry

    async def _finished(self, entry: Entry) -> Entry:
        """Do what a record says is left: tell its facts, give up files of removed versions, and note that.

        Raises Unavailable; it is then done later.
        """
        model = entry.model
        for event in changes.events_of(model):
            await self._world.announcer.publish(event)
        after = replace(model, untold=())
        for record in model.versions:
            if not record.is_kept and not record.is_file_released and await self._let_go(record):
                after = changes.released(after, record.deployment_id, record.version)
        if after == model:
            return entry
        try:
            return await self._world.registry.put(after, revision=entry.revision)
        except Conflict:
            # Somebody noted it first or went on from there; the caller's own write finds out.
            return entry

    async def _let_go(self, record: ModelRecord) -> bool:
        """Give up a version's hold on its file; a failure costs room until it is tried again."""
        try:
            await self._world.shared.let_go(record)
        except ErgonautError as error:
            log.warning("model file not given up", tenant=record.tenant, file=record.file, error=str(error))
            return False
        return True

    def _held(self, tenant: str, name: str) -> Held:
        """Who needs versions of a model, as far as this process knows."""
        return {version: who for holder in self._holders for version, who in holder(tenant, name).items()}

    def _check_room(self, more: int) -> None:
        """Raise Refused where so many more versions would be ready than may be."""
        served = self._catalogue.served_count()
        if more > 0 and served + more > self._limits.models:
            raise Refused(f"{served} models are served, which is the most; remove or unload one first", field="name")

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._deploying >= self._limits.deployments:
            raise Unavailable(f"{self._deploying} models are being deployed now, which is the most; try again")
        self._deploying += 1
        try:
            yield
        finally:
            self._deploying -= 1
