"""The Temporal contract: workflow names, task queues, inputs and results. Any Temporal client can start these with plain JSON.

    temporal workflow start --type RunJob --task-queue ergonaut-runs --workflow-id job-1 \\
        --input '{"job": {"name": "hello", "command": ["echo", "hello"], "duration_seconds_expected": 5}}'
"""

from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ergonaut.jobs import JobSpec

RUNS_TASK_QUEUE = "ergonaut-runs"
"""Where the orchestrator's workers listen."""

RUN_JOB = "RunJob"
"""Name of the workflow that brings one job through its life."""

PROGRESS_QUERY = "progress"
"""Name of the query that answers a `JobProgress`."""

PAUSE_SIGNAL = "pause"
"""Name of the signal that makes a run save a checkpoint and give its machine back; its input is an `Asked`."""

RESUME_SIGNAL = "resume"
"""Name of the signal that lets a paused job go on; its input is an `Asked`."""

STOP_SIGNAL = "stop"
"""Name of the signal by which a budget ends a job for good; its input is an `Asked`. A person cancels the workflow instead."""

DEFAULT_TENANT = "default"
"""The tenant of a one-machine installation."""


def job_workflow_id(tenant: str, job_id: str) -> str:
    """The id of a job's workflow, so that the same job is never run twice at once."""
    return f"job/{tenant}/{job_id}"


class JobStep(StrEnum):
    """Where a job's workflow is."""

    PLACING = "placing"
    WAITING = "waiting"
    PROVISIONING = "provisioning"
    RUNNING = "running"
    PAUSED = "paused"
    COLLECTING = "collecting"
    TEARING_DOWN = "tearing-down"
    ENDED = "ended"


class RunJobInput(BaseModel):
    """What `RunJob` is started with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: JobSpec
    tenant: str = Field(default=DEFAULT_TENANT, pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    job_id: str = Field(
        default="", pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$", description="Empty: made from the workflow id."
    )
    replica_of: str = Field(
        default="",
        pattern=r"^([a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?)?$",
        description="The set whose workflow starts this job as a replica of the platform's gateway; nobody else may say so.",
    )
    so_far: dict[str, Any] | None = Field(
        default=None,
        description="The workflow's own memory where it goes on in a new history; null for whoever starts one.",
    )


class Asked(BaseModel):
    """What the signals `pause`, `resume` and `stop` carry."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    because: str = Field(default="", description="For the record and for whoever wonders.")
    budget_id: str = Field(default="", description="The budget that asks; empty where a person does.")
    asked_at: AwareDatetime | None = Field(
        default=None,
        description="When it was asked; of one budget's wishes only a later one is heard. Null where a person asks: that counts.",
    )


class JobProgress(BaseModel):
    """What the `progress` query answers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_id: str
    step: JobStep
    run_id: str = ""
    attempt: int = 0
    because: str = Field(
        default="", description="Why it is paused, what keeps a resumed job from going on, and why it ended."
    )


class RunJobResult(BaseModel):
    """What `RunJob` ends with."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_id: str
    run_id: str = Field(description="The last attempt; empty where the job was refused.")
    state: str = Field(description="`succeeded`, `failed`, `cancelled` or `refused`.")
    exit_code: int | None = None
    artifacts: tuple[str, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict)
    because: str = ""
