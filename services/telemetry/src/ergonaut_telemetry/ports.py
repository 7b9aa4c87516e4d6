"""What the agent needs of the world, all called from the loop; only meters that may block are read in a thread."""

from collections.abc import Sequence
from typing import Protocol

from ergonaut.events import Event, IntensityChanged
from ergonaut.metering import HostFacts
from ergonaut_telemetry.domain import HostReading, Memory, RunTotals, Spooled, Turn


class Meters(Protocol):
    """The host's meters and processes."""

    @property
    def may_block(self) -> bool:
        """Whether a reading may take longer than the loop can wait; then it must be done in a thread, which costs more."""
        ...

    def read(self) -> HostReading:
        """Everything at one moment: cumulative energy of each component, and the processes that belong to runs."""
        ...

    def facts(self) -> HostFacts:
        """What the host is, for whoever offers it."""
        ...


class Spool(Protocol):
    """What must outlive the agent: numbered events that are not sent yet, the last reading, the runs' totals, intensities.

    One agent at a time; every method is one transaction. Those that write raise Unavailable where the disk takes nothing at
    all, and have changed nothing then.
    """

    @property
    def producer(self) -> str:
        """Who numbers the events; the same as long as the spool lives, another for a new spool."""
        ...

    def remembered(self) -> Memory:
        """The state after the last turn that was recorded."""
        ...

    def record(self, turn: Turn) -> None:
        """Keep a turn's events and its state, both or neither; a full spool drops its oldest events for it."""
        ...

    def oldest(self, count: int) -> Sequence[Spooled]:
        """The first events that are waiting, in their order."""
        ...

    def sent(self, position: int) -> None:
        """Forget the event at this position and all before it: at once, and on disk with the next record at the latest.

        Of an agent that is killed before that, they are sent again, under the same ids.
        """
        ...

    def waiting(self) -> int:
        """How many events are waiting."""
        ...

    def dropped(self) -> int:
        """How many events were dropped unsent since the spool was opened."""
        ...

    def run(self, tenant: str, run_id: str) -> RunTotals | None:
        """A run's totals, of runs that have ended too, for as long as they are kept."""
        ...

    def keep_intensity(self, event: IntensityChanged) -> bool:
        """Keep a zone's intensities unless newer ones are kept already; tells whether they were.

        So are those that were told just before, whose hours may still be asked for.
        """
        ...

    def intensities(self) -> Sequence[IntensityChanged]:
        """The intensities that are kept of each zone, oldest first."""
        ...


class Announcer(Protocol):
    """Tells events to everybody."""

    async def tell(self, event: Event, body: bytes = b"") -> None:
        """Return once the event is stored by the bus; `body` is the event in JSON where that is at hand. Raises Unavailable, and
        Refused for an event that is too large to be ever taken."""
        ...
