"""Writers that go on whatever is killed, each with ids of its own, and look now and then at what they have written."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
import numpy as np

from ergonaut.api.vectors.v1 import vectors_pb2 as pb

from .site import COLLECTION, DIMENSION, PASSING, Node, Site, points_of
from .truth import Change, Drop, Point, Put, Written, Wrong, after, check_same

NAMES = 150
"""Ids of one writer: few, so that most are written again and again."""

BATCH_MAX = 40
PAUSE_SECONDS_MAX = 0.03
AGAIN_SECONDS = 0.1
REPEATED_FROM = 20
"""Late repeats are of one of so many last batches."""


@dataclass(slots=True)
class Sums:
    """What was tried, for the sum at the end."""

    acknowledged: int = 0
    unknown: int = 0
    tried_again: int = 0
    repeated: int = 0
    looks: int = 0
    looks_unanswered: int = 0


@dataclass(slots=True)
class Writer:
    """Writes, and knows what must be there."""

    number: int
    site: Site
    sums: Sums
    dice: Random
    points: dict[str, Point] = field(default_factory=dict)
    pending: Written | None = None
    """What it gave up on; it writes nothing more before that is settled."""
    positions: dict[int, int] = field(default_factory=dict)
    version: int = 0
    done: list[Put] = field(default_factory=list)

    async def run(self, stop: asyncio.Event, batches_max: int) -> None:
        """Write until told to stop, or so many batches."""
        for _ in range(batches_max):
            if stop.is_set() or self.pending is not None:
                return
            await self.write(self._drawn())
            if self.pending is None and self.dice.random() < 0.3:
                await self.look(self.site.any())
            await asyncio.sleep(self.dice.uniform(0, PAUSE_SECONDS_MAX))

    async def write(self, written: Written, *, patient: bool = False) -> None:
        """Write, again and again where no answer comes, or give up, whichever the dice say."""
        method, request = _request(written)
        while True:
            try:
                answer = await self.site.any().call(method, request)
                break
            except grpc.aio.AioRpcError as error:
                if error.code() not in PASSING:
                    raise Wrong(f"{method} was answered {error.code().name}: {error.details()}") from error
            if not patient and self.dice.random() < 0.3:
                self.pending = written
                self.sums.unknown += 1
                return
            self.sums.tried_again += 1
            await asyncio.sleep(AGAIN_SECONDS)
        self.points, self.pending = after(self.points, written), None
        self.sums.acknowledged += 1
        for shard, position in answer.sequences.items():
            self.positions[shard] = max(position, self.positions.get(shard, 0))
        if isinstance(written, Put):
            self.done = [*self.done[1 - REPEATED_FROM :], written]

    async def settle(self) -> None:
        """Learn how what it gave up on ended, by sending it once more."""
        if self.pending is not None:
            await self.write(self.pending, patient=True)

    async def repeat(self) -> None:
        """Send a batch again that was acknowledged, however late: that must change nothing."""
        if self.done:
            method, request = _request(self.dice.choice(self.done))
            await self.site.ask(method, request)
            self.sums.repeated += 1

    async def look(self, node: Node) -> None:
        """See at a node what was acknowledged, as of the positions that were told."""
        names = self.dice.sample([self._name(at) for at in range(NAMES)], 20)
        reading = pb.Reading(sequences_min=self.positions, with_payloads=True, with_vectors=True)
        mine = json.dumps({"field": "writer", "eq": self.number})
        try:
            got = await node.call("GetPoints", pb.GetPointsRequest(collection=COLLECTION, ids=names, reading=reading))
            request = pb.GetCountRequest(collection=COLLECTION, filter=mine, reading=reading)
            count = (await node.call("GetCount", request)).count
        except grpc.aio.AioRpcError as error:
            if error.code() not in PASSING:
                raise Wrong(f"a look was answered {error.code().name}: {error.details()}") from error
            self.sums.looks_unanswered += 1
            return
        where = f"writer {self.number} at node {node.name}"
        check_same(points_of(got.points), {name: self.points[name] for name in names if name in self.points}, where)
        if count != len(self.points):
            raise Wrong(f"{where}: {count} points are counted, {len(self.points)} are there")
        self.sums.looks += 1

    def _drawn(self) -> Written:
        chance, self.version = self.dice.random(), self.version + 1
        if self.points and chance < 0.15:
            return Drop(self._some(list(self.points), 10))
        if self.points and chance < 0.3:
            merged = self.dice.random() < 0.5
            payload = {"changed": self.version} if merged else {"writer": self.number, "version": self.version}
            return Change(dict.fromkeys(self._some(list(self.points), 10), payload), merged)
        names = self._some([self._name(at) for at in range(NAMES)], BATCH_MAX)
        rows = np.random.default_rng(self.dice.randrange(2**32)).standard_normal((len(names), DIMENSION)).astype("<f4")
        payload = {"writer": self.number, "version": self.version, "text": f"line {self.version}"}
        points = {name: (row.tobytes(), payload) for name, row in zip(names, rows, strict=True)}
        return Put(points, f"{self.number}-{self.version}")

    def _some(self, names: list[str], most: int) -> list[str]:
        return self.dice.sample(names, min(len(names), self.dice.randint(1, most)))

    def _name(self, at: int) -> str:
        return f"{self.number}-{at}"


def _request(written: Written) -> tuple[str, Any]:
    if isinstance(written, Drop):
        return "Delete", pb.DeleteRequest(collection=COLLECTION, ids=written.ids)
    if isinstance(written, Change):
        payloads = [json.dumps(each).encode() for each in written.payloads.values()]
        request = pb.UpdatePayloadsRequest(
            collection=COLLECTION, ids=list(written.payloads), payloads=payloads, merged=written.merged
        )
        return "UpdatePayloads", request
    rows = pb.Rows(
        ids=list(written.points),
        vectors=pb.Matrix(rows=b"".join(vector for vector, _ in written.points.values())),
        payloads=[json.dumps(payload).encode() for _, payload in written.points.values()],
    )
    return "Upsert", pb.UpsertRequest(collection=COLLECTION, rows=rows, batch_id=written.name)


def positions_of(writers: list[Writer]) -> Mapping[int, int]:
    """From which on all is seen that was acknowledged."""
    positions: dict[int, int] = {}
    for writer in writers:
        for shard, position in writer.positions.items():
            positions[shard] = max(position, positions.get(shard, 0))
    return positions
