"""Collections whose shards are on several nodes: which map counts, and one answer made of those of all shards. The door calls."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, NoReturn

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import Conflict, Refused, Unavailable
from ergonaut.ids import new_id
from ergonaut_common.observe import get_logger
from ergonaut_vectors.cluster import joining
from ergonaut_vectors.cluster.gathering import Gathering
from ergonaut_vectors.cluster.joining import Told
from ergonaut_vectors.cluster.ports import Asking, KeptMap, NodeLink, ShardMaps
from ergonaut_vectors.cluster.splitting import Write, by_shard
from ergonaut_vectors.domain.placing.shard_map import ShardMap, ShardPlace
from ergonaut_vectors.domain.records import Record

TRIES_MAX = 4
"""Looks at a map in one request: it changes seldom, and twice during a request hardly ever."""

WITHIN_SECONDS = 9.0
"""For all shards; below the 10 s that services give a call."""

VALUES_MAX = 1000

log = get_logger(__name__)

Join = Callable[[Any, Told], Any]
JOINED: Mapping[str, tuple[type[Any], Join]] = {
    "Search": (pb.SearchResponse, joining.searched),
    "SearchGroups": (pb.SearchGroupsResponse, joining.grouped),
    "GetPoints": (pb.GetPointsResponse, joining.got),
    "ListPoints": (pb.ListPointsResponse, joining.listed),
    "GetCount": (pb.GetCountResponse, joining.counted),
    "DescribeCollection": (pb.DescribeCollectionResponse, joining.described),
    "GetValueCounts": (pb.GetValueCountsResponse, joining.valued),
}
"""What can be joined; all else is asked of a node that answers for every shard."""

WHOLE: Mapping[str, type[Any]] = {
    "SearchByExample": pb.SearchByExampleResponse,
    "SearchHybrid": pb.SearchHybridResponse,
    "SearchMultiVector": pb.SearchMultiVectorResponse,
    "ListPoints": pb.ListPointsResponse,
}
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
                self._note(kept)
                when_changed(kept.map)

    def known(self, collection: str) -> ShardMap | None:
        """The map of a collection as far as is known here."""
        kept = self._known.get(collection)
        return kept.map if kept else None

    def holds(self, record: Record, shard: int) -> bool:
        """Whether a shard is on this node as far as is known here; where there is no map it is."""
        now = self.known(record.uid)
        return now is None or shard in now.held_by(self.node)

    async def newest(self, collection: str) -> ShardMap | None:
        """The map of a collection as it is kept."""
        kept = await self._maps.find(collection)
        if kept is None:
            self._known.pop(collection, None)
            return None
        self._note(kept)
        return kept.map

    async def map_of(self, collection: str) -> ShardMap | None:
        """The map that is known, or the one that is kept; None where the collection is this node's alone."""
        return self.known(collection) or await self.newest(collection)

    async def read(self, method: str, tenant: str, now: ShardMap, request: Any) -> Any:
        """The answer to a question."""
        joined = method in JOINED and not (method == "ListPoints" and request.order_by)
        sent = request
        if method == "GetValueCounts":
            sent = pb.GetValueCountsRequest()
            sent.CopyFrom(request)
            sent.limit = VALUES_MAX
        if not joined:
            return await self._tried(now, lambda at: self._whole(method, tenant, at, request))
        return await self._tried(now, lambda at: self._joined(method, tenant, at, (request, sent)))

    async def write(self, method: str, tenant: str, now: ShardMap, request: Write) -> Any:
        """The answer to a write, each part of which its shard has. What is tried again is written once, by its name."""
        if isinstance(request, pb.UpsertRequest) and not request.batch_id:
            request.batch_id = new_id("batch")
        return await self._tried(now, lambda at: self._written(method, tenant, at, request))

    def _note(self, kept: KeptMap) -> None:
        known = self._known.get(kept.map.collection)
        if known is None or known.revision < kept.revision:
            self._known[kept.map.collection] = kept

    async def _tried(self, now: ShardMap, ask: Callable[[ShardMap], Any]) -> Any:
        for _ in range(TRIES_MAX):
            try:
                return await ask(now)
            except Conflict as error:
                log.info("map looked at again", collection=now.collection, epoch=now.epoch, error=str(error))
                newest = await self.newest(now.collection)
                if newest is None:
                    raise
                if newest.epoch == now.epoch:
                    # The node is ahead of what is kept for an instant, or behind it for as long.
                    await asyncio.sleep(0.05)
                now = newest
        raise Unavailable(f"the shards of {now.name} moved {TRIES_MAX} times meanwhile; try again")

    async def _joined(self, method: str, tenant: str, now: ShardMap, requests: tuple[Any, Any]) -> Any:
        response, join = JOINED[method]
        request, sent = requests
        content = sent.SerializeToString()

        async def ask(link: NodeLink, shard: int) -> Any:
            return response.FromString(await link.ask(self._asking(tenant, now, (shard,), method, content)))

        allowed = _partial(request)
        gathered = await self._gathering.gather(now.owning, ask, within_seconds=WITHIN_SECONDS, partial=allowed)
        return join(request, Told(gathered.answers, sorted(gathered.missing), now))

    async def _whole(self, method: str, tenant: str, now: ShardMap, request: Any) -> Any:
        owning = now.owning
        every = [each for each in owning[0].replicas if now.answered_by(each.node)]
        if not every:
            _refuse(method)
        numbers, content = tuple(each.number for each in owning), request.SerializeToString()

        async def ask(link: NodeLink, _: int) -> Any:
            answer = await link.ask(self._asking(tenant, now, numbers, method, content))
            return WHOLE[method].FromString(answer)

        place = ShardPlace(owning[0].number, owning[0].slots, tuple(every))
        gathered = await self._gathering.gather([place], ask, within_seconds=WITHIN_SECONDS)
        return gathered.answers[place.number]

    async def _written(self, method: str, tenant: str, now: ShardMap, request: Write) -> Any:
        # What names no id belongs to no shard; any will say what is wrong with it.
        cut = by_shard(request, now) or {now.owning[0].number: request}
        parts = {shard: part.SerializeToString() for shard, part in cut.items()}

        async def ask(link: NodeLink, shard: int) -> Any:
            answer = await link.ask(self._asking(tenant, now, (shard,), method, parts[shard]))
            return WRITTEN[method].FromString(answer)

        shards = [now.shard(number) for number in parts]
        # A second copy of what has no name could undo what is written between the two.
        named = method == "Upsert"
        gathered = await self._gathering.gather(shards, ask, within_seconds=WITHIN_SECONDS, hedged=named)
        positions = joining.written(gathered.answers)
        told: dict[str, Any] = {"sequence": max(positions.values(), default=0), "sequences": positions}
        if method == "Delete":
            told["count"] = sum(each.count for each in gathered.answers.values())
        return WRITTEN[method](**told)

    def _asking(self, tenant: str, now: ShardMap, shards: tuple[int, ...], method: str, content: bytes) -> Asking:
        return Asking(tenant, now.name, now.collection, now.epoch, shards, method, content, WITHIN_SECONDS)


def _partial(request: Any) -> bool:
    if hasattr(request, "options"):
        return bool(request.options.reading.partial)
    return False


def _refuse(method: str) -> NoReturn:
    message = f"{method} needs a node that has every shard of the collection, and there is none; raise `replicas`"
    raise Refused(message, field="collection")
