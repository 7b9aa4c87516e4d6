"""What a replica holds that was stopped at a moment or a position: the logs, read from their beginning and kept here."""

from collections.abc import Callable, Mapping
from datetime import datetime

from ergonaut_vectors.adapters.past_log import JetStreamPast
from ergonaut_vectors.archive.ports import PastMessage, Until
from ergonaut_vectors.domain.contents import contents
from ergonaut_vectors.domain.records import Key, Record
from ergonaut_vectors.domain.replica import Replica
from ergonaut_vectors.domain.segments.work import Policy

from .site import COLLECTION, Site
from .truth import Point, Points

ROWS_AT_ONCE = 1000


class Recorder:
    """Every message of the logs since the beginning, whatever is trimmed of them later."""

    def __init__(self, record: Record) -> None:
        self._record = record
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

    def _stopped(self, wanted: Callable[[int, PastMessage], bool]) -> Points:
        found: dict[str, Point] = {}
        schema = self._record.schema
        for shard, messages in self._messages.items():
            replica = Replica(schema.space, schema.fields, Policy())
            for message in messages:
                if not wanted(shard, message):
                    break
                replica.take(message.sequence, message.content)
            for piece in contents(replica.view, ROWS_AT_ONCE):
                payloads = piece.payloads or ({},) * len(piece.ids)
                for name, row, payload in zip(piece.ids, piece.rows, payloads, strict=True):
                    found[name] = (row.astype("<f4").tobytes(), payload)
        return found
