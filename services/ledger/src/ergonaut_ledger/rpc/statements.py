"""The door StatementService: statements, compliance reports and certificates of the caller's tenant."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from ergonaut.api.ledger.v1 import statements_pb2 as pb
from ergonaut.api.ledger.v1.statements_pb2_grpc import StatementServiceServicer, add_StatementServiceServicer_to_server
from ergonaut.errors import Refused
from ergonaut.ids import NAME_RULE, is_name
from ergonaut_common.rpc import caller
from ergonaut_ledger.domain.certificates import TEXT_MAX, Certificate, Period
from ergonaut_ledger.domain.compliance import Compliance, Factor
from ergonaut_ledger.domain.statements import Asked, Line
from ergonaut_ledger.rpc.translating import timestamp
from ergonaut_ledger.service.statements import Statements


class StatementDoor(StatementServiceServicer):
    """Answers for those who pay and those who must report."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def GetStatement(self, request: pb.GetStatementRequest, context: Any) -> pb.GetStatementResponse:
        told = await self._statements.statement(_asked(request), request.line_by)
        return pb.GetStatementResponse(
            period=_period(told.period),
            lines=[_line(line) for line in told.lines],
            total=_line(told.total),
            certificates=[_certificate(one) for one in told.certificates],
            notes=told.notes,
            lines_omitted=told.lines_omitted,
        )

    async def GetComplianceReport(
        self, request: pb.GetComplianceReportRequest, context: Any
    ) -> pb.GetComplianceReportResponse:
        unit = request.functional_unit
        if len(unit) > TEXT_MAX:
            raise Refused(f"has {len(unit)} letters; a figure's name has at most {TEXT_MAX}", field="functional_unit")
        return _compliance(await self._statements.compliance(_asked(request), unit))

    async def RecordCertificate(
        self, request: pb.RecordCertificateRequest, context: Any
    ) -> pb.RecordCertificateResponse:
        told = _told(request.certificate, caller().principal)
        await self._statements.record(caller().tenant, told)
        return pb.RecordCertificateResponse()

    async def ListCertificates(self, request: pb.ListCertificatesRequest, context: Any) -> pb.ListCertificatesResponse:
        period = _period_of(request.period, "period") if request.HasField("period") else None
        found = await self._statements.certificates(caller().tenant, period)
        return pb.ListCertificatesResponse(certificates=[_certificate(one) for one in found])

    async def VoidCertificate(self, request: pb.VoidCertificateRequest, context: Any) -> pb.VoidCertificateResponse:
        await self._statements.void(caller().tenant, request.certificate_id, caller().principal)
        return pb.VoidCertificateResponse()


def statement_door(statements: Statements) -> Callable[[aio.Server], None]:
    """What puts StatementService on a server."""
    return lambda server: add_StatementServiceServicer_to_server(StatementDoor(statements), server)


def _asked(request: pb.GetStatementRequest | pb.GetComplianceReportRequest) -> Asked:
    if request.project and not is_name(request.project):
        raise Refused(f"{request.project!r} must be {NAME_RULE}", field="project")
    return Asked(caller().tenant, _period_of(request.period, "period"), request.project)


def _period_of(period: pb.Period, field: str) -> Period:
    if not period.HasField("starts_at") or not period.HasField("ends_at"):
        raise Refused("tell when it starts and when it ends", field=field)
    return Period(_moment(period.starts_at, f"{field}.starts_at"), _moment(period.ends_at, f"{field}.ends_at"))


def _moment(stamp: Timestamp, field: str) -> datetime:
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Refused("is no time between the years 1 and 9999", field=field) from error


def _told(told: pb.Certificate, principal: str) -> Certificate:
    return Certificate(
        certificate_id=told.certificate_id,
        kind=told.kind,
        registry=told.registry,
        zone=told.zone.strip().upper(),
        period=_period_of(told.period, "certificate.period"),
        energy_kwh=told.energy_kwh,
        intensity_grams_per_kwh=told.intensity_grams_per_kwh,
        offset_grams_co2e=told.offset_grams_co2e,
        cost_usd=told.cost_usd if told.HasField("cost_usd") else None,
        principal=principal,
    )


def _period(period: Period) -> pb.Period:
    return pb.Period(starts_at=timestamp(period.starts_at), ends_at=timestamp(period.ends_at))


def _line(line: Line) -> pb.StatementLine:
    return pb.StatementLine(
        label=line.label,
        name=line.name,
        energy_joules=line.energy_joules,
        energy_joules_range=line.energy_joules_range,
        carbon_grams_co2e_location=line.carbon_grams_co2e_location,
        embodied_grams_co2e=line.embodied_grams_co2e,
        electricity_usd=line.electricity_usd,
        rent_usd=line.rent_usd,
        runs=line.runs,
        samples=line.samples,
    )


def _certificate(one: Certificate) -> pb.Certificate:
    return pb.Certificate(
        certificate_id=one.certificate_id,
        kind=one.kind,
        registry=one.registry,
        zone=one.zone,
        period=_period(one.period),
        energy_kwh=one.energy_kwh,
        intensity_grams_per_kwh=one.intensity_grams_per_kwh,
        offset_grams_co2e=one.offset_grams_co2e,
        cost_usd=one.cost_usd,
        principal=one.principal,
        voided=one.voided,
    )


def _compliance(report: Compliance) -> pb.GetComplianceReportResponse:
    return pb.GetComplianceReportResponse(
        period=_period(report.period),
        energy_kwh=report.energy_kwh,
        energy_kwh_range=report.energy_kwh_range,
        scope2_location_grams_co2e=report.scope2_location_grams_co2e,
        scope2_market_grams_co2e=report.scope2_market_grams_co2e,
        certified_kwh=report.certified_kwh,
        scope3_embodied_grams_co2e=report.hardware.embodied_grams_co2e,
        sci_grams_co2e=report.sci_grams_co2e,
        functional_unit=report.functional_unit,
        functional_units=report.functional_units,
        offset_grams_co2e=report.offset_grams_co2e,
        factors=[_factor(one) for one in report.factors],
        certificates=[_certificate(one) for one in report.certificates],
        notes=report.notes,
    )


def _factor(factor: Factor) -> pb.Factor:
    return pb.Factor(
        zone=factor.basis.zone,
        intensity_grams_per_kwh=factor.intensity_grams_per_kwh,
        source=factor.basis.source,
        kind=factor.basis.kind,
        year=factor.year,
        signal=factor.basis.signal,
        accounting=factor.basis.accounting,
        boundary=factor.basis.boundary,
        energy_joules=factor.energy_joules,
    )
