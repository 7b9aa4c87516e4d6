"""What the gateway needs of the world: records of models, their files, something that runs them, somebody to tell."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ergonaut.events import Event
from ergonaut_gateway.domain.models import Entry, ModelRecord, Signature
from ergonaut_gateway.domain.tensors import Tensor


class ModelRegistry(Protocol):
    """Keeps one record a model; the truth about what is served. Raises Unavailable while it cannot be reached."""

    async def get(self, tenant: str, name: str) -> Entry | None:
        """The model's record, or None where there never was one."""
        ...

    async def put(self, record: ModelRecord, *, revision: int) -> Entry:
        """Replace the record of this revision; 0 means that there is none yet. Raises Conflict where another came first."""
        ...

    async def entries(self) -> Sequence[Entry]:
        """All records of all tenants."""
        ...

    def changes(self, *, seconds: float) -> AsyncIterator[Entry]:
        """All records and then each change, for about so long; callers ask again, which makes good whatever was missed."""
        ...


class ModelFiles(Protocol):
    """Keeps the files of models. A file, once kept, is never written again. Raises Unavailable while it cannot be reached."""

    async def store(self, tenant: str, file: str, source: Path) -> None:
        """Keep a file. Raises Refused where there is no room."""
        ...

    async def exists(self, tenant: str, file: str) -> bool:
        """Whether the file is kept."""
        ...

    async def fetch(self, tenant: str, file: str, target: Path) -> None:
        """Write a kept file to a path. Raises NotFound, or Broken where it was damaged."""
        ...

    async def delete(self, tenant: str, file: str) -> None:
        """Keep a file no longer; one that is not there is fine."""
        ...


class Runner(Protocol):
    """Runs one loaded model. Requests may be joined into batches behind this port; callers cannot tell."""

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        ...

    async def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
        """Compute outputs of inputs that fit the signature. Raises Refused where the model cannot, Unavailable when too busy."""
        ...


class ModelLoader(Protocol):
    """Makes runners of model files."""

    async def load(self, path: Path) -> Runner:
        """Load a file. Raises Refused where it is no model that can be served."""
        ...


class Announcer(Protocol):
    """Tells the other services facts."""

    async def publish(self, event: Event) -> None:
        """Tell a fact; telling it again is harmless. Raises Unavailable."""
        ...
