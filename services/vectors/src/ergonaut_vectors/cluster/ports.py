"""What the cluster needs of the world: maps that change by compare-and-set, nodes that tell of themselves, links to them."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ergonaut_vectors.cluster.announced import NodeAnnounced
from ergonaut_vectors.domain.placing.moving import ReplicaReport
from ergonaut_vectors.domain.placing.shard_map import ShardMap
from ergonaut_vectors.domain.records import Record


@dataclass(frozen=True, slots=True)
class KeptMap:
    """A map as it is kept."""

    map: ShardMap
    revision: int
    """Of the record; whoever changes it names it."""


class ShardMaps(Protocol):
    """The maps of all collections, by the collections' uids. All methods raise Unavailable."""

    async def find(self, collection: str) -> KeptMap | None:
        """The map of one."""
        ...

    async def all(self) -> Sequence[KeptMap]:
        """All that can be read."""
        ...

    async def add(self, first: ShardMap) -> KeptMap:
        """Keep the first map of a collection. Raises Conflict where there is another."""
        ...

    async def change(self, after: ShardMap, revision: int) -> KeptMap:
        """Keep a map in place of the one of this revision. Raises Conflict where that is not the newest any more."""
        ...

    async def remove(self, collection: str) -> None:
        """Keep a map no longer; one that is not there is fine."""
        ...

    def changes(self) -> AsyncIterator[KeptMap]:
        """Each map that there is, and then each that is changed, without end."""
        ...


class NodeAnnouncements(Protocol):
    """What nodes tell all others."""

    async def tell(self, announced: NodeAnnounced) -> None:
        """Tell how this one stands. Raises Unavailable."""
        ...

    def heard(self, hear: Callable[[NodeAnnounced], None]) -> AbstractAsyncContextManager[None]:
        """Call this for whatever a node tells, while the block runs; what is not believed is passed over."""
        ...


@dataclass(frozen=True, slots=True)
class Asking:
    """A request of the public contract, for some shards of a collection that a node holds."""

    tenant: str
    collection: str
    """Its name."""
    uid: str
    epoch: int
    """Of the map by which it is asked."""
    shards: tuple[int, ...]
    method: str
    """Of the public service, such as `Search`."""
    request: bytes
    timeout_seconds: float
    slots_after: int = 0
    """The slot behind the last of the shard, where one is asked, as the asker's map has it; 0 where that is not told."""


class NodeLink(Protocol):
    """A connection to a node. Raises Unavailable where it does not answer, Conflict where its map is newer."""

    async def ask(self, asking: Asking) -> bytes:
        """The answer of the public contract, of these shards alone."""
        ...

    async def reports(self, tenant: str, collection: str) -> Mapping[int, ReplicaReport]:
        """How its replicas of a collection stand, by shard."""
        ...

    async def download(self, tenant: str, collection: str, shard: int, folder: Path) -> None:
        """Put what its replica of a shard has saved into a new folder; none where it has saved nothing."""
        ...

    async def rebuild(self, tenant: str, collection: str, shard: int) -> None:
        """Have its replica of a shard made anew."""
        ...

    def close(self) -> None:
        """Ask nothing more."""
        ...


class Replicas(Protocol):
    """The replicas of this node, as the service has them. All methods raise NotFound, Unavailable, Broken."""

    async def record(self, now: ShardMap) -> Record:
        """The record of the collection that a map is of. Raises NotFound also where its name is another's now."""
        ...

    async def standing(self, record: Record, shard: int) -> tuple[int, Mapping[int, str]]:
        """How far a replica has come, opened if need be; and digests of what it held at some of its last positions."""
        ...

    async def has_saved(self, record: Record, shard: int) -> bool:
        """Whether a replica would come back with more than nothing."""
        ...

    async def adopt(self, record: Record, shard: int, folder: Path) -> None:
        """Let the files of a folder, which another has saved, be what this node's replica comes back to. Raises Broken."""
        ...

    async def copy_saved(self, record: Record, shard: int, folder: Path) -> None:
        """Put what a replica has saved into a folder; nothing where it has saved nothing."""
        ...

    async def rebuild(self, record: Record, shard: int) -> None:
        """Set aside what a replica has, and read the log anew."""
        ...

    async def remove(self, record: Record, shard: int) -> None:
        """Close a replica and remove what it has saved."""
        ...


class NodeLinks(Protocol):
    """Opens links."""

    def open(self, address: str) -> NodeLink:
        """A link to the node that listens there; it connects when it is first asked something."""
        ...
