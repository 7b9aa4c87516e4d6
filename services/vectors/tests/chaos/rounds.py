"""One round: writers write, something is killed at a moment that a seed drew, it starts again, and all is looked at."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import grpc

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut_vectors.adapters.past_log import JetStreamPast
from ergonaut_vectors.domain.placing.shard_map import ReplicaStage, ShardMap
from ergonaut_vectors.domain.records import Record

from .damage import DAMAGED, damage
from .looking import check_settled, check_unsettled, until_equal, until_split
from .past import Recorder
from .restoring import Restoring
from .site import COLLECTION, PASSING, Node, Site
from .truth import Wrong
from .writing import Sums, Writer

WRITERS = 4
BATCHES_MAX = 60
"""Of one writer in one round: a node takes seconds to start, and its log shall not become long."""

DECK = [
    *(
        (moment, victim)
        for moment in ("ingest", "merge", "save", "snapshot", "restore", "move", "split")
        for victim in ("node", "bus")
    ),
    ("ingest", "all"),
    ("save", "all"),
    ("split", "all"),
    ("ingest", "keeper"),
    ("split", "keeper"),
]
"""What is killed, and when: one node, the one that keeps a shard's states, NATS, or all of it at once. Each is drawn before any
comes again."""

SHARDS_MAX = 16
"""Then no more are split off in one site."""

FILES = {"merge": "*/*.segment.unfinished", "save": "*/manifest.unfinished"}
"""What is on disk while that goes on; a seal writes a segment as a merge does."""

FILE_SECONDS = 3.0
MOVING_SECONDS = 10.0
TOLD_SECONDS = 60.0


@dataclass(slots=True)
class Told:
    """The sum of all rounds."""

    sums: Sums = field(default_factory=Sums)
    kills: Counter[str] = field(default_factory=Counter)
    damaged: int = 0
    points_checked: int = 0
    equal_seconds_max: float = 0.0
    moves: int = 0
    splits: int = 0
    halves: Counter[str] = field(default_factory=Counter)


class Rounds:
    """All rounds over one site."""

    def __init__(self, site: Site, record: Record, seed: str, told: Told, moments: Sequence[str] = ()) -> None:
        self._site = site
        self._cards = [each for each in DECK if not moments or each[0] in moments]
        self._record = record
        self._seed = seed
        self._dice = Random(seed)
        self._deck: list[tuple[str, str]] = []
        self._told = told
        self._writers = [Writer(number, site, told.sums, Random(f"{seed}.{number}")) for number in range(WRITERS)]
        self._recorder = Recorder(record)
        # What is killed while it is done is killed at any time of what it took the last time.
        self._took_seconds = {"snapshot": 1.0, "restore": 1.0, "split": 0.5}
        self.restoring = Restoring(site, self._recorder, self._dice)

    async def begin(self) -> None:
        """Write a little, and keep it."""
        await asyncio.gather(*(writer.run(asyncio.Event(), 10) for writer in self._writers))
        await self._look()
        await self.restoring.keep()

    async def round(self, number: int) -> str:
        """Play one; gives what happened. Raises Wrong where a promise was broken."""
        if not self._deck:
            self._deck = self._dice.sample(self._cards, len(self._cards))
        moment, victim = self._deck.pop()
        begun, stop = time.monotonic(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for writer in self._writers:
                tasks.create_task(writer.run(stop, BATCHES_MAX))
            await asyncio.sleep(self._dice.uniform(0.05, 0.4))
            happened = await self._killed(number, moment, victim)
            await asyncio.sleep(self._dice.uniform(0.1, 0.3))
            stop.set()
        self._told.kills[f"{victim} at {moment}"] += 1
        equal = await self._look()
        happened += await self._looked_back(number, moment)
        seconds = time.monotonic() - begun
        return f"{victim} killed at {moment}{happened}; replicas equal after {equal:.1f} s; {seconds:.0f} s"

    async def log_begins(self) -> list[int]:
        """The first position of each shard's log."""
        async with self._site.jetstream() as bus:
            past = JetStreamPast(bus.jetstream)
            return [await past.begin(key) for key in self._record.shards]

    async def _killed(self, number: int, moment: str, victim: str) -> str:
        """Kill it at that moment and start it again; gives what happened beside that."""
        node = self._dice.choice(self._site.nodes)
        task: asyncio.Task[str] | None = None
        if moment in FILES:
            there = await asyncio.to_thread(_is_there, node.shards, FILES[moment])
            happened = "" if there else " (none was seen)"
        elif moment == "move":
            happened = await self._moving()
        elif moment == "ingest" or (moment == "split" and len(self._record.shards) >= SHARDS_MAX):
            happened = ""
        else:
            task, happened = asyncio.create_task(self._call(node, number, moment)), ""
            await asyncio.sleep(self._dice.uniform(0, self._took_seconds[moment]))
        keeper = await self._keeper()
        if victim in ("bus", "all"):
            await self._site.server.kill()
        killed = {"bus": [], "node": [node], "keeper": [keeper], "all": self._site.nodes}[victim]
        await asyncio.gather(*(each.kill() for each in killed))
        if victim in ("bus", "all"):
            await self._site.server.start()
        happened += await self._started(killed)
        if task is not None:
            happened += f", the {moment} {await task}"
        return happened

    async def _keeper(self) -> Node:
        """The node that brings the states of some shard to the shelf, and would split it."""
        now = await self._site.map(self._record.uid)
        shard = self._dice.choice(now.shards).number
        name = now.kept_by(shard, {node.name for node in self._site.nodes})
        return next(node for node in self._site.nodes if node.name == name)

    async def _call(self, node: Node, number: int, moment: str) -> str:
        """Make a snapshot, restore one or split a shard; how that ended."""
        request = pb.CreateSnapshotRequest(collection=COLLECTION)
        method = "CreateSnapshot"
        if moment == "restore":
            method = "RestoreCollection"
            request = pb.RestoreCollectionRequest(
                collection=COLLECTION, new_name=f"half-{number}", snapshot_id=self.restoring.newest
            )
        if moment == "split":
            method = "SplitShard"
            shard = self._dice.randrange(len(self._record.shards))
            request = pb.SplitShardRequest(collection=COLLECTION, shard=shard)
        begun = time.monotonic()
        try:
            await node.call(method, request, 60)
        except grpc.aio.AioRpcError as error:
            if error.code() not in PASSING:
                raise Wrong(f"{method} was answered {error.code().name}: {error.details()}") from error
            return "was cut short"
        self._took_seconds[moment] = time.monotonic() - begun
        return "was done"

    async def _moving(self) -> str:
        """Have a node's replicas move away or back to it, and return when that has begun."""
        light = [node for node in self._site.nodes if node.weight == 0]
        now = await self._site.map(self._record.uid)
        node = light[0] if light else self._dice.choice([each for each in self._site.nodes if now.held_by(each.name)])
        node.weight = 1 - node.weight
        await node.kill()
        await node.start()
        give_up_at = time.monotonic() + MOVING_SECONDS
        while time.monotonic() < give_up_at:
            if _moves(await self._site.map(self._record.uid)):
                self._told.moves += 1
                await asyncio.sleep(self._dice.uniform(0, 2.0))
                return f" {'to' if node.weight else 'away from'} {node.name}"
            await asyncio.sleep(0.05)
        return f" (none began within {MOVING_SECONDS:g} s)"

    async def _started(self, nodes: list[Node]) -> str:
        """Start nodes that were killed, of which what one has saved may be damaged; that must be told."""
        if not nodes:
            return ""
        done, before, node = None, 0, self._dice.choice(nodes)
        now = await self._site.map(self._record.uid)
        if not _moves(now) and self._dice.random() < 0.7 and now.held_by(node.name):
            before = node.told(DAMAGED)
            shard = self._dice.choice(now.held_by(node.name))
            done = damage(node.shards / self._record.store_of(shard), self._dice)
        await asyncio.gather(*(each.start() for each in nodes))
        if done is None:
            return ""
        give_up_at = time.monotonic() + TOLD_SECONDS
        while node.told(DAMAGED) == before:
            if time.monotonic() > give_up_at:
                raise Wrong(f"node {node.name} says nothing of {done}")
            await asyncio.sleep(0.1)
        self._told.damaged += 1
        return f", {done} at {node.name} and told"

    async def _look(self) -> float:
        """See that nothing is lost; gives the seconds that replicas took to hold the same."""
        now = await until_split(self._site, self._record.uid)
        self._told.splits += len(now.shards) - len(self._record.shards)
        self._recorder.record = self._record = await self._site.record()
        await check_unsettled(self._site, self._writers, now)
        for writer in self._writers:
            await writer.settle()
        await self._writers[0].repeat()
        expected = await check_settled(self._site, self._writers)
        self._told.points_checked += len(expected) * len(self._site.nodes)
        equal = await until_equal(self._site, self._record.uid)
        self._told.equal_seconds_max = max(self._told.equal_seconds_max, equal)
        await self._recorder.read(self._site, [shard.number for shard in now.owning])
        self.restoring.remember(datetime.now(UTC), expected)
        return equal

    async def _looked_back(self, number: int, moment: str) -> str:
        await self.restoring.check_kept()
        if moment == "restore":
            how = await self.restoring.check_half(f"half-{number}", self.restoring.newest)
            self._told.halves[how] += 1
            return f", {how}"
        if self._dice.random() < 0.5:
            return f"; {await self.restoring.check_any(f'again-{number}')} came back"
        return ""


def _moves(now: ShardMap) -> bool:
    return any(replica.stage is not ReplicaStage.READY for shard in now.shards for replica in shard.replicas)


def _is_there(folder: Path, pattern: str) -> bool:
    """Wait for a file of this name; whether one came."""
    give_up_at = time.monotonic() + FILE_SECONDS
    while time.monotonic() < give_up_at:
        if next(folder.glob(pattern), None) is not None:
            return True
    return False
