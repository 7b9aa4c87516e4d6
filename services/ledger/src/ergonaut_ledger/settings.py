"""What may be set about the ledger, read from the environment. Built by `main`."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from ergonaut_common.settings import DoorSettings, PlatformSettings


class Settings(DoorSettings):
    """The ledger's settings; every default is that of one machine."""

    model_config = SettingsConfigDict(env_prefix="ERGONAUT_LEDGER_", frozen=True, extra="ignore")

    grpc_address: str = Field(
        default="127.0.0.1:7407", description="Where the gRPC door listens, host:port; loopback unless told otherwise."
    )
    metrics_address: str = Field(
        default="127.0.0.1:7507", description="Where /metrics is served for Prometheus, host:port."
    )
    clickhouse_dsn: SecretStr = Field(
        default=SecretStr(""),
        description="A ClickHouse server, such as clickhouse://user:password@host:8123/ergonaut; empty embeds the engine.",
    )
    path: Path | None = Field(
        default=None,
        description="Folder of the embedded engine; unset is `ledger` in ERGONAUT_DATA_DIR. One process a folder.",
    )
    batch_max: int = Field(
        default=4_000,
        ge=1,
        le=20_000,
        description="Messages of one insert at most, and 32 MiB, which 4,000 of hosts with two runs nearly fill; to insert costs "
        "some 40 ms of processor time however few rows there are.",
    )
    batch_wait_seconds: float = Field(
        default=0.25,
        gt=0,
        le=5,
        description="Seconds to wait for a batch to fill; a reading is visible about this long after it was told.",
    )
    insert_seconds_max: float = Field(
        default=20.0,
        gt=0,
        le=25,
        description="Deadline of one insert, seconds; below the 30 s after which NATS delivers again.",
    )
    query_seconds_max: float = Field(
        default=8.0, gt=0, description="Deadline of one question to ClickHouse, seconds; below the 10 s of a gRPC call."
    )
    residual_mix: Path | None = Field(
        default=None,
        description="CSV of residual mixes, `zone,intensity_grams_per_kwh,year,source`, for the market-based method; set it "
        "where your registry publishes them, such as AIB's European Residual Mixes. Unset, the location's average stands in.",
    )

    roll_seconds_max: float = Field(
        default=120.0,
        gt=0,
        description="Deadline of rolling up one portion or reading one slice of an export, seconds; in a thread of its own.",
    )
    samples_days: int = Field(
        default=90,
        ge=7,
        description="Days that samples are kept at least; they go by whole months, once they are rolled up.",
    )
    minutes_days: int = Field(
        default=400,
        ge=7,
        description="Days that sums by minute are kept, at least as long as samples; sums by hour and day are kept for good.",
    )
    requests_days: int = Field(
        default=30,
        ge=1,
        description="Days that logged requests of models are kept; they go by whole days. Lower it where they are private.",
    )

    def folder(self, platform: PlatformSettings) -> Path:
        """Where the embedded engine keeps its files."""
        return self.path or platform.data_dir / "ledger"
