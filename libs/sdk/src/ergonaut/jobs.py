"""What somebody wants run, and where it is placed: the contract that a job file, gRPC, Temporal and events all share."""

import hashlib
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

KNOWN_PROVIDERS = ("local", "hetzner", "aws", "gcp", "azure", "lambda", "runpod", "vastai", "oci")
"""Providers whose offers are priced; which of them a fleet can use depends on its adapters and credentials."""


class Objective(StrEnum):
    """What to weigh first when placing a job."""

    BALANCED = "balanced"
    CHEAPEST = "cheapest"
    GREENEST = "greenest"
    FASTEST = "fastest"


class _Strict(BaseModel):
    """A field that is not known is an error here: in a file that a person wrote it is a slip of the pen."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Resources(_Strict):
    """The machine that a job needs."""

    vcpus: float = Field(default=1, gt=0, le=1024, description="Virtual CPUs.")
    memory_gib: float = Field(default=1, gt=0, le=24_576, description="Main memory, GiB.")
    accelerator: str = Field(default="", description="Accelerator by name, such as `H100-80GB`; empty for none.")
    accelerator_count: int = Field(default=0, ge=0, le=64)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.accelerator) != bool(self.accelerator_count):
            raise ValueError("give both accelerator and accelerator_count, or neither")
        return self


class BudgetAction(StrEnum):
    """What happens when a budget is used up."""

    TELL = "tell"
    PAUSE = "pause"
    """Runs save a checkpoint and give their machine back; they go on when there is budget again or somebody resumes them."""
    STOP = "stop"


class Budget(_Strict):
    """Limits on what a job may use; one that is absent does not limit. They hold while it is placed and while it runs."""

    cost_usd: float | None = Field(default=None, gt=0, description="US dollars.")
    carbon_grams_co2e: float | None = Field(default=None, gt=0, description="Grams of CO2e.")
    energy_joules: float | None = Field(default=None, gt=0, description="Joules.")
    action: BudgetAction = Field(default=BudgetAction.STOP, description="What happens to the job at a limit.")


class JobSpec(_Strict):
    """A job as somebody wants it run."""

    name: str = Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    command: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1, max_length=1024)
    source: str = Field(
        default="", pattern=r"^(sha256-[0-9a-f]{64})?$", description="Digest of the job's uploaded files."
    )
    environment: dict[str, str] = Field(
        default_factory=dict, max_length=256, description="Not for secrets: it is stored."
    )
    artifacts: tuple[str, ...] = Field(default=(), max_length=256, description="Patterns of files to keep.")
    resources: Resources = Resources()
    duration_seconds_expected: float = Field(gt=0, le=30 * 24 * 3600)
    objective: Objective = Objective.BALANCED
    deadline: AwareDatetime | None = Field(default=None, description="When it must have ended.")
    budget: Budget = Budget()
    providers: tuple[str, ...] = Field(default=(), description="Only these; empty for all.")
    attempts_max: int = Field(default=3, ge=1, le=20, description="How often a run may be tried.")
    project: str = Field(
        default="",
        pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$",
        description="The project that pays; budgets and statements can be asked for by project.",
    )

    @model_validator(mode="after")
    def _known_providers(self) -> Self:
        for provider in self.providers:
            if provider not in KNOWN_PROVIDERS:
                raise ValueError(f"providers: unknown provider {provider!r}; known are {', '.join(KNOWN_PROVIDERS)}")
        return self

    @model_validator(mode="after")
    def _artifacts_stay_inside(self) -> Self:
        for pattern in self.artifacts:
            if pattern.startswith("/") or ".." in pattern.split("/"):
                raise ValueError(f"artifacts: {pattern!r} leaves the job's folder; give a path inside it")
        return self


class Placement(BaseModel):
    """An offer and a start time, what that is expected to cost, and why it was chosen."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    offer_id: str
    provider: str
    region: str
    zone: str = ""
    machine_type: str
    starts_at: AwareDatetime
    cost_usd_expected: float = Field(ge=0)
    energy_joules_expected: float = Field(ge=0)
    carbon_grams_co2e_expected: float = Field(ge=0)
    price_microusd_per_hour: int = Field(default=0, ge=0)
    electricity_microusd_per_kwh: int = Field(default=0, ge=0)
    pue: float = Field(default=1.0, ge=1)
    because: str = ""


class Candidate(Placement):
    """An offer and a start time that was weighed; `because` says why it was not chosen or, for the chosen one, why it was."""

    ends_at: AwareDatetime
    score: float = Field(default=0.0, description="Lower is better; comparable only within one plan.")
    feasible: bool = Field(default=True, description="Whether it keeps every limit and may be used here.")


class Plan(BaseModel):
    """What would be chosen for a job, and what else was weighed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    chosen: Candidate | None = None
    alternatives: tuple[Candidate, ...] = Field(default=(), description="Best first, each with why not.")
    refused_because: str = Field(default="", description="Names the field; empty where there is a choice.")
    weighed: int = Field(default=0, ge=0, description="How many candidates there were.")


class JobState(StrEnum):
    """How a job stands."""

    SUBMITTED = "submitted"
    PLACED = "placed"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self not in (JobState.SUBMITTED, JobState.PLACED, JobState.RUNNING, JobState.PAUSED)


class JobStatus(BaseModel):
    """How one job stands, as a person asks for it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_id: str
    name: str
    state: JobState
    placement: Candidate | None = None
    run_id: str = Field(default="", description="The newest run; empty before.")
    attempt: int = Field(default=0, ge=0, description="Runs begun; 0 before the first.")
    phase: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    because: str = Field(default="", description="Why it failed, was refused or cancelled.")
    exit_code: int | None = None
    artifacts: tuple[str, ...] = ()
    submitted_at: AwareDatetime
    changed_at: AwareDatetime


SOURCE_BYTES_MAX = 64 * 1024 * 1024
"""The packed files of one job: code and small data; larger data belongs into a store that the job reads."""


def source_digest(packed: bytes) -> str:
    """The name under which a job's packed files are stored.

    >>> source_digest(b"")[:14]
    'sha256-e3b0c44'
    """
    return f"sha256-{hashlib.sha256(packed).hexdigest()}"
