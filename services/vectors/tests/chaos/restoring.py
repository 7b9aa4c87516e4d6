"""Snapshots and restores between the rounds: what comes back is what a replica held that was stopped at that moment."""

from datetime import datetime
from random import Random
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from ergonaut.api.vectors.v1 import vectors_pb2 as pb

from .looking import held
from .past import Recorder
from .site import COLLECTION, Site
from .truth import Points, Wrong, check_same

SNAPSHOTS_KEPT = 6
"""Then the oldest is dropped; files that others share with it must stay."""


class Restoring:
    """Makes snapshots, and restores what was."""

    def __init__(self, site: Site, recorder: Recorder, dice: Random) -> None:
        self._site = site
        self._recorder = recorder
        self._dice = dice
        self._kept: dict[str, Any] = {}
        self._calm: list[tuple[datetime, Points]] = []
        self.compared = 0
        self.told_lost = 0

    @property
    def newest(self) -> str:
        """A snapshot's id."""
        return list(self._kept)[-1]

    async def keep(self) -> None:
        """Make a snapshot."""
        made = await self._site.ask("CreateSnapshot", pb.CreateSnapshotRequest(collection=COLLECTION))
        self._kept[made.snapshot.id] = made.snapshot

    def remember(self, moment: datetime, points: Points) -> None:
        """At this moment nothing was on its way, and these points were there."""
        self._calm.append((moment, points))

    async def check_kept(self) -> None:
        """Raise Wrong where a snapshot is gone; take note of those that were made although nobody was told."""
        answer = await self._site.ask("ListSnapshots", pb.ListSnapshotsRequest(collection=COLLECTION))
        told = {each.id: each for each in answer.snapshots}
        if lost := self._kept.keys() - told.keys():
            raise Wrong(f"snapshots are gone: {sorted(lost)}")
        self._kept |= {name: told[name] for name in sorted(told.keys() - self._kept.keys())}
        while len(self._kept) > SNAPSHOTS_KEPT:
            oldest = min(self._kept, key=lambda name: self._kept[name].made_at.ToNanoseconds())
            await self._site.ask("DropSnapshot", pb.DropSnapshotRequest(collection=COLLECTION, id=oldest))
            del self._kept[oldest]

    async def check_half(self, name: str, snapshot_id: str) -> str:
        """Raise Wrong where a restore that was killed left half a collection; gives how it ended."""
        try:
            # Whoever was killed may go on with it at its start, so it is asked for until somebody knows.
            await self._site.ask("GetCount", pb.GetCountRequest(collection=name))
        except Wrong as error:
            if "NOT_FOUND" in str(error):
                return "nothing of it is there"
            raise
        await self._compare(name, self._recorder.at_positions(self._kept[snapshot_id].sequences), "a killed restore")
        return "it is whole"

    async def check_any(self, name: str) -> str:
        """Restore something, and raise Wrong where it is not what was; gives what it was."""
        which = self._dice.choice(("calm", "moment", "snapshot", "now"))
        request = pb.RestoreCollectionRequest(collection=COLLECTION, new_name=name)
        if which == "now":
            expected = self._calm[-1][1]
            await self._site.ask("CloneCollection", pb.CloneCollectionRequest(collection=COLLECTION, new_name=name))
            await self._compare(name, expected, "a clone")
            return "a clone"
        if which == "snapshot":
            chosen = self._kept[self._dice.choice(sorted(self._kept))]
            expected, told = self._recorder.at_positions(chosen.sequences), f"snapshot {chosen.id}"
            request.snapshot_id = chosen.id
        else:
            calm = which == "calm"
            moment, expected = self._dice.choice(self._calm) if calm else self._random_moment()
            request.at.CopyFrom(_timestamp(moment))
            told = f"{'a calm' if calm else 'any'} moment {moment.isoformat()}"
        if not await self._made(request):
            self.told_lost += 1
            return f"{told} is told to be lost, and"
        await self._compare(name, expected, told)
        return told

    async def _made(self, request: pb.RestoreCollectionRequest) -> bool:
        """Restore; False where that is a moment before all that a trimmed log and the shelf have, and told."""
        try:
            await self._site.any().call("RestoreCollection", request, 60)
            return True
        except grpc.aio.AioRpcError as error:
            gone = self._site.trimmed and request.HasField("at") and error.code() is grpc.StatusCode.NOT_FOUND
            if gone and "begins at message" in (error.details() or ""):
                return False
            raise Wrong(f"a restore was answered {error.code().name}: {error.details()}") from error

    async def _compare(self, name: str, expected: Points, told: str) -> None:
        for node in self._site.nodes:
            check_same(await held(self._site, name, node, {}), expected, f"{told} restored, seen at node {node.name}")
        await self._site.ask("DropCollection", pb.DropCollectionRequest(collection=name))
        self.compared += 1

    def _random_moment(self) -> tuple[datetime, Points]:
        moments = self._recorder.moments
        first, last = moments[0], moments[-1]
        moment = first + (last - first) * self._dice.random()
        return moment, self._recorder.at_moment(moment)


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
