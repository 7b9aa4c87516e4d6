"""Statements for bookkeepers, compliance reports for auditors, and the certificates that both show."""

from datetime import datetime
from typing import TYPE_CHECKING

from ergonaut.api.ledger.v1 import statements_pb2 as pb
from ergonaut.api.ledger.v1.statements_pb2_grpc import StatementServiceStub
from ergonaut.client.connection import Connection, doing
from ergonaut.errors import Refused

if TYPE_CHECKING:
    from ergonaut.api.ledger.v1.statements_pb2_grpc import StatementServiceAsyncStub


class Statements:
    """What a tenant used over a time, in the forms that bookkeepers and auditors ask for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "StatementServiceAsyncStub":
        return StatementServiceStub(self._connection.channel("ledger"))

    async def statement(
        self, starts_at: datetime, ends_at: datetime, *, project: str = "", line_by: str = ""
    ) -> pb.GetStatementResponse:
        """What was used from one moment to before another, line by line: by `project`, `job`, `run`, `host` or `day`."""
        request = pb.GetStatementRequest(period=period_of(starts_at, ends_at), project=project, line_by=line_by)
        with doing("asking for a statement"):
            answer: pb.GetStatementResponse = await self._stub.GetStatement(request)
            return answer

    async def compliance(
        self, starts_at: datetime, ends_at: datetime, *, project: str = "", functional_unit: str = ""
    ) -> pb.GetComplianceReportResponse:
        """Emissions by the GHG Protocol and ISO/IEC 21031; the unit is a figure that runs tell, or a run."""
        request = pb.GetComplianceReportRequest(
            period=period_of(starts_at, ends_at), project=project, functional_unit=functional_unit
        )
        with doing("asking for a compliance report"):
            answer: pb.GetComplianceReportResponse = await self._stub.GetComplianceReport(request)
            return answer

    async def record(self, certificate: pb.Certificate) -> None:
        """Put a certificate or offset on record; the same again changes nothing. Raises Conflict where it stands otherwise."""
        with doing(f"recording the certificate {certificate.certificate_id}"):
            await self._stub.RecordCertificate(pb.RecordCertificateRequest(certificate=certificate))

    async def certificates(
        self, starts_at: datetime | None = None, ends_at: datetime | None = None
    ) -> list[pb.Certificate]:
        """Certificates on record, voided ones too, newest period first; those that meet a time where one is given."""
        if (starts_at is None) != (ends_at is None):
            raise Refused("tell both when it starts and when it ends, or neither", field="period")
        period = period_of(starts_at, ends_at) if starts_at and ends_at else None
        with doing("listing certificates"):
            answer = await self._stub.ListCertificates(pb.ListCertificatesRequest(period=period))
            return [*answer.certificates]

    async def void(self, certificate_id: str) -> None:
        """Take a certificate out of the books; that it was there stays on record."""
        with doing(f"voiding the certificate {certificate_id}"):
            await self._stub.VoidCertificate(pb.VoidCertificateRequest(certificate_id=certificate_id))


def period_of(starts_at: datetime, ends_at: datetime) -> pb.Period:
    """A time, its end left out."""
    period = pb.Period()
    period.starts_at.FromDatetime(starts_at)
    period.ends_at.FromDatetime(ends_at)
    return period
