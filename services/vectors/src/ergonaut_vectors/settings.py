"""The service's settings, `ERGONAUT_VECTORS_*`."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from ergonaut_common.settings import DoorSettings
from ergonaut_common.tls import TlsFiles
from ergonaut_vectors.domain.quotas import Quota

_MIB = 1024 * 1024


class Settings(DoorSettings):
    """How much tenants and collections may hold, how much may wait, and how long one waits."""

    model_config = SettingsConfigDict(env_prefix="ERGONAUT_VECTORS_", frozen=True, extra="ignore")

    grpc_address: str = Field(default="127.0.0.1:7406", description="Where the gRPC door listens, host:port.")
    metrics_address: str = Field(default="127.0.0.1:7506", description="Where /metrics is served, host:port.")
    log_bytes_max: int = Field(
        default=256 * _MIB,
        ge=_MIB,
        description="Bytes of one shard's log, which NATS sets aside on its disk. Of a log that is half full the beginning is "
        "forgotten, as soon as the shard's state is where snapshots are kept; a full one has writers wait for that. Raise it "
        "where writers wait, or to come back to earlier moments: 256 MiB hold 170,000 vectors of 384 float32.",
    )
    collections_max: int = Field(
        default=64, ge=1, description="Collections of one tenant; each has a stream in NATS for every shard."
    )
    vectors_max: int = Field(
        default=0, ge=0, description="Vectors of all collections of one tenant; 0 does not bound them."
    )
    vector_bytes_max: int = Field(
        default=0, ge=0, description="Bytes of all vectors of one tenant, payloads not counted; 0 does not bound them."
    )
    calls_per_second: float = Field(
        default=0.0, ge=0, description="Calls of one tenant; who calls more often is sent away. 0 does not bound them."
    )
    tenant_quotas: dict[str, Quota] = Field(
        default_factory=dict,
        description="Tenants that may have more or less than everybody, as JSON: "
        '{"acme": {"collections": 500, "vectors": 5000000}}; what is not told of a tenant does not bound it.',
    )
    shards_open_max: int = Field(
        default=1024,
        ge=1,
        description="Shards in memory at once; the one that was asked for the longest ago makes room. Raise it where many small "
        "collections are asked all the time and memory is there.",
    )
    idle_seconds: float = Field(
        default=900.0, gt=0, description="After so long without a question a shard leaves memory until the next one."
    )
    search_threads: int = Field(
        default_factory=lambda: max(1, os.cpu_count() or 1),
        ge=1,
        description="Threads that search; as many as there are cores, unless the machine serves others too.",
    )
    apply_threads: int = Field(
        default=2,
        ge=1,
        description="Threads that apply logs, make segments of heads, open states and save them; a shard uses two at most, so "
        "more only help many shards.",
    )
    build_threads: int = Field(
        default=1,
        ge=1,
        description="Threads that merge segments and build their indexes, beside searches; more finish sooner and leave searches "
        "less.",
    )
    compute: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="What large batches of searches are computed with: `auto` is a GPU where numba finds one, else the CPU; "
        "`cuda` is a GPU or no start (needs the extra `cuda`); `cpu` leaves a GPU to others.",
    )
    searches_waiting_max: int = Field(
        default=256,
        ge=1,
        description="Pieces of searches, 32 queries each, that may wait for a thread; then callers are sent away.",
    )
    writes_waiting_max: int = Field(
        default=64, ge=1, description="Writes of one collection that may wait at once; bounds memory at 16 MB each."
    )
    wait_seconds: float = Field(
        default=8.0,
        gt=0,
        description="How long a call waits for its write to be applied or for a log to be replayed; below the 10 s that "
        "services give a call.",
    )
    head_rows_max: int = Field(
        default=8192,
        ge=16,
        description="Vectors written lately to a shard before they become a segment: each of them is compared with every "
        "query, and written again where the process dies before. Lower it where vectors are long and searches many.",
    )
    kernel_cache_dir: Path | None = Field(
        default=None,
        description="Folder of compiled kernels where the code's own folder cannot be written; unset uses the data folder.",
    )
    shard_vectors_max: int = Field(
        default=4_000_000,
        ge=2,
        description="Vectors of one shard; of a larger one half becomes another shard, with a log of its own, while it is read "
        "and written. Lower it where many write to one collection at once.",
    )
    snapshots: str = Field(
        default="",
        description="Where snapshots are kept: empty for the object store of NATS, s3://bucket/prefix for S3 or what speaks like "
        "it (needs the extra `s3`), or a folder on another disk. Set it where a lost NATS must not lose them too.",
    )
    snapshots_endpoint_url: str = Field(
        default="", description="Address of what speaks like S3, https://host:port; empty for Amazon's."
    )
    node_name: str = Field(
        default="",
        description="Name of this node where several share collections, the same after each start; empty has every collection "
        "whole on this node.",
    )
    node_address: str = Field(
        default="", description="Where other nodes reach this one's gRPC door, host:port; empty is `grpc_address`."
    )
    node_zone: str = Field(
        default="", description="What fails together with this node, such as a rack: replicas stand in different zones."
    )
    node_weight: float = Field(
        default=1.0, ge=0, le=1e6, description="How much this node can hold, against others; 0 has it emptied."
    )

    node_plain_allowed: bool = Field(
        default=False,
        description="Whether nodes are asked without TLS over a network: the services' key and all vectors go over it in clear. "
        "Set it where the network between them is as good as one machine, such as an encrypted overlay.",
    )
    tls_certificate: str = Field(
        default="",
        description="PEM file of the door's certificate, with those between it and a root: the door speaks TLS alone then, and "
        "`node_address` begins with https://. Empty speaks no TLS. What is renewed is shown to whoever comes from then on.",
    )
    tls_key: str = Field(default="", description="PEM file of its private key, which others cannot read.")
    tls_client_ca: str = Field(
        default="", description="PEM file of who must have signed callers' certificates; empty asks for none."
    )

    @property
    def tls(self) -> TlsFiles | None:
        """The files of TLS; None where there is none."""
        if not self.tls_certificate:
            return None
        client_ca = Path(self.tls_client_ca) if self.tls_client_ca else None
        return TlsFiles(Path(self.tls_certificate), Path(self.tls_key), client_ca, "ERGONAUT_VECTORS_TLS")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.tls_certificate) != bool(self.tls_key) or (self.tls_client_ca and not self.tls_certificate):
            raise ValueError(
                "tls_certificate and tls_key belong together, and tls_client_ca to them: name both, or neither"
            )
        return self

    @property
    def collections_bound(self) -> int:
        """Collections that no tenant passes, whatever its own quota."""
        return max([self.collections_max, *(quota.collections for quota in self.tenant_quotas.values())])

    mirror_domain: str = Field(
        default="",
        description="JetStream domain of a region whose collections are mirrored here, reached through a leaf node: they are "
        "read here, also while it is away, and written there. Empty mirrors nothing; who mirrors has no collections of his own.",
    )
