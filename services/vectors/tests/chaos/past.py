"""What a replica holds that was stopped at a moment or a position: the logs, read from their beginning and kept here."""

from collections.abc import Callable, Mapping
from datetime import datetime

from ergonaut_vectors.adapters.past_log import JetStreamPast
from ergonaut_vectors.archive.ports import PastMessage, Until
from ergonaut_vectors.domain.contents import contents
from ergonaut_vectors.domain.fences import given_to
from ergonaut_vectors.domain.records import Key, Record
from ergonaut_vectors.domain.replica import Replica
from ergonaut_vectors.domain.segments.work import Policy, done
from ergonaut_vectors.live import given_of

from .site import COLLECTION, Site
from .truth import Point, Points

ROWS_AT_ONCE = 1000

Wanted = Callable[[int, PastMessage], bool]
"""Whether a message of a shard had been written by then."""


class Recorder:
    """Every message of the logs since the beginning, whatever is trimmed of them later."""

    def __init__(self, record: Record) -> None:
        self.record = record
        """As it is now; shards that are split off come to it."""
        self._messages: dict[int, list[PastMessage]] = {}

    async def read(self, site: Site, shards: list[int]) -> None:
        """Read what came since the last time."""
        async with site.jetstream() as bus:
            past = JetStreamPast(bus.jetstream)
            for shard in shards:
                known = self._messages.setdefault(shard, [])
                after = known[-1].sequence if known else 0
                async for some in past.messages(Key("default", COLLECTION, shard), after, Until()):
                    known += some

    @property
    def moments(self) -> list[datetime]:
        """When messages were written, in order."""
        return sorted(message.written_at for messages in self._messages.values() for message in messages)

    def at_moment(self, moment: datetime) -> Points:
        """What was held then."""
        return self._stopped(lambda _, message: message.written_at <= moment)

    def at_positions(self, positions: Mapping[int, int]) -> Points:
        """What was held at these positions of the shards' logs."""
        return self._stopped(lambda shard, message: message.sequence <= positions.get(shard, 0))

    def _stopped(self, wanted: Wanted) -> Points:
        found: dict[str, Point] = {}
        replicas: dict[int, Replica] = {}
        for shard in sorted(self._messages):
            split = self.record.split_of(shard)
            if split is None or _gone(replicas.get(split.source), shard):
                replicas[shard] = self._replica(shard, wanted)
        for replica in replicas.values():
            for piece in contents(replica.view, ROWS_AT_ONCE):
                payloads = piece.payloads or ({},) * len(piece.ids)
                for name, row, payload in zip(piece.ids, piece.rows, payloads, strict=True):
                    found[name] = (row.astype("<f4").tobytes(), payload)
        return found

    def _replica(self, shard: int, wanted: Wanted) -> Replica:
        """A shard that was stopped; one that was split off begins with what its source held when its slots were fenced."""
        schema, kept = self.record.schema, None
        begin = next((each for each in self.record.begins if each.shard == shard), None)
        if begin is not None:
            split = self.record.split_of(shard)
            assert split is not None, "this collection was made empty"
            source = self._replica(split.source, lambda _, message: message.sequence <= begin.position)
            work = source.plan_seal()
            if work is not None:
                source.install(done(work, lambda _: True))
            given = given_to(given_of(source.view), shard)
            assert given is not None, "its source had fenced its slots"
            kept = source.kept().taken(given, bytes.fromhex(begin.digest))
        replica = Replica(schema.space, schema.fields, Policy(), kept)
        for message in self._messages[shard]:
            if not wanted(shard, message):
                break
            replica.take(message.sequence, message.content)
        return replica


def _gone(source: Replica | None, shard: int) -> bool:
    """Whether a shard answers for what was its source's."""
    given = given_to(given_of(source.view), shard) if source else None
    return given is not None and given.fence.is_last
