"""What the meters and the process table say at one moment. Two of these make an interval, and an interval makes charges."""

import re
from dataclasses import dataclass
from datetime import datetime

from ergonaut.metering import HostLoad, Reading
from ergonaut.metering.processtable import ProcessStat
from ergonaut.runcontext import RunContext

RunKey = tuple[str, str]
"""Tenant and run id: two tenants may use the same id."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a counter in hardware stands, and where it begins again; it counts on while the agent is away."""

    name: str
    microjoules: int
    wraps_at_microjoules: int


@dataclass(frozen=True, slots=True)
class ComponentReading:
    """One component's meter. A figure that is `lasting` means the same after the agent was restarted, as marks always do."""

    reading: Reading
    lasting: bool = False
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class RunReading:
    """One run with living processes; `cpu_seconds` counts since this agent process first saw it."""

    context: RunContext
    cpu_seconds: float
    resident_bytes: int
    members: tuple[ProcessStat, ...]

    @property
    def key(self) -> RunKey:
        """What names the run."""
        return (self.context.tenant, self.context.run_id)


@dataclass(frozen=True, slots=True)
class Holder:
    """How much of a GPU's work since the last reading was a run's; an empty run id stands for all other processes."""

    component: str
    run_id: str
    weight: float


@dataclass(frozen=True, slots=True)
class HostReading:
    """The host at one moment.

    `load.at_seconds` and `process_clock_seconds`, which tells time as processes' start times do, go on while the agent is
    away; `agent` names this life of the agent.
    """

    boot_id: str
    agent: str
    at: datetime
    load: HostLoad
    process_clock_seconds: float
    components: tuple[ComponentReading, ...]
    runs: tuple[RunReading, ...] = ()
    holders: tuple[Holder, ...] = ()


def accelerator_name(driver_name: str) -> str:
    """The name by which offers and jobs call a card, of what its driver calls it.

    >>> accelerator_name("NVIDIA H100 80GB HBM3"), accelerator_name("Tesla T4")
    ('H100-80GB', 'T4')
    """
    words = re.split(r"[\s-]+", driver_name)
    return "-".join(word for word in words if not re.fullmatch(r"NVIDIA|Tesla|GeForce|HBM\w*|PCIe|SXM\d*", word))
