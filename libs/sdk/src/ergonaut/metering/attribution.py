"""Whose a joule is: splits what one component used in an interval over the runs, other processes, and idling.

The rules, which hold for every host:
- CPU: the part that the machine would have used doing nothing is `idle` and charged to nobody but the host; the rest is
  shared by CPU-seconds. Which part that is follows from how busy the CPUs were and from the meter's ratio of idle to full.
- Memory: by resident bytes over the bytes built in; what is free is `idle`.
- GPU: wholly to the processes that hold it, by their work or else their memory on it; `idle` when nobody does, as is
  a slice of a card (MIG) that nobody holds. Where the meter cannot tell who holds it, wholly to who works on the CPU, by
  CPU-seconds; `idle` when nobody does.
- What draws the same whatever the host does (a ratio of 1) is wholly `idle`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ergonaut.metering.cpu_model import WATTS_PER_CPU_FULL, WATTS_PER_CPU_IDLE

IDLE_FRACTION = WATTS_PER_CPU_IDLE / WATTS_PER_CPU_FULL
"""Of a CPU whose meter knows no ratio of idle to full power: that of the average server, as the CPU model has it."""

RunKey = tuple[str, str]
"""Tenant and run id: two tenants may use the same id."""

OTHERS: RunKey = ("", "")
"""Stands among runs for every process that belongs to none."""


NOBODY: RunKey = ("", "nobody")
"""Stands among a GPU's holders for the part of it that no process holds."""


@dataclass(frozen=True, slots=True)
class HostUse:
    """What went on during an interval. Runs are by key; where weights are told for a GPU, `OTHERS` is among them.

    A GPU that is not in `gpu_weights` is one whose users nobody tells; one with no weights is held by nobody.
    """

    seconds: float
    logical_cpus: int
    busy_cpu_seconds: float
    memory_bytes: int
    memory_used_bytes: int
    run_cpu_seconds: Mapping[RunKey, float] = field(default_factory=dict)
    run_resident_bytes: Mapping[RunKey, int] = field(default_factory=dict)
    gpu_weights: Mapping[str, Mapping[RunKey, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Split:
    """One component's joules by whose they are; all parts together are the whole, up to rounding, and none is negative."""

    runs: Mapping[RunKey, float]
    others: float
    idle: float


def attribute(component: str, energy_joules: float, use: HostUse, idle_fraction: float | None = None) -> Split:
    """Split one component's energy over one interval; a component that is neither memory nor GPU follows the CPU.

    `idle_fraction` is the component's power when idle over that at full load, where its meter knows it.
    """
    if component == "dram":
        return _by_memory(energy_joules, use)
    if component.startswith("gpu"):
        weights = use.gpu_weights.get(component)
        return _by_work(energy_joules, use) if weights is None else _by_holders(energy_joules, weights)
    return _by_cpu(energy_joules, use, IDLE_FRACTION if idle_fraction is None else idle_fraction)


def dynamic_fraction(utilisation: float, idle_fraction: float = IDLE_FRACTION) -> float:
    """The part of the CPU's energy that its work causes, at a utilisation from 0 to 1: what exceeds the idle power.

    >>> dynamic_fraction(0.0), round(dynamic_fraction(1.0), 2), dynamic_fraction(1.0, idle_fraction=1.0)
    (0.0, 0.79, 0.0)
    """
    work = (1 - idle_fraction) * utilisation
    return work / (idle_fraction + work) if work > 0 else 0.0


def _by_cpu(energy_joules: float, use: HostUse, idle_fraction: float) -> Split:
    busy = _busy_cpu_seconds(use)
    capacity = use.logical_cpus * use.seconds
    utilisation = min(1.0, busy / capacity) if capacity > 0 else 0.0
    # The share first: it is at most 1, so that rounding can never leave less than nothing for idling.
    dynamic = energy_joules * dynamic_fraction(utilisation, idle_fraction)
    return _shared(dynamic, use.run_cpu_seconds, busy, idle=energy_joules - dynamic)


def _by_work(energy_joules: float, use: HostUse) -> Split:
    busy = _busy_cpu_seconds(use)
    return _shared(energy_joules, use.run_cpu_seconds, busy, idle=0.0) if busy else Split({}, 0.0, energy_joules)


def _busy_cpu_seconds(use: HostUse) -> float:
    # The host's and the processes' clocks tick apart, so in a short interval the runs may seem busier than their host.
    return max(use.busy_cpu_seconds, sum(use.run_cpu_seconds.values()), 0.0)


def _by_memory(energy_joules: float, use: HostUse) -> Split:
    ours = sum(use.run_resident_bytes.values())
    # Pages that processes share are counted in each of them, so their sum may pass what is in use, or even built in.
    used = max(use.memory_used_bytes, ours, 0)
    built_in = max(use.memory_bytes, used)
    in_use = energy_joules * (used / built_in) if built_in else 0.0
    return _shared(in_use, use.run_resident_bytes, used, idle=energy_joules - in_use)


def _by_holders(energy_joules: float, weights: Mapping[RunKey, float]) -> Split:
    whole = sum(weights.values())
    if whole <= 0:
        return Split({}, 0.0, energy_joules)
    runs = {key: weight for key, weight in weights.items() if key not in (OTHERS, NOBODY)}
    held = energy_joules * (1.0 - weights.get(NOBODY, 0.0) / whole)
    return _shared(held, runs, whole - weights.get(NOBODY, 0.0), idle=energy_joules - held)


def _shared(energy_joules: float, weights: Mapping[RunKey, float], whole: float, *, idle: float) -> Split:
    runs = {key: energy_joules * (weight / whole) if whole else 0.0 for key, weight in weights.items()}
    return Split(runs, max(0.0, energy_joules - sum(runs.values())), idle)
