"""Collections whose shards are on several nodes: which map counts, and one answer made of those of all shards. The door calls."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from google.protobuf.message import Message

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import Conflict, Refused, Unavailable
from ergonaut.ids import new_id
from ergonaut_common.observe import get_logger
from ergonaut_vectors.cluster import joining
from ergonaut_vectors.cluster.gathering import Gathering
from ergonaut_vectors.cluster.joining import Told
from ergonaut_vectors.cluster.ports import Asking, KeptMap, NodeLink, ShardMaps
from ergonaut_vectors.cluster.splitting import Write, by_shard
from ergonaut_vectors.domain.placing.shard_map import ShardMap
from ergonaut_vectors.domain.records import Record

TRIES_MAX = 4
"""Looks at a map in one request: it changes seldom, and twice during a request hardly ever."""

LOOK_AGAIN_SECONDS = 0.05
"""Pause before a map is looked at again that is not as a node says."""

SPLIT_SEEN_SECONDS = 1.0
"""How long a shard is waited for that a caller knows of and the map does not: one that was split off has been written to."""

WITHIN_SECONDS = 9.0
"""For all shards; below the 10 s that services give a call."""

T = TypeVar("T")

log = get_logger(__name__)

Join = Callable[[Any, Told], Any]
JOINED: Mapping[str, tuple[type[Any], Join]] = {
    "Search": (pb.SearchResponse, joining.searched),
    "GetPoints": (pb.GetPointsResponse, joining.got),
    "ListPoints": (pb.ListPointsResponse, joining.listed),
    "GetCount": (pb.GetCountResponse, joining.counted),
    "DescribeCollection": (pb.DescribeCollectionResponse, joining.described),
}
"""What all shards are asked at once, and one answer made of; all else goes step by step, see `Shards`."""

WRITTEN: Mapping[str, type[Any]] = {
    "Upsert": pb.UpsertResponse,
    "UpdatePayloads": pb.UpdatePayloadsResponse,
    "Delete": pb.DeleteResponse,
}


class Spread:
    """The maps as this node knows them, and what is asked by them."""

    def __init__(self, node: str, maps: ShardMaps, gathering: Gathering) -> None:
        self.node = node
        self._maps = maps
        self._gathering = gathering
        self._known: dict[str, KeptMap] = {}

    def __iter__(self) -> Any:
        return iter(list(self._known.values()))

    async def follow(self, when_changed: Callable[[ShardMap], None]) -> None:
        """Take note of every change, for ever."""
        async with aclosing(self._maps.changes()) as changes:  # type: ignore[type-var]
            async for kept in changes:
                self.note(kept)
                when_changed(kept.map)

    def known(self, collection: str) -> ShardMap | None:
        """The map of a collection as far as is known here."""
        kept = self._known.get(collection)
        return kept.map if kept else None

    def holds(self, record: Record, shard: int) -> bool:
        """Whether a shard is on this node as far as is known here; where there is no map it is."""
        now = self.known(record.uid)
        return now is None or shard in now.held_by(self.node)

    def forget(self, collection: str) -> None:
        """A collection is no more."""
        self._known.pop(collection, None)

    async def newest(self, collection: str) -> ShardMap | None:
        """The map of a collection as it is kept."""
        kept = await self._maps.find(collection)
        if kept is None:
            self._known.pop(collection, None)
            return None
        self.note(kept)
        return kept.map

    async def map_of(self, collection: str) -> ShardMap | None:
        """The map that is known, or the one that is kept; None where the collection is this node's alone."""
        return self.known(collection) or await self.newest(collection)

    async def read(self, method: str, tenant: str, now: ShardMap, request: Any) -> Any:
        """The answer to a question that one step answers."""
        response, join = JOINED[method]

        async def ask(shards: "Shards") -> Any:
            answers = await shards.all(method, request, response)
            return join(request, Told(answers, sorted(shards.missing), shards.map))

        return await self.in_steps(tenant, now, ask, partial=_partial(request))

    async def in_steps(
        self, tenant: str, now: ShardMap, work: "Callable[[Shards], Awaitable[T]]", *, partial: bool = False
    ) -> T:
        """What work gives that asks the shards as often as it needs; it begins again where the map has changed meanwhile."""
        return await self._tried(now, lambda at: work(Shards(self._gathering, tenant, at, partial=partial)))

    async def reaching(self, now: ShardMap, positions: Iterable[int]) -> ShardMap:
        """The map with all shards that a caller names positions of, where it comes soon."""
        give_up_at = asyncio.get_running_loop().time() + SPLIT_SEEN_SECONDS
        last = max(positions, default=0)
        while last >= len(now.shards) and asyncio.get_running_loop().time() < give_up_at:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            now = await self.newest(now.collection) or now
        return now

    async def split(self, tenant: str, now: ShardMap, request: pb.SplitShardRequest, nodes: Container[str]) -> int:
        """Have a shard split by the node of these that brings its states to the shelf; gives the new one's number."""
        if not 0 <= request.shard < len(now.shards):
            raise Refused(f"is {request.shard}; the collection has shards 0 to {len(now.shards) - 1}", field="shard")
        by = now.kept_by(request.shard, nodes)
        shards = Shards(self._gathering, tenant, now.only_at(request.shard, by), hedged=False)
        answers = await shards.each("SplitShard", {request.shard: request}, pb.SplitShardResponse)
        return int(answers[request.shard].shard)

    async def write(self, method: str, tenant: str, now: ShardMap, request: Write) -> Any:
        """The answer to a write, each part of which its shard has. What is tried again is written once, by its name."""
        if isinstance(request, pb.UpsertRequest) and not request.batch_id:
            request.batch_id = new_id("batch")
        return await self._tried(now, lambda at: self._written(method, tenant, at, request))

    def note(self, kept: KeptMap) -> None:
        """There is this map; an older one changes nothing."""
        known = self._known.get(kept.map.collection)
        if known is None or known.revision < kept.revision:
            self._known[kept.map.collection] = kept

    async def _tried(self, now: ShardMap, ask: Callable[[ShardMap], Awaitable[T]]) -> T:
        tries, give_up_at = 0, asyncio.get_running_loop().time() + WITHIN_SECONDS
        while tries < TRIES_MAX and asyncio.get_running_loop().time() < give_up_at:
            try:
                return await ask(now)
            except Conflict as error:
                log.info("map looked at again", collection=now.collection, epoch=now.epoch, error=str(error))
                newest = await self.newest(now.collection)
                if newest is None:
                    told = f"collection {now.name} was dropped, or is another one now; try again"
                    raise Unavailable(told) from error
                if newest.epoch == now.epoch:
                    # The node is ahead of what is kept for an instant, or until another ends the split of one that died.
                    await asyncio.sleep(LOOK_AGAIN_SECONDS)
                else:
                    tries += 1
                now = newest
        raise Unavailable(f"the shards of {now.name} move all the time; try again later")

    async def _written(self, method: str, tenant: str, now: ShardMap, request: Write) -> Any:
        # What names no id belongs to no shard; any will say what is wrong with it.
        parts = by_shard(request, now) or {now.owning[0].number: request}
        # A second copy of what has no name could undo what is written between the two.
        shards = Shards(self._gathering, tenant, now, hedged=method == "Upsert")
        answers = await shards.each(method, parts, WRITTEN[method])
        positions = joining.written(answers)
        told: dict[str, Any] = {"sequence": max(positions.values(), default=0), "sequences": positions}
        if method == "Delete":
            told["count"] = sum(each.count for each in answers.values())
        return WRITTEN[method](**told)


class Shards:
    """The shards of a collection as one request sees them, by one map and within one time."""

    def __init__(
        self, gathering: Gathering, tenant: str, now: ShardMap, *, partial: bool = False, hedged: bool = True
    ) -> None:
        self.map = now
        self.missing: set[int] = set()
        """Those that did not answer in some step, where a partial answer is allowed."""
        self._gathering = gathering
        self._tenant = tenant
        self._partial = partial
        self._hedged = hedged
        self._until_seconds = asyncio.get_running_loop().time() + WITHIN_SECONDS

    async def all(self, method: str, request: Message, response: type[Any]) -> dict[int, Any]:
        """What every shard answers to one question, by shard in their order."""
        return await self.each(method, {shard.number: request for shard in self.map.owning}, response)

    async def each(self, method: str, requests: Mapping[int, Message], response: type[Any]) -> dict[int, Any]:
        """What each of these shards answers to its own; those that did not answer an earlier step are not asked again."""
        # Of one question to all there is one copy.
        different = {id(request): request for request in requests.values()}
        contents = {each: request.SerializeToString() for each, request in different.items()}
        left_seconds = max(0.0, self._until_seconds - asyncio.get_running_loop().time())

        async def ask(link: NodeLink, shard: int) -> Any:
            now, content = self.map, contents[id(requests[shard])]
            asking = Asking(
                *(self._tenant, now.name, now.collection, now.epoch, (shard,), method, content, left_seconds),
                slots_after=now.shard(shard).slots.after,
            )
            return response.FromString(await link.ask(asking))

        places = [self.map.shard(number) for number in sorted(requests) if number not in self.missing]
        gathered = await self._gathering.gather(
            places, ask, within_seconds=left_seconds, partial=self._partial, hedged=self._hedged
        )
        self.missing |= set(gathered.missing)
        return dict(sorted(gathered.answers.items()))


def _partial(request: Any) -> bool:
    if hasattr(request, "options"):
        return bool(request.options.reading.partial)
    return False
