"""What has to be done next so that every shard is where it should be: replicas added, made ready, drained, removed.

Whoever keeps the maps (cluster/keeping.py) asks again and again, with what the nodes tell; every step is one change of the map by
compare-and-set, so that it may die between any two of them, and another goes on. A move is a replica more, copied from another
and caught up with the log, and then one less.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ergonaut_vectors.domain.placing.choosing import Node, chosen_nodes
from ergonaut_vectors.domain.placing.shard_map import (
    ReplicaStage,
    ShardMap,
    ShardPlace,
    place_key,
)

COPIES_AT_ONCE = 2
"""Replicas of one collection that are copied at a time: more would slow the answers of those they are copied from."""

LAG_MAX = 64
"""Messages that a replica may be behind when it is made ready: it applies so many while the map goes round."""


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """How a replica stands, as its node told."""

    position: int
    epoch: int = 0
    """Of the newest map that the node knows."""
    digests: Mapping[int, str] = field(default_factory=dict)
    """Of what it held at some of the last positions."""
    drained: bool = False
    """Nobody has asked it for so long that nobody has an older map."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the map."""

    nodes: Mapping[str, Node]
    """Those that are there, or have been a short while ago."""
    log_ends: Mapping[int, int] = field(default_factory=dict)
    """The position of the last message of each shard's log."""
    reports: Mapping[tuple[int, str], ReplicaReport] = field(default_factory=dict)
    """By shard and node."""

    def caught_up(self, shard: ShardPlace, node: str) -> bool:
        """Whether a replica has applied nearly all of its log."""
        report = self.reports.get((shard.number, node))
        return report is not None and report.position + LAG_MAX >= self.log_ends.get(shard.number, 0)


def next_step(now: ShardMap, facts: Facts) -> ShardMap | None:
    """The map that is to be next; None where all is as it should be, or something has to be waited for."""
    copying = sum(len(shard.nodes(ReplicaStage.COPYING)) for shard in now.shards)
    for shard in now.shards:
        for after in _moves(now, shard, facts, copying):
            return now.with_shards([after])
    return None


def _moves(now: ShardMap, shard: ShardPlace, facts: Facts, copying: int) -> Iterator[ShardPlace]:
    """The changes of one shard that are due, the most urgent first."""
    wanted = chosen_nodes(place_key(now.collection, shard.number), facts.nodes.values(), now.replicas_wanted)
    ready = shard.nodes(ReplicaStage.READY)
    alive = [node for node in ready if node in facts.nodes]
    for node in shard.nodes(ReplicaStage.COPYING):
        if facts.caught_up(shard, node) and node in facts.nodes:
            yield shard.at(node, ReplicaStage.READY)
        elif node not in wanted:
            yield shard.without(node)
    for node in shard.nodes(ReplicaStage.DRAINING):
        report = facts.reports.get((shard.number, node))
        if node in wanted:
            yield shard.at(node, ReplicaStage.READY)
        elif node not in facts.nodes or (report is not None and report.drained):
            yield shard.without(node)
    if copying < COPIES_AT_ONCE:
        for node in wanted:
            if node not in shard.nodes():
                yield shard.at(node, ReplicaStage.COPYING)
    if set(wanted) <= set(alive) and wanted:
        for node in ready:
            if node not in wanted:
                # What is gone has nobody to drain.
                yield shard.at(node, ReplicaStage.DRAINING) if node in facts.nodes else shard.without(node)
