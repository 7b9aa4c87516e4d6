"""The nodes that are there, by what they tell each second, and how each fared with what it was asked."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Protocol

from ergonaut.announcements import EVERY_SECONDS, SILENT_SECONDS
from ergonaut.errors import ErgonautError
from ergonaut.ids import new_id
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_vectors.cluster.announced import GONE_SECONDS, PROTOCOL, NodeAnnounced
from ergonaut_vectors.cluster.ports import NodeAnnouncements, NodeLink, NodeLinks
from ergonaut_vectors.domain.placing.choosing import Node
from ergonaut_vectors.domain.placing.health import Health

NODES_MAX = 256
"""Nodes that are known at once; what more tell is passed over. Each has a connection once it is asked something."""

log = get_logger(__name__)


class KnownNode:
    """A node, this one or another."""

    def __init__(self, told: NodeAnnounced, links: NodeLinks, now_seconds: float) -> None:
        self._links = links
        self._link: NodeLink | None = None
        self.health = Health()
        self.told = told
        self.heard_seconds = now_seconds

    @property
    def name(self) -> str:
        """What it is called."""
        return self.told.name

    @property
    def link(self) -> NodeLink:
        """The connection to it."""
        if self._link is None:
            self._link = self._links.open(self.told.address)
        return self._link

    def hear(self, told: NodeAnnounced, now_seconds: float) -> None:
        """It is there, and stands so."""
        if told.address != self.told.address or told.process != self.told.process:
            # Another process may answer where the one before failed.
            self.close()
            self.health = Health()
        self.told, self.heard_seconds = told, now_seconds

    def close(self) -> None:
        """Ask it nothing more over this connection."""
        if self._link is not None:
            self._link.close()
            self._link = None


class Nodes:
    """All of them."""

    def __init__(self, links: NodeLinks, clock: Clock) -> None:
        self._links = links
        self._clock = clock
        self._known: dict[str, KnownNode] = {}
        self._heard_seconds = clock.monotonic()

    def __iter__(self) -> Iterator[KnownNode]:
        return iter(list(self._known.values()))

    def hear(self, told: NodeAnnounced) -> None:
        """A node told how it stands, maybe this one."""
        if told.protocol != PROTOCOL:
            return
        now = self._heard_seconds = self._clock.monotonic()
        node = self._known.get(told.name)
        if node is None:
            if len(self._known) < NODES_MAX:
                self._known[told.name] = KnownNode(told, self._links, now)
                log.info("node found", node=told.name, address=told.address)
        elif told.told_at >= node.told.told_at:
            # NATS keeps the order of one process's words, and where it does not the newer ones hold.
            node.hear(told, now)

    def sweep(self) -> None:
        """Forget who is gone. While nobody is heard at all it is NATS that is silent, and all are kept."""
        for node in self:
            if self._heard_seconds - node.heard_seconds > GONE_SECONDS:
                del self._known[node.name]
                node.close()
                log.warning("node gone", node=node.name, address=node.told.address)

    def placeable(self) -> Mapping[str, Node]:
        """The nodes that replicas may be on: those that are not lost; one that drains has no weight."""
        return {node.name: _placed(node.told) for node in self}

    def heard(self) -> Mapping[str, Node]:
        """Those of them that told of themselves lately, who can do what has to be done now."""
        return {node.name: _placed(node.told) for node in self if not self._is_silent(node)}

    def askable(self, names: Iterable[str], without: Collection[str] = ()) -> list[KnownNode]:
        """Those of these nodes that may be asked now, the least busy first; those that are silent or failed lately last of all.

        A node is asked even so where there is no other: it may be well, and the caller has nothing to lose.
        """
        known = [self._known[name] for name in names if name in self._known and name not in without]
        return sorted(known, key=self._reluctance)

    def close(self) -> None:
        """Let go of all."""
        for node in self:
            node.close()
        self._known.clear()

    def _reluctance(self, node: KnownNode) -> tuple[bool, int, str]:
        alone = not node.health.admits(self._clock.monotonic())
        return self._is_silent(node) or alone, node.health.outstanding, node.name

    def _is_silent(self, node: KnownNode) -> bool:
        return self._heard_seconds - node.heard_seconds > SILENT_SECONDS


def _placed(told: NodeAnnounced) -> Node:
    return Node(told.name, 0.0 if told.draining else told.weight, told.zone)


class _Tells(Protocol):
    def __call__(self, told_at: datetime, *, draining: bool) -> NodeAnnounced: ...


class Announcing:
    """Tells all nodes every second that this one is there, and forgets those that are gone."""

    def __init__(self, announcements: NodeAnnouncements, nodes: Nodes, tells: _Tells, clock: Clock) -> None:
        self._announcements = announcements
        self._nodes = nodes
        self._tells = tells
        self._clock = clock
        self._reached = True

    async def tell(self, *, draining: bool = False) -> None:
        """Tell once; where nobody can be told that is logged once."""
        try:
            await self._announcements.tell(self._tells(self._clock.now(), draining=draining))
        except ErgonautError as error:
            if self._reached:
                log.warning("other nodes not told", error=str(error))
            self._reached = False
        else:
            self._reached = True

    async def keep_telling(self) -> None:
        """Tell again and again, for ever."""
        while True:
            await self.tell()
            await self._clock.sleep(EVERY_SECONDS)
            self._nodes.sweep()


def telling(name: str, address: str, *, zone: str = "", weight: float = 1.0) -> Callable[..., NodeAnnounced]:
    """What makes the announcements of this process."""
    process = new_id("node")

    def told(told_at: datetime, *, draining: bool = False) -> NodeAnnounced:
        return NodeAnnounced(
            name=name, process=process, address=address, zone=zone, weight=weight, told_at=told_at, draining=draining
        )

    return told
