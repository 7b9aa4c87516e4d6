"""This host: its name and what it is made of."""

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ergonaut.metering.load import read_load
from ergonaut.metering.meters import HostContext, Meter
from ergonaut.metering.sysfs import text_or_empty

# It answers in milliseconds; a machine that cannot say what it is made of is to start all the same.
_SYSCTL_SECONDS_MAX = 2.0
_NAME_LENGTH_MAX = 63


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the host is made of."""

    cpu_name: str
    logical_cpus: int
    memory_gib: float
    accelerators: tuple[str, ...] = ()


def host_facts(meters: Sequence[Meter] = ()) -> HostFacts:
    """What this host is made of; its accelerators are those that the meters found."""
    load = read_load()
    accelerators = tuple(name for meter in meters for name in getattr(meter, "accelerators", ()))
    return HostFacts(cpu_identity().name, load.logical_cpus, load.memory_bytes / 2**30, accelerators)


def host_name(own_name: str = "") -> str:
    """This host's name, made fit for subjects and keys; ERGONAUT_HOST sets it where two hosts share one.

    >>> host_name("Lab_PC.example.org")
    'lab-pc-example-org'
    """
    name = own_name or os.environ.get("ERGONAUT_HOST", "") or platform.node()
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_NAME_LENGTH_MAX].strip("-") or "host"


@dataclass(frozen=True, slots=True)
class CpuIdentity:
    """What a CPU calls itself, and on x86 the numbers of its family and model, which it tells even to guests."""

    name: str
    family: int = 0
    model: int = 0


def cpu_identity(host: HostContext | None = None) -> CpuIdentity:
    """Which CPU this is, as far as it can be told."""
    host = host or HostContext()
    fields = _first_cpu(host.path("/proc/cpuinfo"))
    name = fields.get("model name") or _arm_name(fields, host) or _other_name(host)
    numbers = (fields.get(key, "") for key in ("cpu family", "model"))
    family, model = (int(text) if text.isdecimal() else 0 for text in numbers)
    return CpuIdentity(name, family, model)


# Implementer and part of the main identification register, from Arm's and NVIDIA's technical reference manuals.
_ARM_PARTS = {"0xd0c": "Neoverse-N1", "0xd40": "Neoverse-V1", "0xd49": "Neoverse-N2", "0xd4f": "Neoverse-V2"}


def _first_cpu(cpuinfo: Path) -> dict[str, str]:
    try:
        lines = cpuinfo.read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _arm_name(fields: Mapping[str, str], host: HostContext) -> str:
    part = _ARM_PARTS.get(fields.get("CPU part", ""), "")
    if part == "Neoverse-N1" and text_or_empty(host.path("/sys/class/dmi/id/sys_vendor")) == "Amazon EC2":
        return "AWS Graviton2"
    return f"ARM {part}" if part else ""


def _other_name(host: HostContext) -> str:
    sysctl = host.program("sysctl") if sys.platform == "darwin" else None
    if sysctl:
        import subprocess

        command = [sysctl, "-n", "machdep.cpu.brand_string"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=_SYSCTL_SECONDS_MAX, check=False)
        if said.stdout.strip():
            return said.stdout.strip()
    return platform.processor() or platform.machine()
