"""What happens to an attempt of a job. Emitted by `orchestrator`, or by a tracker that streams and has no orchestrator."""

from enum import StrEnum
from math import isfinite
from typing import Annotated, Any, ClassVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from ergonaut.events.base import Event, Name


def _finite_only(metrics: Any) -> Any:
    """Without figures that JSON cannot tell: a loss that became NaN must not cost the whole fact."""
    if not isinstance(metrics, dict):
        return metrics
    return {name: value for name, value in metrics.items() if not isinstance(value, float) or isfinite(value)}


Metrics = Annotated[dict[str, float], BeforeValidator(_finite_only)]
"""A run's figures by name; those that are not finite are left out."""


class RunState(StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunEvent(Event):
    """What all events of a run have."""

    TYPE: ClassVar[str] = "runs.run.observed"

    run_id: Name
    job_id: str = Field(default="", description="Empty for a run that a tracker started.")

    @property
    def key(self) -> str:
        return self.run_id


class RunStarted(RunEvent):
    """A run's program was started."""

    TYPE: ClassVar[str] = "runs.run.started"

    name: str
    project: str = Field(default="", description="The project that the run is of; empty where there is none.")
    attempt: int = Field(default=1, ge=1)
    host: Name
    provider: Name
    region: str
    zone: str = ""
    machine_type: str
    offer_id: str = ""
    price_microusd_per_hour: int = Field(default=0, ge=0)
    electricity_microusd_per_kwh: int = Field(default=0, ge=0)
    started_at: AwareDatetime


class RunProgressed(RunEvent):
    """The run's own words on where it is; only the newest matters."""

    TYPE: ClassVar[str] = "runs.run.progressed"

    phase: str = ""
    metrics: Metrics = Field(default_factory=dict)


class RunPreempted(RunEvent):
    """The run's machine was lost or the run was interrupted; another attempt follows."""

    TYPE: ClassVar[str] = "runs.run.preempted"

    because: str
    ended_at: AwareDatetime


class RunPaused(RunEvent):
    """The run was asked to stop for a while, has written its checkpoint and given its machine back; it may be resumed."""

    TYPE: ClassVar[str] = "runs.run.paused"

    because: str
    budget_id: str = Field(default="", description="The budget that asked for it; empty where a person did.")
    checkpoint: str = Field(
        default="", description="The checkpoint's name in the object store; empty where none was left."
    )
    ended_at: AwareDatetime


PHASES_MAX = 500
"""Of one event; whoever tells begins another."""


class PhaseSpan(BaseModel):
    """One phase that a run went through, such as an epoch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    phase: str = Field(description="The phase and those around it, outermost first, joined by `/`.")
    step: int | None = Field(default=None, description="Its number, such as the epoch; null where it has none.")
    started_at: AwareDatetime
    ended_at: AwareDatetime
    metrics: Metrics = Field(default_factory=dict, description="Figures told within it, the newest of each name.")


class PhasesFinished(RunEvent):
    """Phases that a run has left, in the order in which they ended; told in batches, since there may be many."""

    TYPE: ClassVar[str] = "runs.phase.finished"

    phases: tuple[PhaseSpan, ...] = Field(min_length=1, max_length=PHASES_MAX)


class RunFinished(RunEvent):
    """The run has ended for good."""

    TYPE: ClassVar[str] = "runs.run.finished"

    state: RunState
    exit_code: int | None = Field(default=None, description="The program's; null where it never started or was killed.")
    because: str = ""
    metrics: Metrics = Field(default_factory=dict, description="The last figures that the tracker told.")
    counted: tuple[str, ...] = Field(
        default=(),
        description="Those of `metrics` that count work, told by `run.count`; the others are levels and scores.",
    )
    artifacts: tuple[str, ...] = Field(
        default=(), description="Names in the object store's bucket `artifacts-<tenant>`."
    )
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime
