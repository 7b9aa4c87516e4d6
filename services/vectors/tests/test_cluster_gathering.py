"""Shards asked at once: another replica where one is late or fails, and parts of an answer only where they are allowed."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from ergonaut.announcements import SILENT_SECONDS
from ergonaut.errors import Conflict, ErgonautError, Refused, Unavailable
from ergonaut_common.clock import FakeClock
from ergonaut_vectors.cluster.announced import ANNOUNCEMENTS, GONE_SECONDS, NodeAnnounced
from ergonaut_vectors.cluster.fakes import FakeAnnouncements, FakeLinks
from ergonaut_vectors.cluster.gathering import Gathered, Gathering
from ergonaut_vectors.cluster.nodes import Announcing, Nodes, telling
from ergonaut_vectors.cluster.ports import NodeLink
from ergonaut_vectors.domain.placing.health import Health, Rule
from ergonaut_vectors.domain.placing.shard_map import Replica, ReplicaStage, ShardPlace
from ergonaut_vectors.domain.placing.slots import SlotRange

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATE_SECONDS = Rule().late_seconds_default

Behaviour = Callable[[], Awaitable[str]]


class World:
    """Nodes that each behave as they are told, all holding shard 0 and shard 1."""

    def __init__(self, *names: str) -> None:
        self.clock = FakeClock()
        self.links = FakeLinks()
        self.nodes = Nodes(self.links, self.clock)
        self.gathering = Gathering(self.nodes, self.clock)
        self.names = names
        self.behaviours: dict[tuple[str, int], Behaviour] = {}
        self.asked: list[tuple[str, int]] = []
        self.hear()

    def hear(self, *names: str) -> None:
        for name in names or self.names:
            self.nodes.hear(telling(name, f"{name}:1")(self.clock.now()))

    def shards(self, count: int = 1) -> list[ShardPlace]:
        return [ShardPlace(at, SlotRange(), tuple(Replica(name) for name in self.names)) for at in range(count)]

    async def gather(self, count: int = 1, *, partial: bool = False) -> Gathered[str]:
        return await self.gathering.gather(self.shards(count), self._ask, within_seconds=2.0, partial=partial)

    async def _ask(self, link: NodeLink, shard: int) -> str:
        name = link._address.partition(":")[0]  # type: ignore[attr-defined]
        self.asked.append((name, shard))
        behaviour = self.behaviours.get((name, shard))
        return await behaviour() if behaviour else f"{name} of {shard}"


def fails(error: ErgonautError) -> Behaviour:
    async def behave() -> str:
        raise error

    return behave


async def never() -> str:
    await asyncio.Event().wait()
    return "never"


async def test_each_shard_is_asked_once_where_all_is_well() -> None:
    world = World("a", "b")
    gathered = await world.gather(2)
    assert set(gathered.answers) == {0, 1}
    assert not gathered.missing
    assert len(world.asked) == 2


async def test_another_replica_is_asked_where_one_fails() -> None:
    world = World("a", "b")
    world.behaviours["a", 0] = fails(Unavailable("away"))
    assert (await world.gather()).answers == {0: "b of 0"}
    assert world.asked == [("a", 0), ("b", 0)]


async def test_another_replica_is_asked_beside_one_that_is_late_and_the_first_answer_counts() -> None:
    world = World("a", "b")
    world.behaviours["a", 0] = never
    answer = asyncio.create_task(world.gather())
    await world.clock.advance(LATE_SECONDS / 2)
    assert world.asked == [("a", 0)]
    await world.clock.advance(LATE_SECONDS)
    assert (await answer).answers == {0: "b of 0"}


async def alone_though_late(world: World, places: list[ShardPlace], *, hedged: bool = True) -> None:
    """Node a never answers, and no other is asked until the time is over."""
    world.behaviours["a", 0] = never
    answer = asyncio.create_task(world.gathering.gather(places, world._ask, within_seconds=2.0, hedged=hedged))
    await world.clock.advance(1.0)
    assert world.asked == [("a", 0)]
    await world.clock.advance(2.0)
    with pytest.raises(Unavailable):
        await answer


async def test_one_that_drains_is_asked_where_the_ready_one_fails_and_not_where_it_is_late() -> None:
    world = World("a", "b")
    place = ShardPlace(0, SlotRange(), (Replica("a"), Replica("b", ReplicaStage.DRAINING)))
    await alone_though_late(world, [place])
    world.behaviours["a", 0] = fails(Unavailable("away"))
    assert (await world.gathering.gather([place], world._ask, within_seconds=2.0)).answers == {0: "b of 0"}


async def test_what_must_not_be_done_twice_is_not_asked_of_another_because_it_is_late() -> None:
    world = World("a", "b")
    await alone_though_late(world, world.shards(), hedged=False)
    world.behaviours["a", 0] = fails(Unavailable("away"))
    gathered = await world.gathering.gather(world.shards(), world._ask, within_seconds=2.0, hedged=False)
    assert gathered.answers == {0: "b of 0"}


async def test_few_are_asked_twice_where_all_are_slow() -> None:
    world = World("a", "b")
    world.behaviours |= {("a", 0): never, ("b", 0): never}
    for _ in range(60):
        answer = asyncio.create_task(world.gather())
        await world.clock.advance(3.0)
        with pytest.raises(Unavailable, match="within 2 s"):
            await answer
    assert 60 < len(world.asked) <= 60 + 16 + 10


async def test_a_partial_answer_names_the_missing_shards_and_comes_only_where_it_is_allowed() -> None:
    world = World("a")
    world.behaviours["a", 1] = fails(Unavailable("shard 1 is away"))
    with pytest.raises(Unavailable, match="shard 1 is away"):
        await world.gather(2)
    gathered = await world.gather(2, partial=True)
    assert gathered.answers == {0: "a of 0"}
    assert list(gathered.missing) == [1]


async def test_a_partial_answer_comes_when_the_time_is_over() -> None:
    world = World("a")
    world.behaviours["a", 1] = never
    answer = asyncio.create_task(world.gather(2, partial=True))
    await world.clock.advance(2.5)
    gathered = await answer
    assert (list(gathered.answers), list(gathered.missing)) == ([0], [1])


async def test_nothing_at_all_is_no_partial_answer() -> None:
    world = World("a")
    world.behaviours["a", 0] = fails(Unavailable("away"))
    with pytest.raises(Unavailable, match="away"):
        await world.gather(partial=True)


@pytest.mark.parametrize("error", [Refused("wrong", field="limit"), Conflict("the map is older")])
async def test_what_is_wrong_with_the_request_is_told_at_once_and_no_other_is_asked(error: ErgonautError) -> None:
    world = World("a", "b")
    world.behaviours |= {("a", 0): fails(error), ("a", 1): never, ("b", 1): never}
    with pytest.raises(type(error)):
        await world.gather(2, partial=True)
    assert ("b", 0) not in world.asked


async def test_a_node_that_failed_often_is_asked_last_and_tried_again_after_a_while() -> None:
    world = World("a", "b")
    world.behaviours["a", 0] = fails(Unavailable("away"))
    for _ in range(3):
        await world.gather()
    world.asked.clear()
    await world.gather()
    assert world.asked == [("b", 0)]
    world.behaviours.clear()
    await world.clock.advance(1.0)
    world.hear()
    await world.gather()
    assert world.asked[-1] == ("a", 0)


async def test_a_silent_node_is_asked_last_and_a_lost_one_not_at_all() -> None:
    world = World("a", "b")
    await world.clock.advance(SILENT_SECONDS + 1)
    world.hear("b")
    await world.gather()
    assert world.asked == [("b", 0)]
    await world.clock.advance(GONE_SECONDS)
    world.nodes.sweep()
    assert set(world.nodes.placeable()) == {"a", "b"}, "while nobody is heard it is NATS that is silent"
    world.hear("b")
    world.nodes.sweep()
    assert set(world.nodes.placeable()) == {"b"}


async def test_a_shard_that_nobody_holds_is_away() -> None:
    world = World("a")
    gathering = world.gathering.gather([ShardPlace(7, SlotRange(), ())], world._ask, within_seconds=1.0)
    with pytest.raises(Unavailable, match="shard 7"):
        await gathering


async def test_a_replica_that_copies_is_not_asked() -> None:
    world = World("a", "b")
    place = ShardPlace(0, SlotRange(), (Replica("a", ReplicaStage.COPYING), Replica("b", ReplicaStage.DRAINING)))
    gathered = await world.gathering.gather([place], world._ask, within_seconds=1.0)
    assert gathered.answers == {0: "b of 0"}


async def test_nodes_find_each_other_by_what_they_tell_and_one_that_drains_holds_nothing_new() -> None:
    world, announcements = World("a"), FakeAnnouncements()
    announcing = Announcing(announcements, world.nodes, telling("c", "c:1", zone="z"), world.clock)
    async with announcements.heard(world.nodes.hear):
        await announcing.tell()
        assert world.nodes.placeable()["c"].zone == "z"
        await announcing.tell(draining=True)
        assert world.nodes.placeable()["c"].weight == 0
        announcements.away = True
        await announcing.tell()


def test_only_words_signed_with_the_key_and_lately_are_believed() -> None:
    told: NodeAnnounced = telling("a", "a:1")(NOW)
    sealed, unsealed = ANNOUNCEMENTS.sealed, ANNOUNCEMENTS.unsealed
    assert unsealed(sealed(told, "key"), "key", NOW) == told
    for message, key, now in [
        (sealed(told, "other"), "key", NOW),
        (sealed(told, ""), "", NOW),
        (sealed(told, "key")[:-1] + b"!", "key", NOW),
        (sealed(told, "key"), "key", NOW.replace(hour=1)),
    ]:
        with pytest.raises(Refused):
            unsealed(message, key, now)


def test_what_earlier_versions_told_is_read() -> None:
    body = b'{"protocol":1,"name":"a","process":"p","address":"a:1","zone":"","weight":1.0,"told_at":"2026-03-01T00:00:00Z"}'
    signature = hmac.digest(b"key", b"ergonaut vectors node\n" + body, "sha256")
    told_at = datetime(2026, 3, 1, tzinfo=UTC)
    assert ANNOUNCEMENTS.unsealed(signature + body, "key", told_at) == NodeAnnounced(
        name="a", process="p", address="a:1", told_at=told_at
    )


def test_an_answer_is_late_when_most_have_come() -> None:
    health = Health()
    for at in range(100):
        health.begun(0.0)
        health.answered(0.001 if at < 90 else 0.2)
    assert health.late_seconds() == 0.2
    assert health.outstanding == 0
