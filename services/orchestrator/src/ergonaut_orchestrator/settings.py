"""What may be set about the orchestrator, read from the environment. Built by `main`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ergonaut.metering import host_name
from ergonaut_common.settings import DoorSettings

_MIB = 1024 * 1024


class Settings(DoorSettings):
    """The orchestrator's settings; every default is that of one machine."""

    model_config = SettingsConfigDict(env_prefix="ERGONAUT_ORCHESTRATOR_", frozen=True, extra="ignore")

    grpc_address: str = Field(
        default="127.0.0.1:7404",
        description="Where rollouts, retraining and health are answered, host:port; loopback unless told otherwise.",
    )
    metrics_address: str = Field(
        default="127.0.0.1:7504", description="Where /metrics is served for Prometheus, host:port."
    )
    host: str = Field(
        default_factory=host_name,
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="This host's name in events. Set ERGONAUT_HOST instead, so that the telemetry agent takes the same name.",
    )
    replica_host: str = Field(
        default="127.0.0.1",
        pattern=r"^[A-Za-z0-9.:-]{1,253}$",
        description="Address of this host on which replicas of the gateway listen, and which they tell the other gateways.",
    )
    runs_max: int = Field(
        default=64,
        ge=1,
        le=1000,
        description="Runs watched at once; more wait at Temporal. Each costs about two threads' wake-ups a second.",
    )
    look_interval_seconds: float = Field(
        default=1.0, ge=0.05, le=5, description="Seconds between looks at a run; also the most often progress is told."
    )
    heartbeat_timeout_seconds: float = Field(
        default=10.0,
        ge=4,
        le=600,
        description="Seconds without a beat after which a step of a job is taken up again, as when this service was killed; steps"
        " beat each second or two. Raise it where machines stand still for longer.",
    )
    stop_grace_seconds: float = Field(
        default=5.0,
        ge=0,
        le=600,
        description="Seconds between SIGTERM and SIGKILL to a run's program; longer lets checkpoints be written.",
    )
    pause_grace_seconds: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="Seconds that a program has to save its state when it is paused, before SIGKILL; it costs for as long.",
    )
    checkpoint_bytes_max: int = Field(
        default=1024 * _MIB,
        ge=1024,
        description="Most bytes of a checkpoint that is kept between two attempts; the object store is bounded too.",
    )
    lease_ttl_seconds: float = Field(
        default=120.0,
        ge=1,
        description="Seconds without renewal after which a run's program is stopped; must outlast a restart of this service.",
    )
    log_bytes_max: int = Field(
        default=64 * _MIB,
        ge=1024,
        description="Most bytes kept of each of a program's two outputs; what comes after is dropped.",
    )
    source_bytes_max: int = Field(
        default=4096 * _MIB,
        ge=1024,
        description="Most bytes that a job's unpacked files may take, so that a bomb cannot fill the disk.",
    )
    source_files_max: int = Field(
        default=100_000, ge=1, description="Most files that a job's source may hold, for the same reason."
    )
    artifacts_bytes_max: int = Field(
        default=1024 * _MIB,
        ge=1,
        description="Most bytes of artifacts kept of one run; the object store is bounded too.",
    )
    artifacts_count_max: int = Field(
        default=256, ge=1, le=4096, description="Most files kept of one run; their names travel in one event."
    )
    nice: int = Field(
        default=5,
        ge=0,
        le=19,
        description="Niceness of a run's program, so that it cannot starve the platform on the same machine.",
    )
    reconcile_interval_seconds: float = Field(
        default=300.0, ge=1, description="Seconds between searches for leases whose workflow is gone."
    )
