"""Settings of pricing, read from the environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ergonaut_common.settings import DoorSettings


class Settings(DoorSettings):
    """What an operator may change about pricing; the prefix is ERGONAUT_PRICING_."""

    model_config = SettingsConfigDict(env_prefix="ERGONAUT_PRICING_", frozen=True, extra="ignore")

    grpc_address: str = Field(default="127.0.0.1:7402", description="Where the gRPC door listens, host:port.")
    metrics_address: str = Field(
        default="127.0.0.1:7502", description="Where /metrics is served for Prometheus, host:port."
    )
    electricity_microusd_per_kwh: int = Field(
        default=150_000,
        ge=0,
        le=10_000_000,
        description="What electricity costs our own machines, millionths of a US dollar per kWh. The default is the "
        "world's average of households, 0.15 (https://www.globalpetrolprices.com/electricity_prices/, end of 2024); "
        "set it to what your bill says.",
    )
    local_pue: float = Field(
        default=1.0,
        ge=1,
        le=3,
        description="Power usage effectiveness where our own machines stand, a ratio. The default is that of a desk, "
        "assumed, not measured; set it where a room is cooled for them.",
    )
    tables_dir: Path | None = Field(
        default=None,
        description="Folder with tables to use in place of the package's, the same five CSV files; set it when you "
        "have prices of your own. Read once, at the start.",
    )
    own_figures: Path | None = Field(
        default=None,
        description="CSV of own grid figures that take the place of a zone's shipped factor: zone,intensity_grams_per_kwh,year,"
        "signal,accounting,boundary,range_fraction,shape,source. Set it when you buy from a supplier that tells its factor, have "
        "solar power of your own, or want marginal figures. Read once, at the start.",
    )
