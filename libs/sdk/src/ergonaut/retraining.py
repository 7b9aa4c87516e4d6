"""The Temporal contract of retraining: one long-lived workflow a model, which trains it again when the world has changed.

    temporal workflow start --type Retraining --task-queue ergonaut-runs --workflow-id retraining/default/digits \\
        --input '{"model": "digits", "recipe": {"job": {"name": "digits", "command": ["python", "train.py"],
                  "source": "sha256-...", "artifacts": ["*.onnx", "*.npz"], "duration_seconds_expected": 60}}}'

Signals: `drifted` (a `Drifted`), `train_now`, `pause`, `resume` (each an `ergonaut.workflows.Asked`, or nothing), `set_recipe` (a
`Recipe`). The query `progress` answers a `RetrainingProgress`. Cancelling ends it, and with it a training under way.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from ergonaut.jobs import JobSpec
from ergonaut.rollouts import Name, RolloutSettings

RETRAINING = "Retraining"
"""Name of the workflow."""

DRIFTED_SIGNAL = "drifted"
TRAIN_NOW_SIGNAL = "train_now"
SET_RECIPE_SIGNAL = "set_recipe"

CHALLENGER = "challenger"
"""The alias of the version that was trained last, until it takes over or is turned down."""

OUTCOMES_MAX = 10
"""Trainings of which the workflow tells afterwards; the events tell of all."""

SCHEDULE_FIELDS = 5
"""Of cron; more would be seconds, and no model is trained by the second."""

FileName = Annotated[str, Field(min_length=1, max_length=255)]


def retraining_workflow_id(tenant: str, model: str) -> str:
    """The id of a model's retraining, so that there is one at a time."""
    return f"retraining/{tenant}/{model}"


class _Contract(BaseModel):
    """A field that is not known is an error here: it is a slip of the pen."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metric(StrEnum):
    """By what two versions are compared."""

    ACCURACY = "accuracy"
    """Share of rows whose class is right; where an output has a column a class, the largest is the class."""
    RMSE = "rmse"
    """Root of the mean squared error, in the unit of what is predicted."""
    LOG_LOSS = "log_loss"
    """Mean of the negative logarithm of what the true class was given, nats."""

    @property
    def more_is_better(self) -> bool:
        """Whether a larger figure is the better one."""
        return self is Metric.ACCURACY


class Need(StrEnum):
    """What a new version has to be."""

    BETTER = "better"
    """By the margin at least, and so that an exact paired test says that it is no luck."""
    NOT_WORSE = "not-worse"
    """Worse by the margin at most, and so that the test does not say that the champion is better."""


class Judging(_Contract):
    """How a new version is held against the champion, on the rows that the training kept for that."""

    metric: Metric = Metric.ACCURACY
    need: Need = Need.BETTER
    margin: float = Field(default=0.0, ge=0, description="In the metric's unit.")
    p_value_max: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="Of the exact sign test (McNemar's) over the rows on which both differ; of rmse and log_loss, of swapping "
        "both versions' losses row by row.",
    )
    rows_min: int = Field(
        default=100, ge=1, description="Fewer rows decide nothing, and the new version is turned down."
    )
    input: str = Field(
        default="", max_length=255, description="The model's input that takes x; empty where it has one."
    )
    output: str = Field(
        default="", max_length=255, description="The output that is held against y; empty is the first."
    )


class Artifacts(_Contract):
    """The files that the training leaves, as the job's artifacts name them."""

    model: FileName = Field(default="model.onnx", description="The model, ONNX.")
    validation: FileName = Field(
        default="validation.npz",
        description="Rows it did not see, as numpy's savez writes them: x, and y with what is true.",
    )
    signature: str = Field(default="", max_length=255, description="The model's signature; empty where it has none.")


class When(_Contract):
    """What makes a model be trained again."""

    on_drift: bool = Field(default=True, description="When the gateway finds that it drifts, or that it got worse.")
    every_seconds: float | None = Field(
        default=None, ge=60, le=366 * 86_400, description="Also this long after the last training began; null is not."
    )
    schedule: str | None = Field(
        default=None,
        max_length=120,
        description="Also at these times, as cron tells them: minute, hour, day of month, month, day of week, such as "
        "`0 3 * * 1`; null is not. A time that comes in the cool-down, in a pause or during a training is left out.",
    )
    time_zone: str = Field(
        default="UTC",
        min_length=1,
        max_length=64,
        description="Whose clock the schedule follows, such as Europe/Berlin.",
    )
    cool_down_seconds: float = Field(
        default=3600.0, ge=0, le=30 * 86_400, description="After a training, until drift or time may cause another."
    )

    @field_validator("schedule")
    @classmethod
    def _has_five_fields(cls, given: str | None) -> str | None:
        if given is not None and len(given.split()) != SCHEDULE_FIELDS:
            raise ValueError(
                "must have five fields: minute, hour, day of month, month, day of week, such as '0 3 * * 1'"
            )
        return given


class RecipeRollout(RolloutSettings):
    """How the new version takes over an endpoint."""

    endpoint: Name


class Recipe(_Contract):
    """How a model is trained again, judged and put to use."""

    job: JobSpec = Field(description="The job that trains it; its deadline is set by `within_seconds`.")
    within_seconds: float = Field(
        default=86_400.0,
        ge=1,
        le=30 * 86_400,
        description="From the moment it is wanted the training must have ended; a cheap and clean hour within is waited for.",
    )
    when: When = When()
    artifacts: Artifacts = Artifacts()
    judging: Judging = Judging()
    rollout: RecipeRollout | None = Field(
        default=None, description="Null: the new version becomes the champion at once, without a canary."
    )


class RetrainingInput(_Contract):
    """What `Retraining` is started with."""

    tenant: Name = "default"
    model: Name
    recipe: Recipe
    so_far: dict[str, Any] | None = Field(
        default=None,
        description="The workflow's own memory where it goes on in a new history; null for whoever starts one.",
    )


class Drifted(BaseModel):
    """What the signal `drifted` carries."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_id: str = Field(default="", description="Of the event behind it; the same twice is heard once.")
    version: int = Field(
        default=0, ge=0, description="The version that drifts; one that is no longer served is not heard."
    )
    because: str = ""


class Trigger(StrEnum):
    """What caused a training."""

    HAND = "hand"
    DRIFT = "drift"
    TIME = "time"


class TrainingState(StrEnum):
    """Where a retraining is, or how it ended."""

    WAITING = "waiting"
    PAUSED = "paused"
    TRAINING = "training"
    VALIDATING = "validating"
    ROLLING_OUT = "rolling-out"
    PROMOTED = "promoted"
    TURNED_DOWN = "turned-down"
    """The new version is not as good as it had to be."""
    ROLLED_BACK = "rolled-back"
    """It was as good on the rows, and not among the requests; or somebody changed the endpoint meanwhile."""
    FAILED = "failed"
    CANCELLED = "cancelled"


class Compared(BaseModel):
    """What two versions said of the same rows."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    metric: Metric
    rows: int = Field(ge=0)
    champion: float | None = Field(default=None, description="Its figure; unset where there was no champion.")
    challenger: float
    better_rows: int = Field(default=0, ge=0, description="Rows on which the challenger did better.")
    worse_rows: int = Field(default=0, ge=0, description="Rows on which it did worse.")
    p_value: float = Field(default=1.0, ge=0, le=1, description="Of being so much better by luck alone.")
    p_value_worse: float | None = Field(
        default=None, ge=0, le=1, description="Of being so much worse by luck alone; unset where that was not asked."
    )


class Outcome(BaseModel):
    """One training and what came of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    trigger: Trigger
    state: TrainingState
    because: str = ""
    job_id: str = ""
    run_id: str = ""
    champion_version: int = Field(default=0, description="0: there was none.")
    challenger_version: int = Field(default=0, description="0: it did not come so far.")
    compared: Compared | None = None
    wanted_because: str = ""
    began_at: AwareDatetime
    ended_at: AwareDatetime | None = Field(default=None, description="Null while it is under way.")


class RetrainingProgress(BaseModel):
    """What the `progress` query answers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    state: TrainingState = TrainingState.WAITING
    because: str = ""
    next_at: AwareDatetime | None = Field(default=None, description="When it trains next, as far as is known.")
    current: Outcome | None = None
    outcomes: tuple[Outcome, ...] = Field(default=(), description="The last trainings, the newest first.")
    recipe: Recipe | None = None
