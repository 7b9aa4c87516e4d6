"""What a job's workflow remembers between two attempts: enough to go on in a new history when the old one has grown long."""

from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import TypeAdapter, ValidationError

from ergonaut.jobs import Placement
from ergonaut.workflows import RunJobInput
from ergonaut_orchestrator.domain.attempts import RunEnd
from ergonaut_orchestrator.domain.wishes import Wishes

RESUME_RETRY_MIN = timedelta(minutes=1)
"""How soon a resumed job that finds no place asks again; doubled each time."""


@dataclass(slots=True)
class SoFar:
    """How far a job has come."""

    wishes: Wishes = field(default_factory=Wishes)
    placement: Placement | None = None
    runs_begun: int = 0
    tries: int = 0
    checkpoint: str = ""
    interrupted: tuple[str, RunEnd] | None = None
    """The last run and its end, where the job may go on after it."""
    has_paused: bool = False
    pause_is_told: bool = False
    retry_after: timedelta = RESUME_RETRY_MIN


_JSON = TypeAdapter(SoFar)


def so_far_of(given: bytes) -> SoFar:
    """How far the job of an input has come; what cannot be read is a new job, and refused where it is no job at all."""
    try:
        request = RunJobInput.model_validate_json(given)
        return _JSON.validate_python(request.so_far, strict=False) if request.so_far else SoFar()
    except ValidationError:
        return SoFar()


def going_on(request: RunJobInput, so_far: SoFar) -> RunJobInput:
    """The input with which a new history goes on."""
    return request.model_copy(update={"so_far": _JSON.dump_python(so_far, mode="json")})
