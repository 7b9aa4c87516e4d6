"""What an answer used that is made here, as its upstream measured it; of answers from elsewhere nothing is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ergonaut_gateway.domain.electricity import Range
from ergonaut_gateway.openai.domain.usage import NOT_MEASURED


@dataclass(frozen=True, slots=True)
class Measured:
    """Joules with their range, and how they were found; None is not measured."""

    energy_joules: Range | None
    method: str


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """What an answer took that was let go of, whole or not."""

    tokens_in: int
    tokens_out: int
    measured: Measured


Breaking = Callable[[], BrokenOff | None]
"""Tells it once the answer was let go of; None of one that was never begun, or is made elsewhere."""

Measuring = Callable[[], Measured | None]
"""Tells it once the answer is whole; None of one that is made elsewhere."""


def elsewhere() -> None:
    """What is measured here of an answer that is made elsewhere."""


def measured_of(footprint: Mapping[str, Any]) -> Measured:
    """What a footprint by CPU time tells.

    >>> told = {"energy_joules": 2.0, "energy_joules_low": 1.0, "energy_joules_high": 3.0}
    >>> measured_of({**told, "energy_method": "model", "energy_source": "a table"}).method
    'estimate: model, a table'
    >>> measured_of({"energy_method": "not-measured", "energy_source": "nothing tells"}).energy_joules is None
    True
    """
    method, source = footprint["energy_method"], footprint["energy_source"]
    # An estimate without a range would be taken for more than it is.
    if "energy_joules_low" not in footprint:
        return Measured(None, NOT_MEASURED)
    joules = (footprint["energy_joules"], footprint["energy_joules_low"], footprint["energy_joules_high"])
    return Measured(joules, f"estimate: {method}, {source}")
