"""The map of a collection: its shards, the slots that each owns, and the nodes that hold its replicas.

Kept as one record that is changed by compare-and-set (adapters/shard_maps.py); each change has an epoch of its own. Whoever
reads or writes by an older epoch than a node knows is told so, and looks again.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Broken, NotFound
from ergonaut_vectors.domain.placing.choosing import Node, chosen_nodes
from ergonaut_vectors.domain.placing.slots import SLOTS, SlotRange, slots_of


class ReplicaStage(StrEnum):
    """How far a replica has come."""

    COPYING = "copying"
    """It fetches what another has and follows the log; nobody asks it yet."""
    READY = "ready"
    """It answers."""
    DRAINING = "draining"
    """It answers whoever has an older map, and is removed once they have had time to look again."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A copy of a shard on a node."""

    node: str
    stage: ReplicaStage = ReplicaStage.READY


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """A shard, and where it is."""

    number: int
    slots: SlotRange
    replicas: tuple[Replica, ...]

    def nodes(self, *stages: ReplicaStage) -> list[str]:
        """The nodes whose replicas are at one of these stages; all without any."""
        return [each.node for each in self.replicas if not stages or each.stage in stages]

    def at(self, node: str, stage: ReplicaStage) -> "ShardPlace":
        """With the replica of a node at a stage, a new one where there was none."""
        others = tuple(each for each in self.replicas if each.node != node)
        return replace(self, replicas=tuple(sorted((*others, Replica(node, stage)), key=lambda each: each.node)))

    def without(self, node: str) -> "ShardPlace":
        """Without the replica of a node."""
        return replace(self, replicas=tuple(each for each in self.replicas if each.node != node))


@dataclass(frozen=True, slots=True)
class ShardMap:
    """A collection's shards."""

    collection: str
    """Its uid, so that a map never serves another collection of the same name."""
    epoch: int
    replicas_wanted: int
    shards: tuple[ShardPlace, ...]
    tenant: str = ""
    """Whose collection it is."""
    name: str = ""
    """Its name, by which nodes find its record."""
    splitting: int | None = None
    """The shard that is being split, of which there is one at a time, for the next number is the new one's."""

    @property
    def owning(self) -> list[ShardPlace]:
        """All, in the order of their slots."""
        return sorted(self.shards, key=lambda each: each.slots)

    def shard(self, number: int) -> ShardPlace:
        """A shard by number. Raises NotFound."""
        for each in self.shards:
            if each.number == number:
                return each
        raise NotFound(f"shard: collection {self.collection} has no shard {number}")

    def by_shard(self, names: Sequence[str]) -> dict[int, npt.NDArray[np.int64]]:
        """The places of these ids by the shard that owns each."""
        owning = self.owning
        if len(owning) == 1:
            return {owning[0].number: np.arange(len(names))} if names else {}
        bounds = np.array([each.slots.after for each in owning])
        owners = np.searchsorted(bounds, slots_of(names), side="right")
        return {owning[at].number: np.flatnonzero(owners == at) for at in np.unique(owners).tolist()}

    def held_by(self, node: str) -> list[int]:
        """The shards of which a node has a replica, at whatever stage."""
        return [shard.number for shard in self.shards if node in shard.nodes()]

    def answered_by(self, node: str) -> bool:
        """Whether a node answers for all shards."""
        return all(node in shard.nodes(ReplicaStage.READY) for shard in self.owning)

    def kept_by(self, number: int, there: Container[str]) -> str:
        """Which of the nodes that are there brings a shard's states to the shelf; none where no replica is ready there."""
        shards = [each for each in self.shards if each.number == number]
        ready = [node for shard in shards for node in shard.nodes(ReplicaStage.READY)]
        return next((node for node in ready if node in there), "")

    def with_shards(self, changed: Iterable[ShardPlace], gone: Iterable[int] = ()) -> "ShardMap":
        """The next map, in which these shards are so."""
        after = {each.number: each for each in self.shards} | {each.number: each for each in changed}
        left = [after[number] for number in sorted(after) if number not in set(gone)]
        return replace(self, epoch=self.epoch + 1, shards=tuple(left)).checked()

    def only_at(self, number: int, node: str) -> "ShardMap":
        """The same map with one replica of a shard, that of this node; with none where it has none there."""
        source = self.shard(number)
        replicas = tuple(each for each in source.replicas if each.node == node)
        others = tuple(each for each in self.shards if each is not source)
        return replace(self, shards=(*others, replace(source, replicas=replicas)))

    def at_split(self, number: int) -> "ShardMap":
        """The next map, by which a shard is being split."""
        return replace(self, epoch=self.epoch + 1, splitting=number)

    def with_split(self, number: int, slots: SlotRange, node: str) -> "ShardMap":
        """The next map, in which these slots of a shard are another's, which this node has made; others that had the one
        copy the other."""
        source = self.shard(number)
        kept = replace(source, slots=SlotRange(source.slots.first, slots.first))
        ready = {*source.nodes(ReplicaStage.READY), node}
        replicas = (
            Replica(each, ReplicaStage.READY if each == node else ReplicaStage.COPYING) for each in sorted(ready)
        )
        made = ShardPlace(len(self.shards), slots, tuple(replicas))
        return replace(self.with_shards([kept, made]), splitting=None)

    def checked(self) -> "ShardMap":
        """Itself, where its shards own every slot once. Raises Broken."""
        bounds = [(each.slots.first, each.slots.after) for each in self.owning]
        firsts, afters = [0, *(after for _, after in bounds)], [*(first for first, _ in bounds), SLOTS]
        if firsts != afters:
            raise Broken(f"the shards of {self.collection} own {bounds}, which is not every slot of {SLOTS} once")
        if len({each.number for each in self.shards}) != len(self.shards):
            raise Broken(f"two shards of {self.collection} have one number")
        return self


def first_map(collection: str, ranges: Sequence[SlotRange], replicas: int, nodes: Mapping[str, Node]) -> ShardMap:
    """The first map of a collection with shards of these slots, its replicas spread over these nodes."""
    places = []
    for number, slots in enumerate(ranges):
        chosen = chosen_nodes(place_key(collection, number), nodes.values(), replicas)
        places.append(ShardPlace(number, slots, tuple(Replica(node) for node in sorted(chosen))))
    return ShardMap(collection, 1, replicas, tuple(places)).checked()


def place_key(collection: str, number: int) -> str:
    """What a shard's nodes are chosen by."""
    return f"{collection}/{number}"
