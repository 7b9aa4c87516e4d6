"""The parameters of the Open Inference Protocol and of Triton, which mean the same over both wires."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ergonaut.errors import Refused

UNSUPPORTED = ("shared_memory_region", "classification")
"""Parameters that would change the answer's meaning and that are not offered; all other unknown ones are passed over."""

SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
"""Parameters of requests that belong together; no model here remembers one request at the next."""

PRIORITY_MAX = 2**32 - 1
"""As with Triton."""

TIMEOUT_MICROSECONDS_MAX = 24 * 3600 * 1_000_000
"""A day; whoever waits longer does not wait."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request's parameters ask for."""

    binary: bool = False
    """Outputs as binary tensors, where nothing else is said of one."""
    priority: int = 0
    """1 goes first, 0 is the default."""
    timeout_seconds: float | None = None
    """How long the answer is of use; None is as long as it takes."""
    energy: bool = False
    """Whether the answer shall tell what it used."""


def asked(parameters: Mapping[str, Any]) -> Asked:
    """Read the parameters of a request. Raises Refused."""
    for name in SEQUENCE:
        if parameters.get(name):
            raise Refused("is not supported; each request stands for itself here", field=f"parameters.{name}")
    binary = flag(parameters.get("binary_data_output", False), field="parameters.binary_data_output")
    priority = _whole(parameters.get("priority", 0), PRIORITY_MAX, field="parameters.priority")
    timeout = _whole(parameters.get("timeout", 0), TIMEOUT_MICROSECONDS_MAX, field="parameters.timeout")
    energy = flag(parameters.get("energy", False), field="parameters.energy")
    return Asked(binary, priority, timeout / 1_000_000 if timeout else None, energy)


def flag(value: object, *, field: str) -> bool:
    """A parameter that is true or false. Raises Refused."""
    if not isinstance(value, bool):
        raise Refused("must be true or false", field=field)
    return value


def refuse_unsupported(parameters: Mapping[str, Any], *, field: str) -> None:
    """Raise Refused where a tensor's parameters ask for what is not offered."""
    for name in UNSUPPORTED:
        if name in parameters:
            raise Refused("is not supported", field=f"{field}.parameters.{name}")


def _whole(value: object, highest: int, *, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise Refused(f"must be a whole number from 0 to {highest}", field=field)
    return value
