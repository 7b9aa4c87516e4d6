"""What has to be done next so that every shard is where it should be: replicas added, made ready, drained, removed; shards split.

Whoever keeps the maps (cluster/keeping.py) asks again and again, with what the nodes tell; every step is one change of the map by
compare-and-set or one message in a log, so that it may die between any two of them, and another goes on.

A move is a replica more, copied from another and caught up with the log, and then one less. A split:

1. A new shard FILLING, of the upper half of the slots: its replicas follow the log of the source, and keep what is theirs.
2. When they have caught up, a fence in the source's log: from its position F on, writes to these slots count for nothing there,
   and their writers are told to look again. So no write is lost or done twice, whatever maps the writers have.
3. The switch: the new shard owns its slots, and its own log begins at F + 1.
4. The source removes what is not its own any more, by one message of its log.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ergonaut.errors import Conflict, Unavailable
from ergonaut_vectors.domain.placing.choosing import Node, chosen_nodes
from ergonaut_vectors.domain.placing.shard_map import (
    Replica,
    ReplicaStage,
    ShardMap,
    ShardPlace,
    ShardStage,
    place_key,
)
from ergonaut_vectors.domain.placing.slots import SlotRange

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
    fences: Mapping[int, int] = field(default_factory=dict)
    """Positions of the fences in its log, by the shard that took the slots; without those whose rows it has removed."""
    drained: bool = False
    """Nobody has asked it for so long that nobody has an older map."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the map."""

    nodes: Mapping[str, Node]
    """Those that are there, or have been a short while ago."""
    log_ends: Mapping[int, int] = field(default_factory=dict)
    """The position of the last message of each shard's log; of a filling shard that of its source."""
    reports: Mapping[tuple[int, str], ReplicaReport] = field(default_factory=dict)
    """By shard and node."""

    def caught_up(self, shard: ShardPlace, node: str) -> bool:
        """Whether a replica has applied nearly all of its log."""
        report = self.reports.get((shard.number, node))
        return report is not None and report.position + LAG_MAX >= self.log_ends.get(shard.number, 0)


@dataclass(frozen=True, slots=True)
class ChangeMap:
    """Let this be the map, by compare-and-set of the epoch before."""

    after: ShardMap


@dataclass(frozen=True, slots=True)
class WriteFence:
    """Write into the log of a shard that these slots are another's from there on."""

    shard: int
    slots: SlotRange
    taken_by: int


@dataclass(frozen=True, slots=True)
class WriteForget:
    """Write into the log of a shard that it removes what is in these slots."""

    shard: int
    slots: SlotRange


Step = ChangeMap | WriteFence | WriteForget


def next_step(now: ShardMap, facts: Facts) -> Step | None:
    """What has to be done next; None where all is as it should be, or something has to be waited for."""
    for shard in now.shards:
        step = _split_step(now, shard, facts) if shard.stage is ShardStage.FILLING else None
        if step is None and shard.forgets is not None:
            step = _forget_step(now, shard, facts)
        if step is not None:
            return step
    copying = sum(len(shard.nodes(ReplicaStage.COPYING)) for shard in now.shards)
    for shard in now.shards:
        for after in _moves(now, shard, facts, copying):
            return ChangeMap(now.with_shards([after]))
    return None


def split_begun(now: ShardMap, number: int, facts: Facts) -> ShardMap:
    """The map in which a shard begins to be split. Raises Conflict where it is under way, Unavailable without a node."""
    source = now.shard(number)
    busy = source.forgets is not None or any(
        each.source == number for each in now.shards if each.stage is ShardStage.FILLING
    )
    if busy or source.stage is not ShardStage.OWNING:
        raise Conflict(f"shard {number} of {now.collection} is being split already")
    new = max(each.number for each in now.shards) + 1
    nodes = chosen_nodes(place_key(now.collection, new), facts.nodes.values(), now.replicas_wanted)
    if not nodes:
        raise Unavailable(f"there is no node that could take a part of shard {number} of {now.collection}")
    replicas = tuple(Replica(node, ReplicaStage.COPYING) for node in sorted(nodes))
    _, upper = source.slots.halves
    return now.with_shards([ShardPlace(new, upper, replicas, ShardStage.FILLING, source=number)])


def _split_step(now: ShardMap, shard: ShardPlace, facts: Facts) -> Step | None:
    assert shard.source is not None, "a shard is filled from another"
    source = now.shard(shard.source)
    told = [report for (number, _), report in facts.reports.items() if number == source.number]
    fence = max((each.fences.get(shard.number, 0) for each in told), default=0)
    there = [each.node for each in shard.replicas if each.node in facts.nodes]
    if not fence:
        caught_up = [node for node in there if facts.caught_up(shard, node)]
        enough = bool(caught_up) and len(caught_up) == len(there)
        return WriteFence(source.number, shard.slots, shard.number) if enough else None
    # All up to the fence is in the source's log; a replica that is not there yet still follows that, and answers when it is.
    filled = [node for node in there if facts.reports.get((shard.number, node), ReplicaReport(0)).position >= fence]
    if not filled:
        return None
    replicas = tuple(
        replace(each, stage=ReplicaStage.READY if each.node in filled else each.stage) for each in shard.replicas
    )
    owner = replace(shard, stage=ShardStage.OWNING, replicas=replicas, log_first=fence + 1)
    lower = SlotRange(source.slots.first, shard.slots.first)
    return ChangeMap(now.with_shards([owner, replace(source, slots=lower, forgets=shard.slots)]))


def _forget_step(now: ShardMap, shard: ShardPlace, facts: Facts) -> Step | None:
    """Remove what went to another once every node that is there has a map that says so."""
    assert shard.forgets is not None, "asked only then"
    there = [node for node in shard.nodes() if node in facts.nodes]
    known = [facts.reports[shard.number, node] for node in there if (shard.number, node) in facts.reports]
    if not known or len(known) < len(there) or any(each.epoch < now.epoch for each in known):
        return None
    # A fence is told no more when the message that forgets has been applied.
    if all(facts.caught_up(shard, node) for node in there) and not any(each.fences for each in known):
        return ChangeMap(now.with_shards([replace(shard, forgets=None)]))
    return WriteForget(shard.number, shard.forgets)


def _moves(now: ShardMap, shard: ShardPlace, facts: Facts, copying: int) -> Iterator[ShardPlace]:
    """The changes of one shard that are due, the most urgent first."""
    wanted = chosen_nodes(place_key(now.collection, shard.number), facts.nodes.values(), now.replicas_wanted)
    ready = shard.nodes(ReplicaStage.READY)
    alive = [node for node in ready if node in facts.nodes]
    for node in shard.nodes(ReplicaStage.COPYING):
        if shard.stage is ShardStage.OWNING and facts.caught_up(shard, node) and node in facts.nodes:
            yield shard.at(node, ReplicaStage.READY)
        elif node not in wanted and shard.stage is ShardStage.OWNING:
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
