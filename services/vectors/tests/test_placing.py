"""Where ids and replicas are, and that every way from one placing to another keeps all in reach."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.errors import Broken, NotFound, Refused
from ergonaut_vectors.domain.placing.choosing import Node, chosen_nodes
from ergonaut_vectors.domain.placing.moving import Facts, ReplicaReport, next_step
from ergonaut_vectors.domain.placing.shard_map import Replica, ReplicaStage, ShardMap, ShardPlace, first_map
from ergonaut_vectors.domain.placing.slots import SLOTS, SlotRange, equal_ranges, slots_of

STEPS_MAX = 200
NODES = {name: Node(name, zone=zone) for name, zone in [("a", "x"), ("b", "x"), ("c", "y"), ("d", "z")]}
NAMES = [f"point-{at}" for at in range(5000)]


def settled(now: ShardMap, nodes: Mapping[str, Node]) -> ShardMap:
    """The map once nothing is left to do, where every node does at once what it should."""
    for _ in range(STEPS_MAX):
        reports = {
            (shard.number, node): ReplicaReport(10, now.epoch, drained=True) for shard in now.shards for node in nodes
        }
        step = next_step(now, Facts(nodes, {shard.number: 10 for shard in now.shards}, reports))
        if step is None:
            return now
        check_in_reach(now, step, nodes)
        now = step
    raise AssertionError("it does not settle")


def check_in_reach(before: ShardMap, after: ShardMap, nodes: Mapping[str, Node]) -> None:
    for shard in after.owning:
        was = [node for node in before.shard(shard.number).nodes(ReplicaStage.READY) if node in nodes]
        still = [node for node in shard.nodes(ReplicaStage.READY) if node in nodes]
        assert len(still) >= min(len(was), after.replicas_wanted)


def test_ids_are_spread_evenly_over_the_slots_and_always_the_same_way() -> None:
    slots = slots_of(NAMES)
    assert slots.tolist() == slots_of(NAMES).tolist()
    eighths = np.bincount(slots * 8 // SLOTS, minlength=8)
    assert eighths.min() > 0.85 * len(NAMES) / 8


@given(st.integers(1, SLOTS))
def test_equal_ranges_are_every_slot_once(shards: int) -> None:
    ranges = equal_ranges(shards)
    assert [each.first for each in ranges] == [0, *(each.after for each in ranges[:-1])]
    assert ranges[-1].after == SLOTS
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_a_shard_of_one_slot_cannot_be_split() -> None:
    with pytest.raises(Refused):
        _ = SlotRange(3, 4).halves


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_a_node_that_comes_takes_from_the_others_and_moves_nothing_between_them(seed: int, count: int) -> None:
    nodes = [Node(f"node-{at}") for at in range(count)]
    key = f"collection/{seed}"
    before, after = chosen_nodes(key, nodes[:-1], 1), chosen_nodes(key, nodes, 1)
    assert after == before or after == [nodes[-1].name]


def test_shares_follow_the_weights_and_a_node_of_weight_nothing_gets_none() -> None:
    nodes = [Node("small"), Node("large", weight=3.0), Node("leaving", weight=0.0)]
    chosen = [chosen_nodes(f"c/{at}", nodes, 1)[0] for at in range(2000)]
    assert 0.70 < chosen.count("large") / len(chosen) < 0.80
    assert "leaving" not in chosen


def test_replicas_stand_in_different_zones_while_there_are_enough() -> None:
    for at in range(50):
        two = chosen_nodes(f"c/{at}", NODES.values(), 2)
        assert len({NODES[name].zone for name in two}) == 2
        assert set(chosen_nodes(f"c/{at}", NODES.values(), 4)) == set(NODES)


def test_every_id_belongs_to_the_shard_that_owns_its_slot() -> None:
    now = first_map("c", equal_ranges(5), 1, NODES)
    slots, places = slots_of(NAMES), now.by_shard(NAMES)
    assert sorted(np.concatenate(list(places.values())).tolist()) == list(range(len(NAMES)))
    for number, chosen in places.items():
        assert now.shard(number).slots.mask(slots[chosen]).all()
    assert now.by_shard([]) == {}
    with pytest.raises(NotFound):
        now.shard(9)


def test_a_map_that_leaves_slots_to_nobody_is_never_made() -> None:
    now = first_map("c", equal_ranges(2), 1, NODES)
    with pytest.raises(Broken, match="not every slot"):
        now.with_shards([replace(now.shard(1), slots=SlotRange(600, SLOTS))])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sets(st.sampled_from(sorted(NODES)), min_size=1), min_size=1, max_size=5), st.integers(1, 3))
def test_whoever_comes_and_goes_all_stays_in_reach_and_ends_where_it_should(
    worlds: list[set[str]], replicas: int
) -> None:
    now = first_map("c", equal_ranges(3), replicas, NODES)
    for names in worlds:
        nodes = {name: NODES[name] for name in names}
        now = settled(now, nodes)
        for shard in now.shards:
            wanted = chosen_nodes(f"c/{shard.number}", nodes.values(), replicas)
            # Of a shard all of whose nodes went nothing is removed: they may come back, and nobody else has it.
            if set(shard.nodes()) & set(wanted):
                assert set(wanted) <= set(shard.nodes(ReplicaStage.READY))


def test_a_replica_is_ready_only_when_it_has_caught_up() -> None:
    place = ShardPlace(0, SlotRange(), (Replica("a"), Replica("b", ReplicaStage.COPYING)))
    now = ShardMap("c", 1, 2, (place,))
    nodes = {name: NODES[name] for name in ("a", "b")}
    behind = {(0, "a"): ReplicaReport(1000), (0, "b"): ReplicaReport(500)}
    assert next_step(now, Facts(nodes, {0: 1000}, behind)) is None
    step = next_step(now, Facts(nodes, {0: 1000}, behind | {(0, "b"): ReplicaReport(990)}))
    assert step is not None
    assert step.shard(0).nodes(ReplicaStage.READY) == ["a", "b"]
