"""The service's settings, `ERGONAUT_VECTORS_*`."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ergonaut_common.settings import DoorSettings

_MIB = 1024 * 1024


class Settings(DoorSettings):
    """How much a collection may hold, how much may wait, and how long one waits."""

    model_config = SettingsConfigDict(env_prefix="ERGONAUT_VECTORS_", frozen=True, extra="ignore")

    grpc_address: str = Field(default="127.0.0.1:7406", description="Where the gRPC door listens, host:port.")
    metrics_address: str = Field(default="127.0.0.1:7506", description="Where /metrics is served, host:port.")
    log_bytes_max: int = Field(
        default=256 * _MIB,
        ge=_MIB,
        description="Bytes of one collection's log, which NATS sets aside on its disk; 256 MiB hold 900,000 vectors of 64 "
        "numbers. A full log takes no more writes: raise this and start again.",
    )
    collections_max: int = Field(
        default=64, ge=1, description="Collections of one tenant; each has a stream in NATS and a graph in memory."
    )
    search_threads: int = Field(
        default_factory=lambda: max(1, os.cpu_count() or 1),
        ge=1,
        description="Threads that search; as many as there are cores, unless the machine serves others too.",
    )
    apply_threads: int = Field(
        default=2,
        ge=1,
        description="Threads that apply logs; a collection uses one, so more only help many collections.",
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
    kernel_cache_dir: Path | None = Field(
        default=None,
        description="Folder of compiled kernels where the code's own folder cannot be written; unset uses the data folder.",
    )
