"""Decides which work is due on a shard's segments, from what they are like. Used by the shard's writer, after each message."""

import math
from collections.abc import Sequence

from ergonaut_vectors.domain.indexes.port import Kind, Plan
from ergonaut_vectors.domain.segments.segment import Segment
from ergonaut_vectors.domain.segments.view import Part, View
from ergonaut_vectors.domain.segments.work import Policy
from ergonaut_vectors.domain.space import Space


def seal_due(policy: Policy, view: View, durable: View) -> bool:
    """Whether the head has enough rows, or a restart would have too much of the log to replay."""
    if view.position - durable.position >= policy.replay_max:
        return True
    if not view.parts or isinstance(view.parts[-1].store, Segment):
        return False
    rows = view.parts[-1].store.count
    return rows >= policy.head_rows_max or rows * view.space.row_bytes >= policy.head_bytes_max


def parts_to_merge(policy: Policy, view: View) -> Sequence[Part]:
    """The segments that are to become one; none where all is well."""
    segments = [part for part in view.parts if isinstance(part.store, Segment)]
    for part in segments:
        if part.store.count - part.count > policy.dead_fraction_max * part.store.count:
            return [part]
    tiers: dict[int, list[Part]] = {}
    for part in segments:
        mates = tiers.setdefault(_tier(policy, part.count), [])
        mates.append(part)
        if len(mates) == policy.merged_together and sum(mate.count for mate in mates) <= policy.segment_rows_max:
            return mates
    return []


def plan_for(*_: Policy | Space | int) -> Plan:
    """Which index a segment of so many rows is to have."""
    return Plan(Kind.FLAT)


def _tier(policy: Policy, rows: int) -> int:
    """Segments of one tier are of about one size; those no larger than a head are all in the first."""
    return max(0, math.floor(math.log(max(rows, 1) / policy.head_rows_max, policy.merged_together) + 0.5))
