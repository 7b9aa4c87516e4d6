"""The Temporal contract of rollouts: a new version of a model takes over an endpoint step by step, or is taken back.

    temporal workflow start --type Rollout --task-queue ergonaut-runs --workflow-id rollout/default/digits \\
        --input '{"endpoint": "digits", "model": "digits", "version": 2, "hold_seconds": 60}'

Signal `abort` takes the version back; query `progress` answers a `RolloutProgress`. Cancelling does as `abort` does. A workflow
that is terminated leaves the endpoint as it stands.
"""

from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from ergonaut.ids import NAME_PATTERN, NAME_RULE

ROLLOUT = "Rollout"
"""Name of the workflow."""

ABORT_SIGNAL = "abort"
"""Name of the signal that takes the new version back; its input is an `ergonaut.workflows.Asked`, or nothing."""

CHAMPION = "champion"
"""The alias that a version gets when it has taken over, unless told otherwise, and the first choice of a route to replace."""

CANARY = "canary"
"""Name of the route that leads to the new version while it is watched."""

STEPS_MAX = 20
"""Each step is a trial of its own, and the more there are the more each must show."""

Name = Annotated[str, Field(pattern=NAME_PATTERN, description=NAME_RULE)]
Share = Annotated[float, Field(gt=0, lt=1)]
Margin = Annotated[float, Field(gt=0, le=1)]


def rollout_workflow_id(tenant: str, endpoint: str) -> str:
    """The id of an endpoint's rollout, so that there is one at a time."""
    return f"rollout/{tenant}/{endpoint}"


class _Contract(BaseModel):
    """A field that is not known is an error here: it is a slip of the pen."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Guards(_Contract):
    """What the new version is asked, each as by how much larger its share of bad answers may be; null is not asked."""

    errors: Margin = Field(default=0.01, description="Requests that failed by no fault of the caller.")
    slow: Margin | None = Field(
        default=0.05, description="Requests slower than the endpoint's limit; not asked where it has none."
    )
    wrong: Margin | None = Field(
        default=None,
        description="Predictions whose label came and was another. Asked, no version takes over without labels.",
    )


class RolloutRule(_Contract):
    """How sure a verdict must be, and on how much it must rest."""

    error: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        description="Probability that a version as good as the champion is ever taken back, and likewise that one worse than a "
        "margin takes over; over all steps and looks.",
    )
    requests_min: int = Field(default=200, ge=1, description="Requests of each of both before a version takes over.")
    requests_step_min: int = Field(default=20, ge=1, description="Requests of the new version before it gets more.")
    split_error: float = Field(
        default=1e-4,
        gt=0,
        lt=0.5,
        description="Probability that a right split of the requests is taken for a wrong one.",
    )


class RolloutSettings(_Contract):
    """How a version takes over."""

    steps: tuple[Share, ...] = Field(
        default=(0.01, 0.05, 0.25, 0.5),
        min_length=1,
        max_length=STEPS_MAX,
        description="The new version's share of the requests, one step after the other, growing; after the last it takes over.",
    )
    hold_seconds: float = Field(default=60.0, ge=0, le=7 * 86_400, description="How long each step lasts at least.")
    look_seconds: float = Field(default=5.0, ge=0.1, le=3600, description="Between two looks at the figures.")
    deadline_seconds: float = Field(
        default=86_400.0, gt=0, le=30 * 86_400, description="Without a verdict by then, the version is taken back."
    )
    guards: Guards = Guards()
    rule: RolloutRule = RolloutRule()
    alias: Annotated[str, Field(pattern=rf"{NAME_PATTERN}|^$")] = Field(
        default=CHAMPION, description="The alias that the version gets when it has taken over; empty is none."
    )

    @model_validator(mode="after")
    def _steps_grow(self) -> Self:
        if any(after <= before for before, after in pairwise(self.steps)):
            raise ValueError("steps: must grow from one to the next, such as [0.01, 0.05, 0.25, 0.5]")
        return self


class RolloutInput(RolloutSettings):
    """What `Rollout` is started with."""

    tenant: Name = "default"
    endpoint: Name = Field(
        description="The endpoint; it must have exactly one route that gets requests, or one named champion."
    )
    model: Name
    version: int = Field(ge=1, description="The version's number.")
    because: str = Field(default="", max_length=1024, description="Why, for people.")
    so_far: dict[str, Any] | None = Field(
        default=None,
        description="The workflow's own memory where it goes on in a new history; null for whoever starts one.",
    )


class RolloutState(StrEnum):
    """How a rollout stands."""

    STARTING = "starting"
    WATCHING = "watching"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"
    OVERTAKEN = "overtaken"
    """Somebody changed the endpoint meanwhile, and what they set stands."""
    FAILED = "failed"
    """It could not begin, or the endpoint could not be brought to its old routes; told by the door, not by the workflow."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self not in (RolloutState.STARTING, RolloutState.WATCHING)


class ArmFigures(BaseModel):
    """What one of both versions did in the present step."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    requests: int = 0
    failed: int = 0
    slow: int = 0
    labelled: int = 0
    wrong: int = 0


class RolloutProgress(BaseModel):
    """What the `progress` query answers, and what the workflow ends with."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    endpoint: str
    model: str
    version: int
    state: RolloutState = RolloutState.STARTING
    step: int = Field(default=0, description="Counts from 1; 0 before the first.")
    steps: int = 0
    share: float = Field(default=0.0, description="The new version's share of the requests now.")
    champion_model: str = ""
    champion_version: int = Field(default=0, description="What the endpoint served before; 0 is not known.")
    revision: int = Field(default=0, description="The endpoint's revision that this rollout made last.")
    champion: ArmFigures = ArmFigures()
    canary: ArmFigures = ArmFigures()
    because: str = Field(default="", description="What the last look said.")
    started_at: AwareDatetime | None = None
    deadline_at: AwareDatetime | None = None
