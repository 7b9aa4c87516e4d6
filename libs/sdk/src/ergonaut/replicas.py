"""The Temporal contract of replicas: one long-lived workflow a set of gateways, which keeps as many of them as are wanted.

    temporal workflow start --type Serving --task-queue ergonaut-runs --workflow-id serving/default/edge \\
        --input '{"name": "edge", "spec": {"replicas_min": 1, "replicas_max": 4}}'

Each replica is a job (`RunJob`) whose program is the platform's own gateway, with the platform's keys; so only operators may ask
for a set at the doors, and no other job can be made one. Signals: `set_replicas` (a `ReplicasSpec`), `stop` (an
`ergonaut.workflows.Asked`, or nothing). The query `progress` answers a `ServingProgress`. Cancelling does as `stop` does: every
replica finishes its requests and ends, and then the workflow does.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from ergonaut.ids import id_at
from ergonaut.jobs import KNOWN_PROVIDERS, Budget, Objective, Resources
from ergonaut.rollouts import Name

SERVING = "Serving"
"""Name of the workflow."""

SET_REPLICAS_SIGNAL = "set_replicas"
"""Name of the signal that sets what is kept; its input is a `ReplicasSpec`."""

REPLICAS_MAX = 32
"""Of one set: each is looked at in every look, and all of them are kept in the workflow's memory."""

SET_NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$"
SET_NAME_RULE = "1 to 24 lower-case letters, digits and dashes, beginning and ending with a letter or digit"
"""Shorter than other names, since the jobs of replicas are named after their set."""

SETTING_PATTERN = r"^ERGONAUT_GATEWAY_[A-Z][A-Z0-9_]{0,63}$"
NOT_TO_BE_SET = {
    "ERGONAUT_GATEWAY_HTTP_ADDRESS": "every replica takes free ports of its machine",
    "ERGONAUT_GATEWAY_GRPC_ADDRESS": "every replica takes free ports of its machine",
    "ERGONAUT_GATEWAY_METRICS_ADDRESS": "every replica takes free ports of its machine",
    "ERGONAUT_GATEWAY_ADVERTISED_ADDRESS": "every replica tells its own",
    "ERGONAUT_GATEWAY_REPLICA": "every replica is named after its job",
    "ERGONAUT_GATEWAY_STOP_SECONDS": "set drain_seconds instead",
    "ERGONAUT_GATEWAY_REQUEST_LOG_SALT": "it is a secret, and this is stored; set it where the orchestrator is started",
}
"""Settings of a gateway that a set cannot have, and why."""

_ROLLED = frozenset({"resources", "objective", "budget", "providers", "project", "settings", "drain_seconds"})
"""What a replica is made of: where it changes, replicas are replaced."""


def serving_workflow_id(tenant: str, name: str) -> str:
    """The id of a set's workflow, so that there is one at a time."""
    return f"serving/{tenant}/{name}"


def replica_job_prefix(name: str) -> str:
    """How the ids of all jobs of a set begin, and no others'."""
    return f"{name}-replica-"


def replica_job_id(name: str, at: datetime, entropy: int) -> str:
    """The id of a replica's job, which is also the name by which its gateway announces itself."""
    return id_at(f"{name}-replica", at, entropy)


class _Contract(BaseModel):
    """A field that is not known is an error here: it is a slip of the pen."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ReplicasSpec(_Contract):
    """How many gateways are kept, and what each of them is."""

    replicas_min: int = Field(default=1, ge=0, le=REPLICAS_MAX, description="Never fewer, whatever is wanted.")
    replicas_max: int = Field(
        default=1, ge=0, le=REPLICAS_MAX, description="Never more, but for one while they are replaced."
    )
    scale_down_after_seconds: float = Field(
        default=300.0,
        ge=0,
        le=86_400,
        description="There are fewer only when so long no more were wanted; more there are at once.",
    )
    ready_within_seconds: float = Field(
        default=180.0, ge=5, le=3600, description="One that does not announce itself within this is replaced."
    )
    drain_seconds: float = Field(
        default=30.0, ge=1, le=600, description="How long requests at work may still take when a replica is to end."
    )
    replace_after_seconds: float = Field(
        default=86_400.0,
        ge=600,
        le=30 * 86_400,
        description="Then another takes its place, where it is cheap and clean by then. It is placed for this time.",
    )
    resources: Resources = Resources()
    objective: Objective = Objective.BALANCED
    budget: Budget = Field(default=Budget(), description="Of each replica, until another takes its place.")
    providers: tuple[str, ...] = Field(default=(), description="Only these; empty for all.")
    project: str = Field(
        default="", pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$", description="The project that pays."
    )
    settings: dict[Annotated[str, Field(pattern=SETTING_PATTERN)], Annotated[str, Field(max_length=1024)]] = Field(
        default_factory=dict,
        max_length=64,
        description="Settings, ERGONAUT_GATEWAY_*, over those of the orchestrator's own environment. Not for secrets.",
    )

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> Self:
        if self.replicas_min > self.replicas_max:
            raise ValueError(f"replicas_max: must be {self.replicas_min} at least, which is replicas_min")
        return self

    @field_validator("providers")
    @classmethod
    def _known_providers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for provider in value:
            if provider not in KNOWN_PROVIDERS:
                raise ValueError(f"unknown provider {provider!r}; known are {', '.join(KNOWN_PROVIDERS)}")
        return value

    @field_validator("settings")
    @classmethod
    def _settings_of_its_own(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name in NOT_TO_BE_SET:
                raise ValueError(f"{name} cannot be set: {NOT_TO_BE_SET[name]}")
        return value

    def makes_the_same(self, other: Self) -> bool:
        """Whether replicas made by the other are as those made by this one."""
        return self.model_dump(include=set(_ROLLED)) == other.model_dump(include=set(_ROLLED))


class ServingInput(_Contract):
    """What `Serving` is started with."""

    tenant: Name = "default"
    name: str = Field(pattern=SET_NAME_PATTERN, description=SET_NAME_RULE)
    spec: ReplicasSpec = ReplicasSpec()
    so_far: dict[str, Any] | None = Field(
        default=None,
        description="The workflow's own memory where it goes on in a new history; null for whoever starts one.",
    )


class ReplicaState(StrEnum):
    """How a replica is."""

    STARTING = "starting"
    """Its job is being placed or its gateway has not announced itself yet."""
    SERVING = "serving"
    SILENT = "silent"
    """It announced itself once and does so no more; it is replaced unless it comes back within seconds."""
    LEAVING = "leaving"
    """It was asked to end and finishes its requests."""


class ReplicaTold(BaseModel):
    """One replica as it is now."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_id: str = Field(description="Its job; also the name by which its gateway announces itself.")
    state: ReplicaState
    address: str = Field(default="", description="Its gRPC, host:port, as it announced it.")
    because: str = Field(default="", description="Why it leaves.")
    outdated: bool = Field(
        default=False, description="It was made by an earlier spec, or long ago, and will be replaced."
    )
    began_at: AwareDatetime


class ServingProgress(BaseModel):
    """What the `progress` query answers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    stopping: bool = False
    because: str = Field(default="", description="What keeps it from having as many as it should, or why it stops.")
    wanted: int | None = Field(
        default=None, description="Of all gateways, as they forecast it; null where none has told."
    )
    target: int = Field(default=0, description="How many replicas there should be now.")
    replicas: tuple[ReplicaTold, ...] = Field(default=(), description="The oldest first.")
    spec: ReplicasSpec | None = None
