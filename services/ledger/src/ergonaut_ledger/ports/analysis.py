"""What the analysis asks of the books beyond `Store`: samples by phase and host, phases, and anomalies that were told."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from ergonaut.events.runs import PhaseSpan
from ergonaut_ledger.domain.anomalies import AcceleratorUse, Anomaly, Subject, Watts
from ergonaut_ledger.domain.efficiency import Slice
from ergonaut_ledger.domain.recommending import HostShares, IdleAccelerator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time, its end left out."""

    starts_at: datetime
    ends_at: datetime


class AnalysisBooks(Protocol):
    """The tenant's books, asked for what the analysis needs. All raise Unavailable when busy."""

    async def phases(self, tenant: str, run_id: str, limit: int) -> tuple[list[PhaseSpan], int]:
        """A run's first phases in order of their beginnings, and how many there are in all."""
        ...

    async def newest_steps(self, tenant: str, run_id: str, limit: int) -> list[PhaseSpan]:
        """A run's last numbered phases in order of their beginnings."""
        ...

    async def slices(self, tenant: str, run_id: str, slices_max: int, since: datetime = EPOCH) -> list[Slice]:
        """A run's samples that began since a time; where there are more than so many, neighbours of a meter are put together."""
        ...

    async def predictions(self, tenant: str, during: Stretch) -> int:
        """Predictions that the gateway told of within a time."""
        ...

    async def heaviest_runs(self, tenant: str, during: Stretch, limit: int) -> list[str]:
        """The runs that used most energy in a time, most first; from sums by day, hour and minute where these are up to date."""
        ...

    async def host_shares(self, tenant: str, host: str, run_id: str, during: Stretch) -> HostShares | None:
        """What a host's CPU used in a time, by whom it was charged to; None where it was not measured."""
        ...

    async def idle_accelerators(self, tenant: str, during: Stretch, limit: int) -> list[IdleAccelerator]:
        """Accelerators and what they used in the hours in which no run held them, as far as these are summed; most first."""
        ...

    async def tenants(self, since: datetime, limit: int) -> list[str]:
        """Tenants of which power was sampled since a time, as far as that is summed by minute, in order."""
        ...

    async def power_of_runs(
        self, tenant: str, during: Stretch, step_seconds: int, series_max: int
    ) -> dict[Subject, list[Watts]]:
        """Power in steps, in order of time, of the runs, hosts and components that used most by the sums of minutes."""
        ...

    async def accelerator_use(self, tenant: str, run_ids: Sequence[str], since: datetime) -> dict[str, AcceleratorUse]:
        """What these runs ever used of accelerators, by run, as far as that is summed; single minutes only since a time."""
        ...

    async def runs_with_phases(self, tenant: str, since: datetime, limit: int) -> list[str]:
        """Runs that told of phases since a time, newest first."""
        ...

    async def anomalies(self, tenant: str, run_id: str, since: datetime, limit: int) -> list[Anomaly]:
        """Anomalies that were told since a time, newest first; an empty run does not narrow."""
        ...
