"""Vectors written and removed: by id from plain Python, or as arrays in bulk."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.channels import TRANSFER_TIMEOUT_SECONDS
from ergonaut.client.connection import doing
from ergonaut.client.vectors.answers import NOTHING_WRITTEN, Payload, Written, payload_bytes, written_of
from ergonaut.client.vectors.arrays import batches, encoded
from ergonaut.client.vectors.base import Calls, Filter, filter_text
from ergonaut.errors import Refused

BATCH_MAX = 256
"""Vectors sent in one call: few enough for the log's messages, enough to pay for the call."""

UNDER_WAY_MAX = 8
"""Batches sent and not yet answered, 4 MiB each: enough to keep the log busy, few enough to hold in memory."""

CALL_SECONDS = 60.0
"""How long batches are sent over one call before another goes on: far below a call's deadline, which no write should have to
meet as a whole."""

Batch = tuple[Sequence[str], Any] | tuple[Sequence[str], Any, Sequence[Payload]]
"""Ids, a matrix of their vectors, and, where there are any, their payloads."""


class WritingCalls(Calls):
    """What changes vectors."""

    async def upsert(
        self,
        collection: str,
        vectors: Mapping[str, Sequence[float]],
        attributes: Mapping[str, Mapping[str, str]] | None = None,
    ) -> int:
        """Write vectors by id, in batches; gives the last batch's position in the log."""
        known = attributes or {}
        points = [
            pb.Point(id=point_id, vector=vector, attributes=dict(known.get(point_id, {})))
            for point_id, vector in vectors.items()
        ]
        sequence = 0
        for start in range(0, len(points), BATCH_MAX):
            with doing(f"writing to the collection {collection}"):
                request = pb.UpsertRequest(collection=collection, points=points[start : start + BATCH_MAX])
                answer = await self._stub.Upsert(request)
                sequence = int(answer.sequence)
        return sequence

    async def write(
        self,
        collection: str,
        ids: Sequence[str],
        vectors: Any,
        payloads: Sequence[Payload] = (),
        *,
        batch_id: str = "",
    ) -> Written:
        """Write a matrix, one vector a row, with the rows' ids and payloads; cut into batches, of which each is all or nothing.

        The same again with the same `batch_id`, however late, changes nothing.
        """
        requests = [*_requests(collection, (ids, vectors, payloads), batch_id)]
        if len(requests) == 1:
            with doing(f"writing to the collection {collection}"):
                return written_of(await self._stub.Upsert(requests[0]), len(ids))
        written = NOTHING_WRITTEN
        async with aclosing(self._sent(collection, _each(requests))) as answers:
            async for answer in answers:
                written = written.then(answer)
        return written

    async def write_many(
        self, collection: str, parts: Iterable[Batch] | AsyncIterable[Batch]
    ) -> AsyncGenerator[Written, None]:
        """Write batch after batch over one call, several under way at once; gives an answer for each message, in order.

        A batch is (ids, matrix) or (ids, matrix, payloads). The first that fails ends it; those answered before stay written.
        """

        async def requests() -> AsyncIterator[pb.UpsertRequest]:
            async for part in _each(parts):
                for request in _requests(collection, part, ""):
                    yield request

        async with aclosing(self._sent(collection, requests())) as answers:
            async for written in answers:
                yield written

    async def update_payloads(
        self, collection: str, payloads: Mapping[str, Payload], *, merged: bool = False
    ) -> Written:
        """Write payloads anew by id, or put their names over those that are there; vectors stay, unknown ids are passed over."""
        names, written = [*payloads], NOTHING_WRITTEN
        for start in range(0, len(names), BATCH_MAX):
            part = names[start : start + BATCH_MAX]
            request = pb.UpdatePayloadsRequest(
                collection=collection, ids=part, payloads=[_told(payloads[name]) for name in part], merged=merged
            )
            with doing(f"changing payloads in the collection {collection}"):
                written = written.then(written_of(await self._stub.UpdatePayloads(request), len(part)))
        return written

    async def delete(self, collection: str, ids: Sequence[str] = (), *, filter: Filter | None = None) -> Written:  # noqa: A002 - the contract's word
        """Remove vectors by id, or all that match a filter; unknown ids are passed over."""
        if bool(ids) == (filter is not None):
            raise Refused("must be ids or a filter, one of the two", field="ids")
        written = NOTHING_WRITTEN
        for start in range(0, max(len(ids), 1), BATCH_MAX):
            request = pb.DeleteRequest(
                collection=collection, ids=ids[start : start + BATCH_MAX], filter=filter_text(filter)
            )
            with doing(f"removing from the collection {collection}"):
                answer = await self._stub.Delete(request)
            written = written.then(written_of(answer, int(answer.count)))
        return written

    async def _sent(self, collection: str, requests: AsyncIterator[pb.UpsertRequest]) -> AsyncGenerator[Written, None]:
        """Send requests, over one call after the other."""
        rest = _Rest(requests)
        while not rest.is_over:
            async with aclosing(self._sent_over_one(collection, rest.for_a_while())) as answers:
                async for written in answers:
                    yield written

    async def _sent_over_one(
        self, collection: str, requests: AsyncIterator[pb.UpsertRequest]
    ) -> AsyncGenerator[Written, None]:
        """Send requests over one call, `UNDER_WAY_MAX` ahead of their answers."""
        under_way = asyncio.Semaphore(UNDER_WAY_MAX)
        counts: deque[int] = deque()
        failure: list[BaseException] = []

        async def sending() -> AsyncIterator[pb.UpsertManyRequest]:
            try:
                async for request in requests:
                    await under_way.acquire()
                    counts.append(len(request.rows.ids))
                    yield pb.UpsertManyRequest(batch=request)
            except Exception as error:
                # gRPC would tell of this as of a call that ended, without saying why.
                failure.append(error)

        call = self._stub.UpsertMany(sending(), timeout=TRANSFER_TIMEOUT_SECONDS)
        try:
            with doing(f"writing to the collection {collection}"):
                async for answer in call:
                    under_way.release()
                    yield written_of(answer.written, counts.popleft())
            if failure:
                raise failure[0]
        finally:
            call.cancel()


class _Rest:
    """Requests that are still to be sent."""

    def __init__(self, requests: AsyncIterator[pb.UpsertRequest]) -> None:
        self._requests = requests
        self.is_over = False

    async def for_a_while(self) -> AsyncIterator[pb.UpsertRequest]:
        """Those that one call takes, one at least."""
        loop = asyncio.get_running_loop()
        until = loop.time() + CALL_SECONDS
        async for request in self._requests:
            yield request
            if loop.time() >= until:
                return
        self.is_over = True


def _requests(collection: str, part: Batch, batch_id: str) -> Iterable[pb.UpsertRequest]:
    ids, vectors, *more = part
    payloads = more[0] if more else ()
    rows = encoded(vectors, where="vectors")
    if len(ids) != len(rows.rows):
        raise Refused(f"has {len(rows.rows)} rows for {len(ids)} ids", field="vectors")
    if not ids:
        raise Refused("must name at least one vector", field="ids")
    if len(payloads) not in (0, len(ids)):
        raise Refused(f"has {len(payloads)} entries for {len(ids)} ids", field="payloads")
    cuts = [*batches(rows)]
    for number, (first, after) in enumerate(cuts):
        told = pb.Rows(
            ids=ids[first:after],
            vectors=rows.matrix(first, after),
            payloads=[payload_bytes(payload) for payload in payloads[first:after]],
        )
        # Each message of one batch is a write of its own and so needs a name of its own.
        name = f"{batch_id}.{number}" if batch_id and len(cuts) > 1 else batch_id
        yield pb.UpsertRequest(collection=collection, rows=told, batch_id=name)


def _told(payload: Payload) -> bytes:
    return payload_bytes(payload) or b"{}"


async def _each(parts: "Iterable[Any] | AsyncIterable[Any]") -> AsyncIterator[Any]:
    if isinstance(parts, AsyncIterable):
        async for part in parts:
            yield part
        return
    for part in parts:
        yield part
