"""What became of a wish to have something run. Emitted by `scheduler`."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, Field

from ergonaut.events.base import Event, Name
from ergonaut.jobs import JobSpec, Placement


def _known_fields(value: Any, model: type[BaseModel] = JobSpec) -> Any:
    """A job as told, without fields that this reader does not know yet.

    A person who writes a job must be told of a slip of the pen, so `JobSpec` refuses unknown fields; a reader of events must
    ignore them, since whoever told may be newer.
    """
    if not isinstance(value, dict):
        return value
    known = {name: item for name, item in value.items() if name in model.model_fields}
    for name, item in known.items():
        inner = model.model_fields[name].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            known[name] = _known_fields(item, inner)
    return known


class JobSubmitted(Event):
    """A job was taken in."""

    TYPE: ClassVar[str] = "jobs.job.submitted"

    job_id: Name
    job: Annotated[JobSpec, BeforeValidator(_known_fields)]

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
