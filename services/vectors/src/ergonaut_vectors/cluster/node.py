"""Makes a process a node: it tells that it is there, follows the maps, holds its replicas, keeps its share of the maps."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from grpc import aio

from ergonaut.announcements import EVERY_SECONDS
from ergonaut.api.vectors.v1 import shards_pb2, vectors_pb2_grpc
from ergonaut_common.bus import Bus
from ergonaut_common.bus.announcements import NatsAnnouncements
from ergonaut_common.clock import Clock, SystemClock
from ergonaut_common.lifetimes import stopped
from ergonaut_vectors.adapters.node_links import GrpcNodeLinks
from ergonaut_vectors.adapters.past_log import JetStreamPast
from ergonaut_vectors.adapters.shard_maps import BUCKET, KeyValueShardMaps
from ergonaut_vectors.archive.ports import Past
from ergonaut_vectors.cluster.announced import ANNOUNCEMENTS
from ergonaut_vectors.cluster.gathering import Gathering
from ergonaut_vectors.cluster.held import LiveReplicas
from ergonaut_vectors.cluster.holding import Holding
from ergonaut_vectors.cluster.keeping import Keeping
from ergonaut_vectors.cluster.nodes import Announcing, Nodes, telling
from ergonaut_vectors.cluster.ports import NodeAnnouncements, NodeLinks, ShardMaps
from ergonaut_vectors.cluster.spread import Spread
from ergonaut_vectors.cluster.turns import MapTurns
from ergonaut_vectors.domain.records import Record
from ergonaut_vectors.rpc.shards import shards_door
from ergonaut_vectors.rpc.shared import Behind
from ergonaut_vectors.rpc.spread import SpreadDoor
from ergonaut_vectors.service import Vectors
from ergonaut_vectors.splitting import Splitting

SHARDS_SERVICE_NAME = shards_pb2.DESCRIPTOR.services_by_name["ShardsService"].full_name

HEARING_SECONDS = 1.5 * EVERY_SECONDS
"""How long a node listens before it opens its door: by then all that are there have told of themselves."""


@dataclass(frozen=True, slots=True)
class Own:
    """What this node is."""

    name: str
    address: str
    zone: str
    weight: float
    key: str
    """The services' key."""
    root: Path
    """Where its shards are saved."""
    plain_allowed: bool = False
    """Whether the key goes over a network in clear."""


@dataclass(frozen=True, slots=True)
class World:
    """What a node needs of the world."""

    maps: ShardMaps
    announcements: NodeAnnouncements
    links: NodeLinks
    past: Past
    clock: Clock


@contextlib.asynccontextmanager
async def clustered(
    own: Own, bus: Bus, vectors: Vectors, behind: Behind
) -> AsyncIterator[Callable[[aio.Server], None]]:
    """Be a node of those that are on one NATS while the block runs; gives what adds its doors to a server."""
    maps = KeyValueShardMaps(await bus.key_value(BUCKET))
    announcements, past = NatsAnnouncements(bus, own.key, ANNOUNCEMENTS), JetStreamPast(bus.jetstream)
    world = World(maps, announcements, GrpcNodeLinks(own.key, plain_allowed=own.plain_allowed), past, SystemClock())
    async with being(own, world, vectors, behind) as add:
        yield add


@contextlib.asynccontextmanager
async def being(
    own: Own, world: World, vectors: Vectors, behind: Behind
) -> AsyncIterator[Callable[[aio.Server], None]]:
    """Be a node while the block runs; gives what adds its doors to a server."""
    clock, nodes = world.clock, Nodes(world.links, world.clock)
    announcing = Announcing(
        world.announcements, nodes, telling(own.name, own.address, zone=own.zone, weight=own.weight), clock
    )
    spread = Spread(own.name, world.maps, Gathering(nodes, clock))
    holding = Holding(spread, nodes, LiveReplicas(vectors, own.root), own.root.with_name("fetching"), clock)
    keeping = Keeping(own.name, world.maps, nodes, world.past, clock)

    def keeps(record: Record, shard: int) -> bool:
        """Of the nodes that are there one brings a shard's states to the shelf, and trims its log."""
        now = spread.known(record.uid)
        return now is None or now.kept_by(shard, nodes.heard()) == own.name

    async def gone(record: Record) -> None:
        """Whichever node hears of it removes the map: the one that dropped it may have died before."""
        await keeping.remove(record)
        spread.forget(record.uid)
        holding.forget(record.uid)

    splitting = behind.splits if isinstance(behind.splits, Splitting) else None
    if splitting is not None:
        splitting.turns = MapTurns(world.maps, spread, keeping)
    vectors.gone = gone
    vectors.opening.holds = spread.holds
    vectors.opening.keeps = keeps

    def add(server: aio.Server) -> None:
        vectors_pb2_grpc.add_VectorsServiceServicer_to_server(SpreadDoor(behind, spread, keeping), server)
        shards_door(behind, holding)(server)

    async with world.announcements.heard(nodes.hear), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(each) for each in (announcing.keep_telling(), holding.run(), keeping.keep())]
        try:
            await clock.sleep(HEARING_SECONDS)
            async with splitting.running() if splitting else contextlib.nullcontext():
                yield add
        finally:
            await announcing.tell(draining=True)
            for each in running:
                await stopped(each)
            nodes.close()
