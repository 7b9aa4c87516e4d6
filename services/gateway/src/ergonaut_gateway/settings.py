"""Settings of the gateway, read from the environment with the prefix ERGONAUT_GATEWAY_."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from ergonaut_common.settings import DoorSettings
from ergonaut_common.tls import TlsFiles
from ergonaut_gateway.domain.peers import Balancing
from ergonaut_gateway.domain.trust import SignaturePolicy


class Provider(StrEnum):
    """What a model may run on."""

    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


def cores() -> int:
    """How many this process may use, as far as the system can say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that serve on the same ports, `auto` for one a core; with more than one, a further process starts "
        "them and replaces those that die. Bounds below are each one's own. Raise it where one core is too little.",
    )
    supervised: bool = Field(
        default=False,
        description="Whether a single worker, too, has a process that replaces it when it dies or is stuck, within half a second "
        "and with the port kept; costs some 20 MB. Set it where whoever starts the gateway is slower or does not look.",
    )
    stuck_seconds: float = Field(
        default=30.0,
        ge=0,
        description="Seconds after which a worker is replaced whose event loop stands still, or of which a run goes on after it "
        "was told to end; 0 is never. Raise it where the machine itself stands still for longer.",
    )
    advertised_address: str = Field(
        default="",
        pattern=r"^(\S+:[0-9]{1,5})?$",
        max_length=256,
        description="Where other gateways reach this one's gRPC, host:port, and send it requests that they have no room for; "
        "empty takes none, port 0 is the one that was picked. It is never guessed.",
    )
    replica: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._:/-]{0,256}$",
        description="What this gateway is called among the others; empty is its advertised address.",
    )
    balancing: Balancing = Field(
        default=Balancing.SPILL,
        description="What is sent to other gateways: `spill` only what there is no room for here, `even` every one's share of "
        "all, where callers keep to one gateway, `off` nothing.",
    )
    weight: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="How much this gateway can do, against the others; 0 is the cores that it may use. Set it where machines "
        "differ in speed.",
    )
    tls_certificate: str = Field(
        default="",
        description="PEM file of the certificate that the HTTP and gRPC ports show, with those between it and a root; empty is "
        "no TLS. Read again when it is another file, and at SIGHUP.",
    )
    tls_key: str = Field(
        default="", description="PEM file of its key, without a password and not readable by every user."
    )
    tls_client_ca: str = Field(
        default="",
        description="PEM file of who must have signed callers' certificates; empty lets callers in without one. Keys decide all "
        "the same what each may do.",
    )
    openai_routes: str = Field(
        default="",
        description="YAML or JSON file of the routes that the OpenAI-compatible door serves; empty is no such door.",
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
    model_memory_bytes_max: int = Field(
        default=4 * 1024**3,
        ge=0,
        description="Memory that a model's file may take when it is loaded and run, which a process of its own tries at each "
        "deployment, in bytes; never more than the machine has left. 0 tries none. Raise it for large models.",
    )
    models_max: int = Field(
        default=100, ge=1, description="Versions of models ready at once, of all tenants; each is held in memory."
    )
    versions_max: int = Field(
        default=5,
        ge=2,
        description="Versions kept of a model; the oldest go first, never one with an alias. Raise it to go further back.",
    )
    signature_policy: SignaturePolicy = Field(
        default=SignaturePolicy.OFF,
        description="What is wanted of a model's signature: `off`, `warn` (log what is missing) or `require` (serve no other).",
    )
    signature_keys: str = Field(
        default="", description="Files of the public keys (PEM, elliptic curve) that are trusted, parted by commas."
    )
    fusing_key: str = Field(
        default="",
        description="File of a private key (PEM, elliptic curve, no password) that signs models which are made of pipelines; its "
        "public key must be among the trusted ones. Set it where the policy is `require`, or nothing is fused.",
    )
    deployments_max: int = Field(
        default=2, ge=1, description="Models taken in at once; each needs disk, a core and memory while it loads."
    )
    run_threads: int = Field(
        default=2, ge=1, description="Threads that run models, one run each; more than cores do not help."
    )
    intra_op_threads: int = Field(
        default=1, ge=1, description="Threads within one run; raise it for large models that few callers ask."
    )
    providers: Annotated[tuple[Provider, ...], NoDecode] = Field(
        default=(Provider.CPU,),
        min_length=1,
        description="What models run on, the preferred first, of `cpu`, `cuda` and `tensorrt`, parted by commas; the CPU is "
        "taken where the others are missing, which the log says. `cuda,cpu` is for a GPU.",
    )
    waiting_max: int = Field(
        default=1024, ge=0, description="Requests that may wait to run; above it callers are told to come back."
    )
    model_waiting_max: int = Field(
        default=512, ge=0, description="Of these, requests for one model, so that the others have room."
    )
    batch_rows_max: int = Field(
        default=64, ge=1, description="Rows that may run together; a larger request runs alone. Raise it for a GPU."
    )
    cache_bytes_max: int = Field(
        default=0,
        ge=0,
        description="Bytes of answers kept for requests that come again; only for models that always answer the same.",
    )
    demand_lead_seconds: float = Field(
        default=300.0,
        ge=0,
        le=24 * 3600,
        description="Seconds ahead for which it is told how many replicas will be wanted, by what past weeks took; 0 tells "
        "nothing. Make it the time that a new machine takes to be ready.",
    )
    demand_cores_per_replica: float = Field(
        default=1.2,
        gt=0,
        description="Cores that one replica shall use at most: its cores times the share that leaves room for bursts.",
    )
    idle_seconds: float = Field(
        default=0.0,
        ge=0,
        description="Seconds without a request after which a model lets go of its memory; the next request waits until it is "
        "loaded again. 0 is never; set it where there are more models than memory.",
    )
    run_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Seconds that one request may wait and run; raise it for very slow models."
    )
    body_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Seconds in which an HTTP body must arrive; raise it for slow links."
    )
    head_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Seconds in which an HTTP request's headers must arrive; few networks need more.",
    )
    idle_timeout_seconds: float = Field(
        default=75.0,
        gt=0,
        description="Seconds that an HTTP connection may stay without a request; more than a proxy in front keeps its own.",
    )
    write_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Seconds that a caller may leave an HTTP answer unread; raise it for slow links.",
    )
    watch_rows_per_second: int = Field(
        default=0,
        ge=0,
        description="Rows a second of each model version that are watched for drift; 0 is none. 1000 of 64 features cost about "
        "1 % of a core; fewer find drift later.",
    )
    watch_check_seconds: float = Field(
        default=2.0,
        gt=0,
        description="Seconds between two looks for drift; shorter finds it sooner and keeps fewer rows.",
    )
    watch_reference_rows: int = Field(
        default=1_000,
        ge=100,
        le=10_000,
        description="First rows of a version that later ones are compared with; fewer are sooner there and say less.",
    )
    labels_waiting_max: int = Field(
        default=0,
        ge=0,
        description="Predictions of each version kept until their labels come, some 1 kB each; 0 is none. Raise it for labels "
        "that come late.",
    )
    request_log_rate: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of answered requests that is written down, by a hash of their ids; 0 is none. The stream of these "
        "events holds 64 MiB, of which a request takes some kB.",
    )
    request_log_rates: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description='The share by the name of the model where it is another, as {"digits": 0.1}.'
    )
    request_log_per_second_max: int = Field(
        default=100,
        ge=1,
        description="Requests a second of each version that are written down at most, whatever the share.",
    )
    request_log_dropped: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Tensors not written down, as inputs.age,outputs.score, or * for all, parted by commas."
    )
    request_log_hashed: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Tensors of which only a hash is written down, named likewise."
    )
    request_log_texts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="BYTES tensors that are written down, named likewise; others are dropped."
    )
    request_log_salt: SecretStr = Field(
        default=SecretStr(""),
        description="Makes hashes useless to whoever lacks it; set it where what is hashed is short.",
    )
    telemetry_host: str = Field(
        default="",
        pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$",
        description="The host whose agent tells what CPU time uses; empty is this one's name. Set it where the agent's is set.",
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

    @field_validator("workers", mode="before")
    @classmethod
    def _a_core_each(cls, value: object) -> object:
        return cores() if value == "auto" else value

    @property
    def tls(self) -> TlsFiles | None:
        """The files of TLS; None where there is none."""
        if not self.tls_certificate:
            return None
        client_ca = Path(self.tls_client_ca) if self.tls_client_ca else None
        return TlsFiles(Path(self.tls_certificate), Path(self.tls_key), client_ca, "ERGONAUT_GATEWAY_TLS")

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if bool(self.tls_certificate) != bool(self.tls_key) or (self.tls_client_ca and not self.tls_certificate):
            raise ValueError(
                "tls_certificate and tls_key belong together, and tls_client_ca to them: name both, or neither"
            )
        return self

    @property
    def trusted_keys(self) -> list[Path]:
        """The files of the keys that are trusted."""
        return [Path(part.strip()) for part in self.signature_keys.split(",") if part.strip()]

    @field_validator("providers", "request_log_dropped", "request_log_hashed", "request_log_texts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
