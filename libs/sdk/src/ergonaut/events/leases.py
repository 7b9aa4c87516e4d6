"""Machines that we hold and give back. Emitted by `orchestrator`."""

from typing import ClassVar

from pydantic import Field

from ergonaut.events.base import Event, Name


class LeaseEvent(Event):
    """What all events of a lease have."""

    TYPE: ClassVar[str] = "leases.lease.observed"

    lease_id: Name
    job_id: Name
    run_id: Name
    provider: Name

    @property
    def key(self) -> str:
        return self.lease_id


class LeaseAcquired(LeaseEvent):
    """A machine is ours from now on, and costs."""

    TYPE: ClassVar[str] = "leases.lease.acquired"

    offer_id: str
    host: Name


class LeaseReleased(LeaseEvent):
    """A machine was given back."""

    TYPE: ClassVar[str] = "leases.lease.released"

    because: str = Field(default="", description="Why it was given back.")
