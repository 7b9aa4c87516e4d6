"""What the meters and the process table say at one moment. Two of these make an interval, and an interval makes charges."""

import re
from dataclasses import dataclass, field
from datetime import datetime

from ergonaut.metering import HostLoad, Reading, RunKey, Workload
from ergonaut.metering.processtable import ProcessStat
from ergonaut.runcontext import RunContext

__all__ = ["ComponentReading", "Holder", "HostReading", "RunKey", "RunReading", "accelerator_name"]


@dataclass(frozen=True, slots=True)
class ComponentReading:
    """One component's meter. A figure that is `lasting` means the same after the agent was restarted, as a reading's marks do."""

    reading: Reading
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class RunReading:
    """One run that uses the host; `cpu_seconds` counts since this agent process first saw it.

    Without members it used something since the last reading all the same, as its control group tells. `group` is one that the
    run has for itself alone, and `group_cpu_seconds` that group's own counting, which goes on while the agent is away.
    """

    context: RunContext
    cpu_seconds: float
    resident_bytes: int
    members: tuple[ProcessStat, ...]
    workload: Workload = field(default_factory=Workload)
    group: str = ""
    group_cpu_seconds: float | None = None
    told_by_tracker: bool = False
    """Whether the run's own tracker tells the bus of it, so that it is charged here and told there."""

    @property
    def key(self) -> RunKey:
        """What names the run."""
        return (self.context.tenant, self.context.run_id)


@dataclass(frozen=True, slots=True)
class Holder:
    """How much of a GPU's work since the last reading was a run's; an empty key stands for all other processes."""

    component: str
    run: RunKey
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
