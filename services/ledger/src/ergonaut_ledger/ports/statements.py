"""What statements need of the world: sums out of the books, and the book of certificates."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from ergonaut_ledger.domain.certificates import Certificate
from ergonaut_ledger.domain.compliance import GridDay, Hardware
from ergonaut_ledger.domain.statements import Asked, StatementSums, Unmeasured

GRID_DAYS_MAX = 100_000
"""Days times zones times sources of one report; a year of 270 zones fits."""

UNMEASURED_MAX = 50
"""Components that are named as not measured, those with most samples first."""

CERTIFICATES_MAX = 10_000
"""Certificates of one tenant; more are beyond one answer."""


class StatementBooks(Protocol):
    """Sums of samples, each sample once; a sample is of the time in which it began. All methods raise Unavailable."""

    async def sums(self, asked: Asked, line_by: str, lines_max: int) -> StatementSums:
        """What runs used, line by line and in all, and what was charged to none."""
        ...

    async def names(self, tenant: str, line_by: str, labels: Sequence[str]) -> Mapping[str, str]:
        """What people call runs or jobs, by label."""
        ...

    async def grid_days(self, asked: Asked) -> list[GridDay]:
        """Measured energy by day and basis, all shares, at most GRID_DAYS_MAX + 1."""
        ...

    async def hardware(self, asked: Asked) -> Hardware:
        """What making the machines emitted, as far as it is known."""
        ...

    async def unmeasured(self, asked: Asked) -> list[Unmeasured]:
        """Components that were not measured, at most UNMEASURED_MAX."""
        ...

    async def messages_missing(self, asked: Asked) -> int:
        """Numbers of the tenant's producers that lie between others and are not here."""
        ...

    async def functional_units(self, asked: Asked, unit: str) -> float:
        """The sum of a figure over all runs that have samples in the time, as they told it last; runs where no unit is named."""
        ...


class CertificateBook(Protocol):
    """Every version of every certificate; the newest stands. All methods raise Unavailable."""

    async def find(self, tenant: str, certificate_id: str) -> Certificate | None:
        """A certificate as it stands."""
        ...

    async def everything(self, tenant: str) -> list[Certificate]:
        """All of a tenant's certificates as they stand, voided ones too, newest period first; at most CERTIFICATES_MAX."""
        ...

    async def append(self, tenant: str, certificate: Certificate, at: datetime) -> None:
        """Add a version; of two tellings of the same version the earlier stands."""
        ...
