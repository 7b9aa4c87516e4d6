"""What became of a wish to have something run. Emitted by `scheduler`."""

from typing import ClassVar

from pydantic import Field

from ergonaut.events.base import Event, Name
from ergonaut.jobs import JobSpec, Placement


class JobSubmitted(Event):
    """A job was taken in."""

    TYPE: ClassVar[str] = "jobs.job.submitted"

    job_id: Name
    job: JobSpec

    @property
    def key(self) -> str:
        return self.job_id


class JobPlaced(Event):
    """An offer and a start time were chosen."""

    TYPE: ClassVar[str] = "jobs.job.placed"

    job_id: Name
    placement: Placement
    weighed: int = Field(ge=1, description="How many candidates there were.")

    @property
    def key(self) -> str:
        return self.job_id


class JobRefused(Event):
    """No offer may carry the job."""

    TYPE: ClassVar[str] = "jobs.job.refused"

    job_id: Name
    because: str

    @property
    def key(self) -> str:
        return self.job_id


class JobCancelled(Event):
    """Somebody asked for the job to stop."""

    TYPE: ClassVar[str] = "jobs.job.cancelled"

    job_id: Name
    because: str = ""

    @property
    def key(self) -> str:
        return self.job_id
