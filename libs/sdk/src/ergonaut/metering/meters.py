"""What a meter is and what it says. Each file beside this one that is named after a device holds one meter.

A meter is added by a file and an entry point: in the group `ergonaut.meters` a distribution, this one or anybody's, names a
factory, which `discover` calls once with the host's context and which returns the meters that it could open.
"""

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ergonaut.events.telemetry import Method
from ergonaut.metering.load import HostLoad, read_load

ENTRY_POINT_GROUP = "ergonaut.meters"
PLATFORM = "platform"
"""The component of a meter that stands at the host's supply and so counts all other components in."""


NOBODYS_PID = 0
"""Among a component's users: the part of it that no process holds, such as a free slice of a card."""

USERS_NOT_TOLD = "; who uses it is not told, so it is shared by CPU time"
"""Ends the source of a GPU whose meter has no `users` for it."""


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
    the idle component over that at full load, which splits its energy into idling and work: 1 for what runs alike whatever the
    host does. None where the meter knows none. `inside` are joules of finer counters that lie within this one, which may be
    shown and are never added.
    """

    component: str
    method: Method
    source: str
    range_fraction: float | None = None
    energy_joules: float | None = None
    marks: tuple[CounterMark, ...] = ()
    idle_fraction: float | None = None
    inside: tuple[tuple[str, float], ...] = ()

    @property
    def measured(self) -> bool:
        """Whether there is a figure at all; where there is none, that does not mean zero."""
        return self.energy_joules is not None


class Meter(Protocol):
    """Something that tells the cumulative energy of one component of this host, or of several.

    It may also have `accelerators`, the names of the cards that it reads, and `intermittent`, true where it reads only at times.
    """

    def read(self) -> Sequence[Reading]:
        """The cumulative figures as of now; never raises for a device that has gone away, but says so in the reading."""
        ...

    def users(self) -> Mapping[str, Mapping[int, float]]:
        """For components that only some processes hold: each process's weight since the last call, by component.

        A process that cannot be told from others, such as one of another container, stands there by a negative number, and
        what nobody holds of a component under `NOBODYS_PID`. A GPU that nobody holds stands there without processes; one whose
        users cannot be told does not stand there.
        """
        ...

    def close(self) -> None:
        """Give back what the meter holds; closing twice is harmless."""
        ...


@dataclass(frozen=True, slots=True)
class HostContext:
    """What a factory may look at. Nothing else of the machine need be touched, so that a test can lay a host out on disk."""

    root: Path = Path("/")
    powercap: Path | None = None
    modules: Mapping[str, Any] = field(default_factory=dict)
    load: Callable[[], HostLoad] = read_load
    seconds: Callable[[], float] = time.monotonic
    path_variable: str | None = None

    def path(self, absolute: str) -> Path:
        """A path such as `/sys/class/hwmon`, under this host's root."""
        return self.root / absolute.lstrip("/")

    def program(self, name: str) -> str | None:
        """Where a program is, by this host's search path; None where there is none."""
        import shutil

        return shutil.which(name, path=self.path_variable)

    def module(self, name: str) -> Any:
        """A device's own Python module. Raises ImportError where it is not installed."""
        return self.modules[name] if name in self.modules else importlib.import_module(name)


MeterFactory = Callable[[HostContext], Sequence[Meter]]
"""Opens what it can: no meters where there is no such device, `NotMeasured` where there is one that may not be read."""


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
