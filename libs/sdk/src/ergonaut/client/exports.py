"""The measurements as Parquet files, for research."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING

from ergonaut.api.ledger.v1 import exports_pb2 as pb
from ergonaut.api.ledger.v1.exports_pb2_grpc import ExportServiceStub
from ergonaut.client.connection import Connection, doing, stamp

if TYPE_CHECKING:
    from ergonaut.api.ledger.v1.exports_pb2_grpc import ExportServiceAsyncStub

EXPORT_SECONDS_MAX = 24 * 3_600.0
"""A month of many hosts takes long to hand out; the deadline is there so that a broken link does not hold a program for ever."""


class Exports:
    """Files of the tenant's measurements."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "ExportServiceAsyncStub":
        return ExportServiceStub(self._connection.channel("ledger"))

    async def file(
        self, table: str, starts_at: datetime, ends_at: datetime, *, run_id: str = "", anonymous: bool = False
    ) -> AsyncIterator[bytes]:
        """One Parquet file in pieces: `samples`, `minutes`, `hours`, `days`, `runs`, `phases` or `requests` of models.

        With `anonymous`, hosts, runs, jobs and projects are named by digests that only the ledger could make. Raises Refused.
        """
        request = pb.GetExportRequest(
            table=table, starts_at=stamp(starts_at), ends_at=stamp(ends_at), run_id=run_id, anonymous=anonymous
        )
        with doing(f"exporting {table}"):
            async for answer in self._stub.GetExport(request, timeout=EXPORT_SECONDS_MAX):
                yield answer.chunk

    async def describe(self, table: str) -> list[pb.Column]:
        """What each column of an export means. Raises Refused."""
        with doing(f"asking what the export {table} holds"):
            answer = await self._stub.DescribeExport(pb.DescribeExportRequest(table=table))
            return [*answer.columns]
