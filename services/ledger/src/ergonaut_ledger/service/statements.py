"""Statements, compliance reports and the certificates that both show. Called by the gRPC door, always for one tenant."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ergonaut.errors import NotFound, Refused
from ergonaut_common.clock import Clock
from ergonaut_ledger.domain.certificates import (
    Certificate,
    Period,
    checked_certificate,
    checked_period,
    concerning,
    recorded,
    voided,
)
from ergonaut_ledger.domain.compliance import Compliance, GridDay, ResidualFactor, Use, compliance_of
from ergonaut_ledger.domain.compliance_notes import method_notes, weaknesses
from ergonaut_ledger.domain.statements import (
    LINES_MAX,
    Asked,
    Statement,
    added,
    checked_line_by,
    common_notes,
    line_of,
    statement_notes,
)
from ergonaut_ledger.ports.statements import GRID_DAYS_MAX, CertificateBook, StatementBooks

NAMED_MAX = 1_000
"""Lines that get a name for people; beyond a thousand nobody reads them, and each asks for a run's events."""


class Statements:
    """Tells a tenant what it used in the forms of bookkeepers and auditors."""

    def __init__(
        self,
        books: StatementBooks,
        certificates: CertificateBook,
        clock: Clock,
        residual: Mapping[str, ResidualFactor] | None = None,
    ) -> None:
        self._books = books
        self._certificates = certificates
        self._clock = clock
        self._residual = residual or {}

    async def statement(self, asked: Asked, line_by: str) -> Statement:
        """What was used, line by line. Raises Refused."""
        checked_period(asked.period)
        line_by = checked_line_by(line_by)
        sums = await self._books.sums(asked, line_by, LINES_MAX)
        labels = [one.label for one in sums.lines[:NAMED_MAX] if one.label]
        names = await self._books.names(asked.tenant, line_by, labels)
        parts = [sums.whole] if asked.project else [sums.whole, sums.unattributed]
        total = added(parts)
        lines = [line_of(one, names.get(one.label, "" if one.label else f"without a {line_by}")) for one in sums.lines]
        if len(parts) > 1 and parts[1].samples:
            lines.append(line_of(parts[1], "idling and other processes of the hosts"))
        return Statement(
            period=asked.period,
            lines=tuple(lines),
            total=line_of(total, "total"),
            certificates=tuple(concerning(await self._certificates.everything(asked.tenant), asked.period)),
            notes=(*statement_notes(total, [*sums.lines, *parts[1:]]), *await self._common_notes(asked)),
            lines_omitted=max(0, sums.labels - len(sums.lines)),
        )

    async def compliance(self, asked: Asked, functional_unit: str) -> Compliance:
        """Emissions by the GHG Protocol and ISO/IEC 21031. Raises Refused."""
        checked_period(asked.period)
        days = await self._grid_days(asked)
        use = Use(
            days=days,
            certificates=concerning(await self._certificates.everything(asked.tenant), asked.period),
            residual=self._residual,
            hardware=await self._books.hardware(asked),
            functional_unit=functional_unit,
            functional_units=await self._books.functional_units(asked, functional_unit),
            tenant_days=await self._grid_days(replace(asked, project="")) if asked.project else None,
        )
        report = compliance_of(asked.period, use)
        notes = (*method_notes(use), *weaknesses(use, report), *await self._common_notes(asked))
        return replace(report, notes=notes)

    async def record(self, tenant: str, told: Certificate) -> None:
        """Put a certificate on record; the same again changes nothing. Raises Refused or Conflict."""
        checked_certificate(told)
        wanted = recorded(await self._certificates.find(tenant, told.certificate_id), told)
        if wanted is not None:
            await self._certificates.append(tenant, wanted, self._clock.now())
            # Another process may have told a version of its own at the same moment; the earlier one stands.
            standing = await self._certificates.find(tenant, told.certificate_id)
            if standing is not None and not standing.voided:
                recorded(standing, told)

    async def certificates(self, tenant: str, period: Period | None) -> list[Certificate]:
        """Certificates on record, voided ones too, newest period first; those that meet the period where one is given."""
        if period is not None:
            checked_period(period, days_max=None)
        everything = await self._certificates.everything(tenant)
        return [one for one in everything if period is None or one.period.common(period)]

    async def void(self, tenant: str, certificate_id: str, principal: str) -> None:
        """Take a certificate out of the books; again changes nothing. Raises NotFound."""
        known = await self._certificates.find(tenant, certificate_id)
        if known is None:
            raise NotFound(
                f"no certificate {certificate_id!r} is on record; `ergonaut certificate list` tells which are"
            )
        change = voided(known, principal)
        if change is not None:
            await self._certificates.append(tenant, change, self._clock.now())

    async def _grid_days(self, asked: Asked) -> Sequence[GridDay]:
        days = await self._books.grid_days(asked)
        if len(days) > GRID_DAYS_MAX:
            raise Refused("has more days, zones and sources than one report can hold; ask for less", field="period")
        return days

    async def _common_notes(self, asked: Asked) -> list[str]:
        return common_notes(await self._books.unmeasured(asked), await self._books.messages_missing(asked))
