"""Settings of the gateway, read from the environment with the prefix ERGONAUT_GATEWAY_."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ergonaut_common.settings import DoorSettings


class Settings(DoorSettings):
    """Every default is that of one machine with few cores."""

    model_config = SettingsConfigDict(env_prefix="ERGONAUT_GATEWAY_", frozen=True, extra="ignore")

    grpc_address: str = Field(
        default="127.0.0.1:7405", description="Where the gRPC doors listen, host:port; loopback unless told otherwise."
    )
    metrics_address: str = Field(
        default="127.0.0.1:7505", description="Where /metrics is served for Prometheus, host:port; port 0 picks one."
    )
    http_address: str = Field(
        default="127.0.0.1:7480", description="Where the Open Inference Protocol is served over HTTP, host:port."
    )
    body_bytes_max: int = Field(
        default=64 * 1024 * 1024, ge=1024, description="Largest HTTP body in bytes; raise it for larger batches."
    )
    bodies_bytes_max: int = Field(
        default=512 * 1024 * 1024,
        ge=1024,
        description="Bytes of all HTTP bodies held at once; above it callers are told to come back. Raise with memory.",
    )
    connections_max: int = Field(
        default=1024, ge=1, description="HTTP connections at once; each costs a file descriptor and some 50 kB."
    )
    model_bytes_max: int = Field(
        default=512 * 1024 * 1024, ge=1, description="Largest model file in bytes; raise together with memory and disk."
    )
    models_max: int = Field(
        default=100, ge=1, description="Models served at once, of all tenants; each is held in memory."
    )
    deployments_max: int = Field(
        default=2, ge=1, description="Models taken in at once; each needs disk, a core and memory while it loads."
    )
    run_threads: int = Field(
        default=2, ge=1, description="Threads that run models, one request each; more than cores do not help."
    )
    waiting_max: int = Field(
        default=256, ge=0, description="Requests that may wait for a thread; above it callers are told to come back."
    )
    run_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Seconds that one request may wait and run; raise it for very slow models."
    )
    body_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Seconds in which an HTTP body must arrive; raise it for slow links."
    )
    report_seconds: float = Field(
        default=10.0, gt=0, description="Seconds between two events that tell served requests; a kill loses so much."
    )
    resync_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Seconds after which the registry is read anew, in case its watch missed something.",
    )
    stop_seconds: float = Field(
        default=10.0, gt=0, description="Seconds that requests at work may still take when the gateway stops."
    )
