"""Another region's collections here: their logs as mirrored streams, and their records, so that this region reads at home.

The regions' NATS servers are joined by a leaf node and have JetStream domains of their own. Positions are those of the source,
so what a write's answer told there is waited for here. A write here is published as there: the leaf node carries it to the
region that has the stream, which alone decides; while that is away, reads go on and writes are told to come back.
"""

import asyncio

from nats.js import JetStreamContext
from nats.js.api import ExternalStream, StorageType, StreamConfig, StreamSource
from nats.js.errors import NotFoundError

from ergonaut.errors import ErgonautError
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_vectors.adapters.log import JetStreamLog, is_of_another, metadata_of, stream_of
from ergonaut_vectors.domain.records import Key, Record, Stage
from ergonaut_vectors.ports import CollectionBook

EVERY_SECONDS = 5.0
"""Between two looks at the other region's records: a collection is made rarely."""

log = get_logger(__name__)


class Mirrors:
    """Keeps this region's mirrors as the other region's records have it."""

    def __init__(
        self, domain: str, jetstream: JetStreamContext, books: tuple[CollectionBook, CollectionBook], bytes_max: int
    ) -> None:
        self._domain = domain
        self._jetstream = jetstream
        self._source, self._own = books
        self._logs = JetStreamLog(jetstream, bytes_max)
        self._bytes_max = bytes_max

    async def keep(self) -> None:
        """Round after round, for ever; while the other region is away all stays as it is."""
        while True:
            try:
                await self.round()
            except ErgonautError as error:
                log.warning("mirrors not kept", domain=self._domain, error=str(error))
            await asyncio.sleep(EVERY_SECONDS)

    async def round(self) -> None:
        """Mirror what is new there, and remove what is gone there."""
        there = {record.key: record for record in await self._source.all() if record.stage is Stage.READY}
        here = {record.key: record for record in await self._own.all()}
        for key, record in here.items():
            if key not in there or there[key].uid != record.uid:
                await self._own.remove(record)
                for shard in record.shards:
                    await self._logs.remove(shard, owner=record.uid)
                log.info("mirror removed", collection=str(key))
        for key, record in there.items():
            if here.get(key) != record:
                await self._add(record, is_new=key not in here or here[key].uid != record.uid)

    async def _add(self, record: Record, *, is_new: bool) -> None:
        for shard in record.shards:
            await self._mirror(shard, record.uid)
        # Last, for whoever finds the record opens its logs.
        if is_new:
            await self._own.add(record)
            log.info("mirror made", collection=str(record.key), domain=self._domain)
        else:
            await self._own.change(record)

    async def _mirror(self, key: Key, uid: str) -> None:
        source = StreamSource(name=stream_of(key), external=ExternalStream(api=f"$JS.{self._domain}.API"))
        config = StreamConfig(
            name=stream_of(key),
            mirror=source,
            storage=StorageType.FILE,
            max_bytes=self._bytes_max,
            deny_delete=True,
            metadata=metadata_of(uid),
        )

        async def find_or_make() -> None:
            try:
                if not is_of_another(await self._jetstream.stream_info(stream_of(key)), uid):
                    return
                # Left by a process that died before it wrote down what it mirrored.
                await self._jetstream.delete_stream(stream_of(key))
            except NotFoundError:
                pass
            await self._jetstream.add_stream(config)

        await until_answered(find_or_make, what=f"mirroring the log of {key}")
