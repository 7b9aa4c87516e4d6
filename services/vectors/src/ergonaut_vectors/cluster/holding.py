"""What this node holds, by the maps: replicas that it is to have are fetched and opened, those it is to have no more are removed.

Called by whoever follows the maps, and by the door through which other nodes ask.
"""

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

from ergonaut.errors import Conflict, ErgonautError, NotFound
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_vectors.cluster.nodes import Nodes
from ergonaut_vectors.cluster.ports import Replicas
from ergonaut_vectors.cluster.spread import Spread
from ergonaut_vectors.domain.placing.moving import ReplicaReport
from ergonaut_vectors.domain.placing.shard_map import ReplicaStage, ShardMap

DRAINED_SECONDS = 5.0
"""Without a question for so long nobody has a map any more by which a replica would be asked that is to go."""

AGAIN_SECONDS = 1.0
"""Pause before what failed is tried again, for as long as the map says so."""

log = get_logger(__name__)


class Holding:
    """Keeps this node's replicas as the maps have them."""

    def __init__(self, spread: Spread, nodes: Nodes, replicas: Replicas, folder: Path, clock: Clock) -> None:
        self._spread = spread
        self._nodes = nodes
        self._replicas = replicas
        self._folder = folder
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None
        self._under_way: set[tuple[str, int]] = set()
        self._asked_seconds: dict[tuple[str, int], float] = {}
        self._held: set[tuple[str, int]] = set()

    async def run(self) -> None:
        """Follow the maps, for ever."""
        shutil.rmtree(self._folder, ignore_errors=True)
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await self._spread.follow(self._changed)

    async def check(self, collection: str, shards: tuple[int, ...], epoch: int) -> None:
        """Raise Conflict unless this node answers for these shards; it looks for a newer map before."""
        for look in (self._spread.map_of, self._spread.newest):
            now = await look(collection)
            if now is not None and self._answers(now, shards):
                await self._check_there(now)
                for shard in shards:
                    self._asked_seconds[collection, shard] = self._clock.monotonic()
                return
        told = f"node {self._spread.node} does not answer for shards {', '.join(map(str, shards))} of {collection}"
        raise Conflict(f"{told}; it was asked by the map of epoch {epoch}")

    def forget(self, collection: str) -> None:
        """A collection is no more, and its files here are gone."""
        self._held = {key for key in self._held if key[0] != collection}
        self._asked_seconds = {key: at for key, at in self._asked_seconds.items() if key[0] != collection}

    async def reports(self, collection: str) -> Mapping[int, ReplicaReport]:
        """How this node's replicas of a collection stand; those that are still fetched are not told."""
        now = await self._spread.map_of(collection)
        if now is None:
            return {}
        record = await self._replicas.record(now)
        reports = {}
        for shard in now.held_by(self._spread.node):
            if (collection, shard) not in self._under_way:
                position, digests = await self._replicas.standing(record, shard)
                reports[shard] = ReplicaReport(
                    position, now.epoch, digests=digests, drained=self._is_drained(collection, shard)
                )
        return reports

    async def rebuild(self, collection: str, shard: int) -> None:
        """Make a replica anew, from the log."""
        now = await self._spread.map_of(collection)
        if now is None or shard not in now.held_by(self._spread.node):
            raise NotFound(f"shard: node {self._spread.node} has no replica of shard {shard} of {collection}")
        log.warning("replica differs and is made anew", collection=now.name, shard=shard)
        await self._replicas.rebuild(await self._replicas.record(now), shard)

    async def copy_saved(self, collection: str, shard: int, folder: Path) -> None:
        """Put what a replica has saved into a new folder."""
        now = await self._spread.map_of(collection)
        if now is None or shard not in now.held_by(self._spread.node):
            raise NotFound(f"shard: node {self._spread.node} has no replica of shard {shard} of {collection}")
        await self._replicas.copy_saved(await self._replicas.record(now), shard, folder)

    def place(self) -> Path:
        """A new folder for files on their way."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return Path(mkdtemp(dir=self._folder))

    async def _check_there(self, now: ShardMap) -> None:
        try:
            await self._replicas.record(now)
        except NotFound as error:
            raise Conflict(f"{error}; it was asked by the map of one that is gone") from error

    def _answers(self, now: ShardMap, shards: tuple[int, ...]) -> bool:
        mine = {shard.number for shard in now.owning if self._spread.node in shard.nodes(*_ANSWERING)}
        return set(shards) <= mine

    def _is_drained(self, collection: str, shard: int) -> bool:
        asked = self._asked_seconds.setdefault((collection, shard), self._clock.monotonic())
        return self._clock.monotonic() - asked >= DRAINED_SECONDS

    def _changed(self, now: ShardMap) -> None:
        assert self._tasks is not None, "maps are followed in `run`"
        mine = {(now.collection, shard) for shard in now.held_by(self._spread.node)}
        for key in mine - self._held:
            self._held.add(key)
            self._begin(key, now)
        for key in {each for each in self._held if each[0] == now.collection} - mine:
            self._held.discard(key)
            self._begin(key, now)

    def _begin(self, key: tuple[str, int], now: ShardMap) -> None:
        if key not in self._under_way and self._tasks is not None:
            self._under_way.add(key)
            self._tasks.create_task(self._until_so(key, now))

    async def _until_so(self, key: tuple[str, int], now: ShardMap) -> None:
        """Bring a replica to where the newest map wants it, again and again until that is so."""
        try:
            while True:
                wanted = key in self._held
                try:
                    await (self._fetch(key, now) if wanted else self._remove(key, now))
                except NotFound as error:
                    log.info("replica of a collection that is gone", collection=now.name, error=str(error))
                    return
                except Exception as error:
                    # Whatever it was, the other replicas are well; the keeper sees that this one does not come.
                    log.warning(
                        "replica not ready", collection=now.name, shard=key[1], error=str(error), exc_info=error
                    )
                    await self._clock.sleep(AGAIN_SECONDS)
                    continue
                if wanted == (key in self._held):
                    return
        finally:
            self._under_way.discard(key)

    async def _fetch(self, key: tuple[str, int], now: ShardMap) -> None:
        """Have a replica: of what another has saved where this node has nothing, and of the log in any case."""
        record, (collection, shard) = await self._replicas.record(now), key
        others = [node for node in now.shard(shard).nodes(ReplicaStage.READY) if node != self._spread.node]
        if others and not await self._replicas.has_saved(record, shard):
            for node in self._nodes.askable(others):
                folder = self.place()
                try:
                    await node.link.download(now.tenant, collection, shard, folder)
                    await self._replicas.adopt(record, shard, folder)
                    break
                except ErgonautError as error:
                    # Without it the log is read from its beginning, which takes longer and comes to the same.
                    log.warning("saved state not fetched", node=node.name, shard=shard, error=str(error))
                finally:
                    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await self._replicas.standing(record, shard)

    async def _remove(self, key: tuple[str, int], now: ShardMap) -> None:
        await self._replicas.remove(await self._replicas.record(now), key[1])
        self._asked_seconds.pop(key, None)


_ANSWERING = (ReplicaStage.READY, ReplicaStage.DRAINING)
