"""The rules of metering a host: what an interval cost whom, in joules, grams and dollars. Pure; called by the service."""

from ergonaut_telemetry.domain.accounting import Terms, account
from ergonaut_telemetry.domain.charging import Charge, charges_between
from ergonaut_telemetry.domain.readings import (
    ComponentReading,
    Holder,
    HostReading,
    RunKey,
    RunReading,
    accelerator_name,
)
from ergonaut_telemetry.domain.stamping import Grid, grid_of, grid_with, intensity_at
from ergonaut_telemetry.domain.totals import ComponentTotal, HostTotals, RunTotals, mean_watts
from ergonaut_telemetry.domain.turns import Memory, Spooled, Turn

__all__ = [
    "Charge",
    "ComponentReading",
    "ComponentTotal",
    "Grid",
    "Holder",
    "HostReading",
    "HostTotals",
    "Memory",
    "RunKey",
    "RunReading",
    "RunTotals",
    "Spooled",
    "Terms",
    "Turn",
    "accelerator_name",
    "account",
    "charges_between",
    "grid_of",
    "grid_with",
    "intensity_at",
    "mean_watts",
]
