"""Models looked after: deployed, listed, told, removed. The order of effects lets any process die at any moment: a version is
served once its record is written, and by then its file is kept; what is left to do is found in the record and done later."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

from ergonaut.errors import Conflict, ErgonautError, NotFound, Refused, Unavailable
from ergonaut.ids import NAME_RULE, is_name, new_id
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.models import (
    Candidate,
    Entry,
    ModelRecord,
    announcement,
    check_name,
    next_version,
    removed,
    serves_already,
)
from ergonaut_gateway.ports import Announcer, ModelFiles, ModelLoader, ModelRegistry, Runner
from ergonaut_gateway.service.catalogue import Catalogue
from ergonaut_gateway.service.spool import Spool, Upload

CLAIMS_MAX = 8
"""How often a deployment tries for the next version number; each failure means that another deployment got through."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Under which name to serve a file that is about to come."""

    tenant: str
    name: str
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken in."""

    deployments: int
    models: int


@dataclass(frozen=True, slots=True)
class World:
    """What models are kept in, loaded by and told to."""

    registry: ModelRegistry
    files: ModelFiles
    loader: ModelLoader
    announcer: Announcer
    clock: Clock


class Models:
    """Looks after the models of all tenants."""

    def __init__(self, world: World, catalogue: Catalogue, spool: Spool, limits: Limits) -> None:
        self._world = world
        self._catalogue = catalogue
        self._spool = spool
        self._limits = limits
        self._deploying = 0

    async def deploy(self, wish: Deployment, chunks: AsyncIterator[bytes]) -> ModelRecord:
        """Serve a file as the name's newest version. Raises Refused for what cannot be served; nothing is kept then."""
        check_name(wish.name)
        if wish.run_id and not is_name(wish.run_id):
            raise Refused(f"{wish.run_id!r} cannot be a run's id; use {NAME_RULE}", field="run_id")
        with self._place():
            async with self._spool.receiving(chunks) as upload:
                current = await self._world.registry.get(wish.tenant, wish.name)
                if current is not None and await self._is_there(current.record, upload.digest):
                    return (await self._announced(current)).record
                self._check_room(current)
                runner = await self._world.loader.load(upload.path)
                return await self._store(wish, upload, runner)

    async def list(self, tenant: str) -> list[ModelRecord]:
        """The served models by name."""
        records = [entry.record for entry in await self._world.registry.entries()]
        mine = [record for record in records if record.tenant == tenant and record.served]
        return sorted(mine, key=lambda record: record.name)

    async def get(self, tenant: str, name: str) -> ModelRecord:
        """The served version. Raises NotFound."""
        check_name(name)
        entry = await self._world.registry.get(tenant, name)
        if entry is None or not entry.record.served:
            raise NotFound(f"no model {name} is served")
        return entry.record

    async def remove(self, tenant: str, name: str) -> None:
        """Serve the name no longer. Raises NotFound."""
        check_name(name)
        for _ in range(CLAIMS_MAX):
            current = await self._world.registry.get(tenant, name)
            gone = removed(current.record if current else None, name=name, at=self._world.clock.now())
            assert current is not None, "what is removed was there"
            told = await self._announced(current)
            try:
                entry = await self._world.registry.put(gone, revision=told.revision)
            except Conflict:
                continue
            await self._catalogue.apply(entry)
            await self._discard(tenant, gone.file)
            await self._announced(entry)
            log.info("model removed", tenant=tenant, model=name)
            return
        raise Unavailable(f"model {name} is being changed by others; ask again")

    async def announce_all(self) -> None:
        """Tell whatever a process that died did not come to tell."""
        for entry in await self._world.registry.entries():
            await self._announced(entry)

    async def keep_announced(self, *, every_seconds: float) -> None:
        """Do that again and again, for ever."""
        while True:
            try:
                await self.announce_all()
            except ErgonautError as error:
                log.warning("models not announced", error=str(error))
            await self._world.clock.sleep(every_seconds)

    async def _store(self, wish: Deployment, upload: Upload, runner: Runner) -> ModelRecord:
        """Keep the file, then write the record, then serve, then forget the file of the version before, then tell."""
        # A file belongs to one deployment, so that no other can still need it when it is deleted.
        file = f"{upload.digest}/{new_id('file')}"
        candidate = Candidate(upload.digest, upload.size_bytes, file, runner.signature, wish.run_id)
        await self._world.files.store(wish.tenant, file, upload.path)
        entry, previous = await self._claim(wish, candidate)
        if entry.record.file != file:
            await self._discard(wish.tenant, file)
            return (await self._announced(entry)).record
        self._catalogue.adopt(entry, runner)
        log.info("model deployed", tenant=wish.tenant, model=wish.name, version=entry.record.version)
        if previous is not None and previous.record.served:
            await self._discard(wish.tenant, previous.record.file)
        return (await self._announced(entry)).record

    async def _claim(self, wish: Deployment, candidate: Candidate) -> tuple[Entry, Entry | None]:
        """The next version's record, written by us or by another deployment of the same file; and what was there before."""
        for _ in range(CLAIMS_MAX):
            current = await self._world.registry.get(wish.tenant, wish.name)
            if current is not None and await self._is_there(current.record, candidate.digest):
                return current, None
            told = await self._announced(current) if current else None
            record = next_version(
                current.record if current else None,
                candidate,
                tenant=wish.tenant,
                name=wish.name,
                at=self._world.clock.now(),
            )
            try:
                return await self._world.registry.put(record, revision=told.revision if told else 0), current
            except Conflict:
                continue
        raise Unavailable(f"other deployments of model {wish.name} keep coming first; ask again")

    async def _is_there(self, current: ModelRecord, digest: str) -> bool:
        """Whether the version that is served is this file; a record whose file was lost does not count."""
        return serves_already(current, digest) and await self._world.files.exists(current.tenant, current.file)

    async def _announced(self, entry: Entry) -> Entry:
        """Tell the entry's fact where nobody has, and note that. Raises Unavailable; the fact is then told later."""
        if entry.record.announced:
            return entry
        await self._world.announcer.publish(announcement(entry.record))
        try:
            return await self._world.registry.put(replace(entry.record, announced=True), revision=entry.revision)
        except Conflict:
            # Somebody noted it first or went on from there; the caller's own write finds out.
            return entry

    async def _discard(self, tenant: str, file: str) -> None:
        """Free the room of a file that nothing refers to; a failure costs room only."""
        try:
            await self._world.files.delete(tenant, file)
        except ErgonautError as error:
            log.warning("model file not deleted", tenant=tenant, file=file, error=str(error))

    def _check_room(self, current: Entry | None) -> None:
        served = self._catalogue.served_count()
        if (current is None or not current.record.served) and served >= self._limits.models:
            raise Refused(f"{served} models are served, which is the most; remove one first", field="name")

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._deploying >= self._limits.deployments:
            raise Unavailable(f"{self._deploying} models are being deployed now, which is the most; try again")
        self._deploying += 1
        try:
            yield
        finally:
            self._deploying -= 1
