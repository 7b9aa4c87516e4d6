"""This host: its name, what it is made of, and the best meter for each of its components."""

import importlib
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ergonaut.metering.cpu_model import CpuModel
from ergonaut.metering.dram_model import DramModel
from ergonaut.metering.load import read_load
from ergonaut.metering.meters import Meter, NotMeasured
from ergonaut.metering.nvml import NvmlMeter
from ergonaut.metering.rapl import POWERCAP, RaplMeter

_CPUINFO = Path("/proc/cpuinfo")
_NAME_LENGTH_MAX = 63


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the host is made of."""

    cpu_name: str
    logical_cpus: int
    memory_gib: float
    accelerators: tuple[str, ...] = ()


def discover(powercap: Path = POWERCAP, nvml: Any = None) -> list[Meter]:
    """The best meter for each component of this host; what cannot be measured is among them and says why.

    `nvml` stands in for the module `pynvml`, which is imported where none is given.
    """
    return [*_cpu_and_memory(powercap), _gpus(nvml)]


def host_facts(meters: Sequence[Meter] = ()) -> HostFacts:
    """What this host is made of; its accelerators are those that the meters found."""
    load = read_load()
    accelerators = tuple(name for meter in meters if isinstance(meter, NvmlMeter) for name in meter.accelerators)
    return HostFacts(_cpu_name(), load.logical_cpus, load.memory_bytes / 2**30, accelerators)


def host_name(own_name: str = "") -> str:
    """This host's name, made fit for subjects and keys; ERGONAUT_HOST sets it where two hosts share one.

    >>> host_name("Lab_PC.example.org")
    'lab-pc-example-org'
    """
    name = own_name or os.environ.get("ERGONAUT_HOST", "") or platform.node()
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_NAME_LENGTH_MAX].strip("-") or "host"


def _cpu_and_memory(powercap: Path) -> list[Meter]:
    rapl = RaplMeter(powercap)
    readings = {reading.component: reading for reading in rapl.read()}
    if "platform" in readings and readings["platform"].measured:
        return [rapl]
    unread = {component: reading.source for component, reading in readings.items() if not reading.measured}
    if not readings or "platform" in unread:
        because = unread.get("platform", "no RAPL on this machine")
        return [CpuModel(because=because), DramModel(because=because)]
    measured = rapl.only(frozenset(readings) - frozenset(unread))
    meters: list[Meter] = [measured] if measured.components else []
    if "cpu" not in measured.components:
        meters.append(CpuModel(because=unread.get("cpu", "no RAPL counter for the package")))
    if "dram" not in measured.components:
        meters.append(DramModel(because=unread.get("dram", "no RAPL counter for memory")))
    return meters


def _gpus(nvml: Any) -> Meter:
    nvml = nvml or importlib.import_module("pynvml")
    try:
        meter = NvmlMeter(nvml)
    except nvml.NVMLError as error:
        return NotMeasured("gpu", f"no NVIDIA driver answers: {error}")
    if not meter.accelerators:
        meter.close()
        return NotMeasured("gpu", "the NVIDIA driver shows no card")
    return meter


def _cpu_name() -> str:
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()
