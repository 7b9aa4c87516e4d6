"""Answers of several shards made one."""

from hypothesis import given
from hypothesis import strategies as st

from ergonaut_vectors.domain.placing.choosing import Node
from ergonaut_vectors.domain.placing.merging import Nearby, nearest
from ergonaut_vectors.domain.placing.shard_map import first_map
from ergonaut_vectors.domain.placing.slots import equal_ranges

NOW = first_map("c", equal_ranges(3), 1, {"a": Node("a")})


def shards_of(hits: list[Nearby]) -> dict[int, list[list[Nearby]]]:
    places = NOW.by_shard([hit.id for hit in hits])
    found = {shard.number: [hits[at] for at in places.get(shard.number, [])] for shard in NOW.shards}
    return {shard: [sorted(mine, key=lambda hit: (hit.distance, hit.id))] for shard, mine in found.items()}


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.sampled_from([0.0, 1.0, 2.5, 9.0])), st.integers(1, 8))
def test_the_nearest_of_all_shards_are_those_of_one_that_has_everything(told: dict[str, float], limit: int) -> None:
    hits = [Nearby(name, far) for name, far in told.items()]
    expected = sorted(hits, key=lambda hit: (hit.distance, hit.id))[:limit]
    assert nearest(shards_of(hits), limit, NOW) == [expected]


def test_of_an_id_that_two_shards_have_the_owner_is_believed() -> None:
    [owner] = NOW.by_shard(["moved"])
    other = (owner + 1) % 3
    found = {owner: [[Nearby("moved", 4.0)]], other: [[Nearby("moved", 0.5), Nearby("stays", 1.0)]]}
    assert nearest(found, 5, NOW) == [[Nearby("stays", 1.0), Nearby("moved", 4.0)]]
    assert nearest({}, 5, NOW) == []
