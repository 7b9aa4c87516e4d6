"""Whether served models still see and say what they did, and samples of what was asked of them. Emitted by `gateway`."""

from typing import Annotated, ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ergonaut.events.base import Event, Name

REQUESTS_MAX = 100
"""Requests in one event."""

TENSORS_MAX = 16
"""Tensors of one request, inputs or outputs, that are told."""

VALUES_MAX = 512
"""Elements of one tensor that are told."""

OTHERS_MAX = 20
"""Features named beside the worst."""

Rows = Annotated[int, Field(ge=0)]


class DriftFound(Event):
    """What a model version gets or gives no longer looks as it did; told once an episode, of the feature that drifts most."""

    TYPE: ClassVar[str] = "models.drift.found"

    model: Name
    version: int = Field(ge=1)
    side: str = Field(description="inputs, or outputs: what changed may be the world or the model's view of it.")
    feature: str = Field(description="The feature that drifts most, as inputs.x[12].")
    statistic: str = Field(description="psi (nats), ks or jensen_shannon (distance, base 2).")
    value: float = Field(ge=0)
    threshold: float = Field(gt=0, description="What the statistic has to reach to be told.")
    p_value: float = Field(ge=0, le=1, description="Of so large a difference without drift, for this feature alone.")
    window_rows: Rows = Field(description="Rows that were compared.")
    reference_rows: Rows = Field(description="Rows that they were compared with.")
    rows: Rows = Field(description="Rows observed since the reference, those of the window included.")
    features_drifting: int = Field(ge=1)
    features_watched: int = Field(ge=1)
    others: tuple[str, ...] = Field(default=(), max_length=OTHERS_MAX, description="Other features, the worst first.")
    mean_reference: float | None = Field(
        default=None, description="Of the feature; unset where it has no finite value."
    )
    mean_window: float | None = None
    missing_share_reference: float = Field(default=0.0, ge=0, le=1)
    missing_share_window: float = Field(default=0.0, ge=0, le=1)

    @property
    def key(self) -> str:
        return self.model


class QualityChanged(Event):
    """A model version is wrong more often, or less, than when it was new; told once an episode and metric."""

    TYPE: ClassVar[str] = "models.quality.changed"

    model: Name
    version: int = Field(ge=1)
    metric: str = Field(description="accuracy, log_loss (nats), brier, rmse or mae (in the unit of what is predicted).")
    is_worse: bool
    value: float
    value_low: float = Field(description="Ends of the interval at the level at which a change is told.")
    value_high: float
    baseline: float
    baseline_low: float
    baseline_high: float
    window_rows: Rows = Field(description="Labelled rows that were compared, the newest.")
    baseline_rows: Rows = Field(description="Labelled rows that they were compared with, the version's first.")

    @property
    def key(self) -> str:
        return self.model


class LoggedTensor(BaseModel):
    """A tensor of a logged request; without values where `redaction` says why."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: tuple[bool | int | float | str | None, ...] = Field(
        default=(), max_length=VALUES_MAX, description="In row-major order; unset where not a number or infinite."
    )
    redaction: str = Field(
        default="", description="dropped; hashed, with the hash as the only value; or truncated, with the first values."
    )


class LoggedRequest(BaseModel):
    """One request that was answered."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    request_id: str
    answered_at: AwareDatetime
    latency_ms: float | None = Field(
        default=None, ge=0, description="Of the answer, waiting included; unset where it was not told."
    )
    inputs: tuple[LoggedTensor, ...] = Field(max_length=TENSORS_MAX)
    outputs: tuple[LoggedTensor, ...] = Field(max_length=TENSORS_MAX)


class RequestsLogged(Event):
    """A sample of the requests that a model version answered, in batches."""

    TYPE: ClassVar[str] = "inference.request.logged"

    model: Name
    version: int = Field(ge=1)
    rate: float = Field(gt=0, le=1, description="The share of requests that is sampled, by a hash of their ids.")
    requests: tuple[LoggedRequest, ...] = Field(min_length=1, max_length=REQUESTS_MAX)
    dropped: int = Field(default=0, ge=0, description="Sampled requests since the last batch that were not kept.")

    @property
    def key(self) -> str:
        return self.model
