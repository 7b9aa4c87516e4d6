"""What one sample leads to: the events to tell, the totals to show, and what to remember for the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ergonaut.events import PowerSampled
from ergonaut_telemetry.domain.readings import HostReading, RunKey
from ergonaut_telemetry.domain.totals import HostTotals, RunTotals


@dataclass(frozen=True, slots=True)
class Memory:
    """The state between two samples. It is in the spool too, so that a killed agent goes on where it was."""

    reading: HostReading | None = None
    sequences: Mapping[str, int] = field(default_factory=dict)
    runs: Mapping[RunKey, RunTotals] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """One sample's outcome. `runs` holds the runs whose totals changed; `memory` only those that have not ended."""

    memory: Memory
    host: HostTotals
    events: tuple[PowerSampled, ...] = ()
    runs: tuple[RunTotals, ...] = ()


@dataclass(frozen=True, slots=True)
class Spooled:
    """An event that waits to be sent, and its place in the queue."""

    position: int
    event: PowerSampled
    body: bytes = field(default=b"", compare=False)
    """The event in JSON, where it has been made already."""
