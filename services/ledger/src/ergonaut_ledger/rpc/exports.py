"""The door ExportService: the measurements as Parquet files, and what their columns mean."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from grpc import aio

from ergonaut.api.ledger.v1 import exports_pb2 as pb
from ergonaut.api.ledger.v1.exports_pb2_grpc import ExportServiceServicer, add_ExportServiceServicer_to_server
from ergonaut.errors import Refused
from ergonaut_common.rpc import caller
from ergonaut_ledger.domain.exporting import Export, columns_of
from ergonaut_ledger.domain.usage import Span
from ergonaut_ledger.rpc.translating import moment, run_id_of
from ergonaut_ledger.service.exporting import Exporting


class ExportDoor(ExportServiceServicer):
    """Hands files out."""

    def __init__(self, exporting: Exporting) -> None:
        self._exporting = exporting

    async def GetExport(self, request: pb.GetExportRequest, context: Any) -> AsyncIterator[pb.GetExportResponse]:
        span = Span(moment("starts_at", request.starts_at), moment("ends_at", request.ends_at))
        if span.starts_at >= span.ends_at:
            raise Refused("must be after starts_at", field="ends_at")
        columns_of(request.table)
        run_id = run_id_of(request.run_id) if request.run_id else ""
        export = Export(caller().tenant, request.table, span, run_id, request.anonymous)
        async for piece in self._exporting.file(export):
            yield pb.GetExportResponse(chunk=piece)

    async def DescribeExport(self, request: pb.DescribeExportRequest, context: Any) -> pb.DescribeExportResponse:
        return pb.DescribeExportResponse(
            columns=[
                pb.Column(name=each.name, type=str(each.type), unit=each.unit, description=each.description)
                for each in columns_of(request.table)
            ]
        )


def export_door(exporting: Exporting) -> Callable[[aio.Server], None]:
    """What puts the service on a server."""

    def add(server: aio.Server) -> None:
        add_ExportServiceServicer_to_server(ExportDoor(exporting), server)

    return add
