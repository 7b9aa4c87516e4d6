"""Files of models, shared by versions of the same content: held before a version is recorded, let go after it is removed.

A file is deleted only after its note says that nobody holds it, and a deployment that finds such a note stores the file anew
under another name. So a deletion that comes late, or is repeated, never hits a file that somebody holds.
"""

from collections.abc import Mapping
from pathlib import Path

from ergonaut.errors import Conflict, ErgonautError, Unavailable
from ergonaut.ids import new_id
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.files import FileEntry, Hold, KeptFile, held, let_go, without_dead
from ergonaut_gateway.domain.models import Model, ModelRecord
from ergonaut_gateway.ports import FileNotes, ModelFiles, ModelRegistry

HOLDS_TRIED_MAX = 8
"""How often a note is written again; each failure means that another deployment or removal got through."""

log = get_logger(__name__)


class SharedFiles:
    """Keeps each content once a tenant."""

    def __init__(self, files: ModelFiles, notes: FileNotes, clock: Clock) -> None:
        self._files = files
        self._notes = notes
        self._clock = clock

    async def hold(self, tenant: str, digest: str, source: Path, hold: Hold) -> str:
        """Where the content is kept, from now until the hold is let go; stored if it is not there. Raises Refused."""
        for _ in range(HOLDS_TRIED_MAX):
            entry = await self._notes.get(tenant, digest)
            if entry is not None and entry.kept.holds:
                kept = held(entry.kept, hold)
            else:
                kept = KeptFile(tenant, digest, f"{digest}/{new_id('file')}", (hold,))
            try:
                await self._notes.put(kept, revision=entry.revision if entry else 0)
            except Conflict:
                continue
            # Noted before it is stored, so that no file is ever there that nothing tells of. One that is noted and not there was
            # lost, or is on its way from another deployment: to store the same once more heals the one and harms not the other.
            if not await self._files.exists(tenant, kept.file):
                await self._files.store(tenant, kept.file, source)
            return kept.file
        raise Unavailable(f"the file {digest} is being deployed or removed by others; ask again")

    async def let_go(self, record: ModelRecord) -> None:
        """Give up a version's hold on its file, and delete a file that nobody holds. Doing so again changes nothing."""
        for _ in range(HOLDS_TRIED_MAX):
            entry = await self._notes.get(record.tenant, record.digest)
            if entry is None or entry.kept.file != record.file:
                # Its file is its own, or was deleted and is there under another name since.
                await self._files.delete(record.tenant, record.file)
                return
            try:
                await self._note(entry, let_go(entry.kept, record.deployment_id))
            except Conflict:
                continue
            return
        raise Unavailable(f"the file {record.digest} is being deployed or removed by others; ask again")

    async def sweep(self, registry: ModelRegistry) -> None:
        """Give up the holds of deployments that died, and delete what nobody holds."""
        notes = await self._notes.entries()
        # Read after the notes: a hold that is old enough to be dead has its version recorded by now, or never will.
        known = {(entry.model.tenant, entry.model.name): entry.model for entry in await registry.entries()}
        for entry in notes:
            try:
                living = await self._holders(entry.kept, known, registry)
                await self._note(entry, without_dead(entry.kept, living, now=self._clock.now()))
            except Conflict:
                continue
            except ErgonautError as error:
                log.warning("model file not looked after", file=entry.kept.file, error=str(error))

    def hold_of(self, model: str) -> Hold:
        """A new hold for a deployment of a model."""
        return Hold(model, new_id("deployment"), self._clock.now())

    async def _holders(
        self, kept: KeptFile, known: Mapping[tuple[str, str], Model], registry: ModelRegistry
    ) -> frozenset[str]:
        """The deployments that records tell of, among the models that hold a file. Raises Broken for a damaged record."""
        found: set[str] = set()
        for name in {hold.model for hold in kept.holds}:
            model = known.get((kept.tenant, name))
            if model is None:
                # Asked for by name, since a list leaves damaged records out, and their files are not to be deleted.
                entry = await registry.get(kept.tenant, name)
                model = entry.model if entry is not None else Model(kept.tenant, name)
            found |= {record.deployment_id for record in model.versions if not record.is_file_released}
        return frozenset(found)

    async def _note(self, entry: FileEntry, kept: KeptFile) -> None:
        """Write a note that has fewer holds. Raises Conflict where it was changed."""
        if kept.holds != entry.kept.holds:
            entry = await self._notes.put(kept, revision=entry.revision)
        if kept.holds:
            return
        await self._files.delete(kept.tenant, kept.file)
        await self._notes.drop(entry)
