"""Whether replicas of a shard hold the same: those that tell of one position must tell the same of it. Used by the keeper."""

from collections import Counter
from collections.abc import Mapping


def differing(told: Mapping[str, Mapping[int, str]]) -> set[str]:
    """The nodes whose replica is to be made anew, of digests by node and position.

    At the last position of which two or more tell, what most tell is right; where no more than half agree, nobody knows who is
    right, and all are made anew: the log has the truth, and one of them at a time reads it.

    >>> sorted(differing({"a": {7: "x"}, "b": {7: "x", 8: "y"}, "c": {7: "z"}}))
    ['c']
    >>> sorted(differing({"a": {7: "x"}, "b": {7: "y"}, "c": {9: "z"}}))
    ['a', 'b']
    """
    counts = Counter(position for digests in told.values() for position in digests)
    common = [position for position, nodes in counts.items() if nodes > 1]
    if not common:
        return set()
    position = max(common)
    at = {node: digests[position] for node, digests in told.items() if position in digests}
    [(digest, times)] = Counter(at.values()).most_common(1)
    if times == len(at):
        return set()
    return {node for node, each in at.items() if each != digest or 2 * times <= len(at)}
