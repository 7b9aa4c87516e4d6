"""Whose turn it is to be split among the shards of a collection that nodes share: its map says so. Fills `splitting.Turns`.

A turn is one change of the map by compare-and-set, before the first fence, and its end another one, after the last. A node that
dies in between leaves the turn in the map, and whichever keeps the shard's states then goes on with it.
"""

from ergonaut.errors import Conflict, Refused, Unavailable
from ergonaut_vectors.cluster.keeping import Keeping
from ergonaut_vectors.cluster.ports import KeptMap, ShardMaps
from ergonaut_vectors.cluster.spread import Spread
from ergonaut_vectors.domain.fences import Fence
from ergonaut_vectors.domain.placing.shard_map import ShardMap
from ergonaut_vectors.domain.placing.slots import SlotRange
from ergonaut_vectors.domain.records import Record

TRIES_MAX = 16
"""Changes of a map that somebody else was quicker with, a step of the keeper each time, before the next look for what is due."""


class MapTurns:
    """Turns by the maps."""

    def __init__(self, maps: ShardMaps, spread: Spread, keeping: Keeping) -> None:
        self._maps = maps
        self._spread = spread
        self._keeping = keeping

    async def begin(self, record: Record, number: int) -> tuple[SlotRange, int]:
        for _ in range(TRIES_MAX):
            kept = await self._found(record)
            now = kept.map
            if now.splitting not in (None, number):
                told = f"shard {now.splitting} of collection {now.name} is being split, one at a time; try again later"
                raise Unavailable(told)
            if now.splitting == number or await self._changed(now.at_split(number), kept):
                return now.shard(number).slots.halves[1], len(now.shards)
        raise _too_often(record)

    async def end(self, record: Record, number: int, fence: Fence) -> None:
        for _ in range(TRIES_MAX):
            kept = await self._found(record)
            there = fence.taken_by < len(kept.map.shards)
            if there or await self._changed(kept.map.with_split(number, fence.slots, self._spread.node), kept):
                return
        raise _too_often(record)

    async def is_begun(self, record: Record, number: int) -> bool:
        now = self._spread.known(record.uid)
        if now is None or now.splitting != number:
            return False
        # What is known here may be a step behind.
        newest = await self._spread.newest(record.uid)
        return newest is not None and newest.splitting == number

    async def _found(self, record: Record) -> KeptMap:
        await self._keeping.add(record)
        kept = await self._maps.find(record.uid)
        if kept is None:
            raise Refused(f"of collection {record.key} is none any more", field="shard")
        return kept

    async def _changed(self, after: ShardMap, kept: KeptMap) -> bool:
        try:
            self._spread.note(await self._maps.change(after, kept.revision))
        except Conflict:
            return False
        return True


def _too_often(record: Record) -> Unavailable:
    return Unavailable(f"the map of collection {record.key} changed {TRIES_MAX} times meanwhile; try again later")
