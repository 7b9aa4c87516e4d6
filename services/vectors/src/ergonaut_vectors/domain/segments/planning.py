"""Decides which work is due on a shard's segments, from what they are like. Used by the shard's writer, after each message."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from ergonaut_vectors.domain.indexes.choosing import ROWS_COMPARED, SAMPLE_ROWS, Wish, chosen
from ergonaut_vectors.domain.indexes.port import Kind, Plan
from ergonaut_vectors.domain.schema import CANDIDATES_BUILD_DEFAULT, LINKS_DEFAULT
from ergonaut_vectors.domain.segments.segment import Segment
from ergonaut_vectors.domain.segments.view import Part, View
from ergonaut_vectors.domain.segments.work import Policy
from ergonaut_vectors.domain.space import Rows, Space

SMALL_PART = 2
"""Where little memory is wished for, an index may take this part of what its rows take, and these stay on disk."""


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
        if _outworn(policy, view.space, part):
            return [part]
    tiers = Counter(_tier(policy, part.count) for part in segments)
    crowded = [tier for tier, times in tiers.items() if times >= policy.merged_together]
    if not crowded:
        return ()
    # Those that are smaller go with them, and all that came while another merge was under way: each row is moved less often.
    return _fitting(policy, [part for part in segments if _tier(policy, part.count) <= min(crowded)])


def parts_to_tidy(policy: Policy, view: View) -> Sequence[Part]:
    """The segments that are to become one while nobody writes, or one that is to get its index; none where it would not pay.

    The largest for which all smaller ones together are worth the building, an eighth of it or more, is merged with all of these.
    """
    segments = [part for part in view.parts if isinstance(part.store, Segment)]
    segments.sort(key=lambda part: part.count)
    below = list(accumulate(part.count for part in segments))
    for at in range(len(segments) - 1, 0, -1):
        if segments[at].count <= policy.tidied_ratio_max * below[at - 1] and below[at] <= policy.segment_rows_max:
            return segments[: at + 1]
    return [part for part in segments if isinstance(part.store, Segment) and part.store.is_makeshift][:1]


def plan_for(policy: Policy, space: Space, rows: int, sample: Rows | None = None) -> Plan:
    """Which index a segment of so many rows is to have; some of them tell how hard they are."""
    kind = policy.wish.kind
    if kind is None and policy.graph_rows_min:
        kind = Kind.GRAPH if rows >= policy.graph_rows_min else Kind.FLAT
    extra_bytes_max = space.row_bytes / SMALL_PART if policy.wish.small else math.inf
    wish = Wish(policy.wish.recall, extra_bytes_max, kind=kind)
    plan = chosen(space, rows, wish, sample, policy.build_threads)
    if plan.kind is Kind.GRAPH:
        own = {"links": policy.links} if policy.links != LINKS_DEFAULT else {}
        if policy.candidates_build != CANDIDATES_BUILD_DEFAULT:
            own["candidates_build"] = policy.candidates_build
        return replace(plan, parameters={**plan.parameters, **own})
    return plan


def sample_of(parts: Sequence[Part]) -> Rows | None:
    """Some rows of the largest of these, from all over it; not copied."""
    largest = max(parts, key=lambda part: part.count, default=None)
    return None if largest is None else largest.store.rows[:: 1 + largest.store.count // SAMPLE_ROWS]


def part_to_check(policy: Policy, view: View) -> Part | None:
    """A segment of whose index is not known how well it finds what is near, as it is now and for what is wished."""
    for part in view.parts:
        if not isinstance(part.store, Segment) or part.store.index.kind is Kind.FLAT or not part.count:
            continue
        seen = part.tuned
        if seen is None or seen.wanted != policy.wish.recall or part.count < policy.checked_fraction_min * seen.count:
            return part
    return None


def _outworn(policy: Policy, space: Space, part: Part) -> bool:
    """Whether a segment is to be built anew: too many rows have died, or it has not the index that it should have."""
    assert isinstance(part.store, Segment), "heads are sealed"
    dead = part.store.count - part.count
    if dead > policy.dead_fraction_max * part.store.count:
        return True
    if part.count and _planned_otherwise(plan_for(policy, space, part.count), part.store):
        return True
    seen = part.tuned
    return dead > 0 and seen is not None and seen.recall < seen.wanted - policy.recall_slack


def _planned_otherwise(plan: Plan, store: Segment) -> bool:
    """Whether this is not what a segment has or is to get."""
    if plan.kind is not store.planned:
        return True
    told = [each.get(ROWS_COMPARED, True) for each in (plan.parameters, store.index.parameters)]
    return store.index.kind is Kind.GRAPH and told[0] != told[1]


def _tier(policy: Policy, rows: int) -> int:
    """Segments of one tier are of about one size; those no larger than a head are all in the first."""
    return max(0, math.floor(math.log(max(rows, 1) / policy.head_rows_max, policy.merged_together) + 0.5))


def _fitting(policy: Policy, parts: Sequence[Part]) -> Sequence[Part]:
    """Of these, the smallest that one segment may hold; none where that is not even two."""
    chosen: list[Part] = []
    rows = 0
    for part in sorted(parts, key=lambda part: part.count):
        rows += part.count
        if rows > policy.segment_rows_max:
            break
        chosen.append(part)
    return chosen if len(chosen) > 1 else ()
