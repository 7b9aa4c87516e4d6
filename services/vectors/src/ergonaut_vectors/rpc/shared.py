"""What the methods of the door share: the service behind it, and who calls. Used within this folder."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ergonaut.errors import Refused
from ergonaut_common.rpc import caller
from ergonaut_vectors.asking import Asking
from ergonaut_vectors.catalogue import Catalogue, Opened, Seen, Snapshots, Splits
from ergonaut_vectors.changes import Changes
from ergonaut_vectors.quotas import Quotas
from ergonaut_vectors.rpc.asked import Reading
from ergonaut_vectors.workers import Workers

INLINE_BYTES_MAX = 32 * 1024
"""What is no larger is read and written where it is: that takes less than handing it to a thread, 0.1 ms, and nobody notices."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Behind:
    """What answers behind the door."""

    catalogue: Catalogue
    asking: Asking
    quotas: Quotas
    translating: Workers
    """Large messages are read and written in a thread."""
    snapshots: Snapshots | None = None
    changes: Changes | None = None
    splits: Splits | None = None
    """None where collections are another region's, where their shards are split."""


class Door:
    """Methods of the door."""

    def __init__(self, behind: Behind) -> None:
        self._behind = behind

    @property
    def _asking(self) -> Asking:
        return self._behind.asking

    def _enter(self) -> str:
        """The tenant who calls. Raises Unavailable where it calls too often."""
        tenant = caller().tenant
        self._behind.quotas.enter(tenant)
        return tenant

    async def _translated(self, work: Callable[[], T], size_bytes: int) -> T:
        """What the work gives, done in a thread where the message is large."""
        return work() if size_bytes <= INLINE_BYTES_MAX else await self._behind.translating.run(work)

    async def _open(self, name: str) -> Opened:
        return await self._behind.catalogue.open(self._enter(), name)

    @property
    def _snapshots(self) -> Snapshots:
        if self._behind.snapshots is None:
            raise Refused("this system keeps no snapshots; it has been given no store for them", field="collection")
        return self._behind.snapshots


async def seen_as(opened: Opened, reading: Reading) -> Seen:
    """The collection as of when the reading wants it."""
    return await opened.seen(reading.at_least, partial=reading.partial)
