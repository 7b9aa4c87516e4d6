"""What served models used, and the requests that were logged, from the books."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING

from ergonaut.api.ledger.v1 import models_pb2 as pb
from ergonaut.api.ledger.v1.models_pb2_grpc import ModelBookServiceStub
from ergonaut.client.connection import Connection, doing, stamp

if TYPE_CHECKING:
    from ergonaut.api.ledger.v1.models_pb2_grpc import ModelBookServiceAsyncStub

PAGE_MAX = 500
"""Requests asked for at once; the ledger gives fewer where they are large."""


class ModelBooks:
    """Served models as the ledger keeps them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "ModelBookServiceAsyncStub":
        return ModelBookServiceStub(self._connection.channel("ledger"))

    async def footprints(self, starts_at: datetime, ends_at: datetime, *, model: str = "") -> list[pb.ModelFootprint]:
        """What each version of a model, or of all, served in a time, and its joules (an estimate), grams and dollars."""
        request = pb.ListModelFootprintsRequest(model=model, starts_at=stamp(starts_at), ends_at=stamp(ends_at))
        with doing("asking what models used"):
            answer = await self._stub.ListModelFootprints(request)
            return [*answer.footprints]

    async def requests(
        self,
        model: str,
        *,
        version: int = 0,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> AsyncIterator[pb.ModelRequest]:
        """Logged requests of a model, the newest first, at most so many; further pages are asked for as they are read."""
        request = pb.ListModelRequestsRequest(model=model, version=version)
        if since is not None:
            request.since.CopyFrom(stamp(since))
        if until is not None:
            request.until.CopyFrom(stamp(until))
        left = limit
        while left > 0:
            request.limit = min(left, PAGE_MAX)
            with doing(f"asking for the logged requests of {model}"):
                answer = await self._stub.ListModelRequests(request)
            for each in answer.requests:
                yield each
            left -= len(answer.requests)
            request.page_token = answer.next_page_token
            if not answer.next_page_token:
                return

    async def forget(self, model: str, *, before: datetime | None = None) -> None:
        """Drop a model's logged requests for good, those answered before a moment where one is given."""
        request = pb.ForgetModelRequestsRequest(model=model)
        if before is not None:
            request.before.CopyFrom(stamp(before))
        with doing(f"forgetting the logged requests of {model}"):
            await self._stub.ForgetModelRequests(request)
