"""What a meter is and what it says. Each file beside this one that is named after a device holds one meter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ergonaut.events.telemetry import Method


@dataclass(frozen=True, slots=True)
class CounterMark:
    """Where a counter in hardware stands, and where it begins again at zero; it counts on while nobody reads it."""

    name: str
    value_microjoules: int
    wraps_at_microjoules: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What one component has used since a beginning of the meter's own choice; only differences mean anything.

    `marks` are the raw counters that a reading rests on, for a reader that outlives the meter. `idle_fraction` is the power of
    the idle component over that at full load, which splits its energy into idling and work; None where the meter knows none.
    """

    component: str
    method: Method
    source: str
    range_fraction: float | None = None
    energy_joules: float | None = None
    marks: tuple[CounterMark, ...] = ()
    idle_fraction: float | None = None

    @property
    def measured(self) -> bool:
        """Whether there is a figure at all; where there is none, that does not mean zero."""
        return self.energy_joules is not None


class Meter(Protocol):
    """Something that tells the cumulative energy of one component of this host, or of several."""

    def read(self) -> Sequence[Reading]:
        """The cumulative figures as of now; never raises for a device that has gone away, but says so in the reading."""
        ...

    def users(self) -> Mapping[str, Mapping[int, float]]:
        """For components that only some processes hold: each process's weight since the last call, by component."""
        ...

    def close(self) -> None:
        """Give back what the meter holds; closing twice is harmless."""
        ...


class NotMeasured:
    """Stands for a component that nothing here can measure, and says why, so that nobody reads its absence as zero."""

    def __init__(self, component: str, source: str) -> None:
        self._readings = (Reading(component, Method.NOT_MEASURED, source),)

    def read(self) -> Sequence[Reading]:
        return self._readings

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return {}

    def close(self) -> None:
        return
