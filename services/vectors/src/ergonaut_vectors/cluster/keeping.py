"""Brings all maps to where they should be, step by step: replicas follow the nodes that are there, differing ones are made anew.

Every node has one of these; for each collection the one that rendezvous hashing chooses of those heard lately acts, so that one
that was killed holds up nobody. Two that act at once do no harm: a map is changed by compare-and-set.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ergonaut.errors import Conflict, ErgonautError
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_vectors.archive.ports import Past
from ergonaut_vectors.cluster.nodes import KnownNode, Nodes
from ergonaut_vectors.cluster.ports import KeptMap, ShardMaps
from ergonaut_vectors.domain.placing.choosing import Node, chosen_nodes
from ergonaut_vectors.domain.placing.comparing import differing
from ergonaut_vectors.domain.placing.moving import Facts, ReplicaReport, next_step
from ergonaut_vectors.domain.placing.shard_map import ReplicaStage, ShardMap, first_map
from ergonaut_vectors.domain.records import Key, Record

EVERY_SECONDS = 2.0
"""Between two rounds: a node that came has replicas within seconds, one that is lost was silent for a minute before."""

STEPS_MAX = 8
"""Changes of one map in one round: each is seen by all nodes before much more is changed."""

REPORT_SECONDS = 2.0
"""For a node to tell of its replicas of one collection."""

Reports = Mapping[tuple[int, str], ReplicaReport]

log = get_logger(__name__)


class Keeping:
    """Keeps the maps."""

    def __init__(self, own: str, maps: ShardMaps, nodes: Nodes, past: Past, clock: Clock) -> None:
        self._own = own
        self._maps = maps
        self._nodes = nodes
        self._past = past
        self._clock = clock

    async def add(self, record: Record) -> ShardMap:
        """The map of a new collection; the one that it has where there is one. Raises Unavailable."""
        kept = await self._maps.find(record.uid)
        if kept is None:
            nodes = self._nodes.placeable() or {self._own: Node(self._own)}
            first = first_map(record.uid, record.ranges, record.schema.replicas, nodes)
            named = replace(first, tenant=record.key.tenant, name=record.key.name)
            try:
                kept = await self._maps.add(named)
            except Conflict:
                kept = await self._maps.find(record.uid)
                if kept is None:
                    raise
        return kept.map

    def heard(self) -> Mapping[str, Node]:
        """The nodes that told of themselves lately."""
        return self._nodes.heard()

    async def remove(self, record: Record) -> None:
        """The collection is gone; a map that stays for want of NATS harms nobody."""
        try:
            await self._maps.remove(record.uid)
        except ErgonautError as error:
            log.warning("map of a collection that is gone stays", collection=str(record.key), error=str(error))

    async def keep(self) -> None:
        """Round after round, for ever."""
        while True:
            await self._clock.sleep(EVERY_SECONDS)
            try:
                await self.round()
            except ErgonautError as error:
                log.warning("maps not kept", error=str(error))

    async def round(self) -> None:
        """Take the steps that are due on every map that is this node's to keep."""
        nodes, able = self._nodes.placeable(), self._nodes.heard()
        for kept in await self._maps.all():
            keeper = chosen_nodes(kept.map.collection, able.values(), 1) or [self._own]
            if keeper[0] == self._own:
                try:
                    await self._kept(kept, nodes)
                except ErgonautError as error:
                    log.warning("map not kept", collection=kept.map.name, error=str(error))

    async def _kept(self, kept: KeptMap, nodes: Mapping[str, Node]) -> None:
        reports = await self._reports(kept.map)
        ends = {
            shard.number: await self._past.end(Key(kept.map.tenant, kept.map.name, shard.number))
            for shard in kept.map.shards
        }
        for _ in range(STEPS_MAX):
            step = next_step(kept.map, Facts(nodes, ends, reports))
            if step is None:
                break
            kept = await self._maps.change(step, kept.revision)
            log.info("map changed", collection=kept.map.name, epoch=kept.map.epoch)
        await self._rebuild_differing(kept.map, reports)

    async def _reports(self, now: ShardMap) -> Reports:
        """What the nodes tell that hold a part; who does not answer tells nothing."""
        names = {node for shard in now.shards for node in shard.nodes()}
        known = [node for node in self._nodes if node.name in names]
        told = await asyncio.gather(*(self._report(node, now) for node in known))
        return {
            (shard, node.name): report
            for node, reports in zip(known, told, strict=True)
            for shard, report in reports.items()
        }

    async def _report(self, node: KnownNode, now: ShardMap) -> Mapping[int, ReplicaReport]:
        try:
            async with asyncio.timeout(REPORT_SECONDS):
                return await node.link.reports(now.tenant, now.collection)
        except (ErgonautError, TimeoutError) as error:
            log.debug("node tells nothing", node=node.name, error=str(error))
            return {}

    async def _rebuild_differing(self, now: ShardMap, reports: Reports) -> None:
        links: dict[str, KnownNode] = {node.name: node for node in self._nodes}
        for shard in now.owning:
            ready = shard.nodes(ReplicaStage.READY)
            told = {node: reports[shard.number, node].digests for node in ready if (shard.number, node) in reports}
            for name in _one_at_least_stays(sorted(differing(told)), ready):
                log.error("replicas differ", collection=now.name, shard=shard.number, node=name)
                await links[name].link.rebuild(now.tenant, now.collection, shard.number)


def _one_at_least_stays(names: Sequence[str], ready: Sequence[str]) -> Sequence[str]:
    """Those that are made anew now; where all differ one of them answers meanwhile, and is next."""
    return names[:-1] if len(names) == len(ready) else names
