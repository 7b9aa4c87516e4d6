"""Which nodes hold a shard: those with the highest score for it (rendezvous hashing), not two in one zone where that can be.

Of n nodes one that comes or goes moves an n-th of the shards and no others, and everybody who knows the nodes chooses alike.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Node:
    """A process that can hold replicas."""

    name: str
    weight: float = 1.0
    """How much it can hold, against others; 0 has it emptied."""
    zone: str = ""
    """What fails together, such as a rack or a building; unset is a zone of its own."""


def score(key: str, node: Node) -> float:
    """How much a node is wanted for a key: so that shares follow the weights (Schindelhauer and Schomaker 2005)."""
    if node.weight <= 0:
        return -math.inf
    digest = blake2b(f"{key}\0{node.name}".encode(), digest_size=8).digest()
    chance = (int.from_bytes(digest, "little") + 1) / (2**64 + 1)
    return -node.weight / math.log(chance) if chance < 1 else math.inf


def chosen_nodes(key: str, nodes: Iterable[Node], count: int) -> list[str]:
    """The nodes for a key, best first: as many as asked for, or as there are. Zones are doubled only where there are too few.

    >>> nodes = [Node("a", zone="x"), Node("b", zone="x"), Node("c", zone="y")]
    >>> "c" in chosen_nodes("c/0", nodes, 2), len(chosen_nodes("c/0", nodes, 5))
    (True, 3)
    """
    ranked = sorted((each for each in nodes if each.weight > 0), key=lambda node: (-score(key, node), node.name))
    apart: list[str] = []
    zones: set[str] = set()
    for node in ranked:
        zone = node.zone or f"\0{node.name}"
        if zone not in zones:
            zones.add(zone)
            apart.append(node.name)
    others = [node.name for node in ranked if node.name not in set(apart)]
    return (apart + others)[:count]
