"""What may be set about the telemetry agent, read from the environment. Built by `main`."""

from typing import Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import SettingsConfigDict

from ergonaut.carbon import LIFESPAN_YEARS_DEFAULT, Intensity, own_intensity, zone_code
from ergonaut.carbon.embodied import LIFESPAN_VARIABLE, MACHINE_VARIABLE, SHARE_VARIABLE, TOTAL_VARIABLE
from ergonaut.carbon.intensities import ACCOUNTING_VARIABLE, BOUNDARY_VARIABLE, SIGNAL_VARIABLE
from ergonaut.events.pricing import Accounting, Boundary, Signal
from ergonaut.metering import host_name
from ergonaut.metering.location import INTENSITY_VARIABLE, ZONE_VARIABLE
from ergonaut.runcontext import PUE_MAX
from ergonaut_common.settings import DoorSettings

_NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class Settings(DoorSettings):
    """The agent's settings; every default is that of one machine that nobody has told anything."""

    model_config = SettingsConfigDict(
        # An empty variable is an unset one, so that a unit file can name all of them.
        env_prefix="ERGONAUT_TELEMETRY_",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
    )

    grpc_address: str = Field(
        default="127.0.0.1:7401", description="Where the gRPC door listens, host:port; loopback unless told otherwise."
    )
    metrics_address: str = Field(
        default="127.0.0.1:7501", description="Where /metrics is served for Prometheus, host:port."
    )
    host: str = Field(
        default_factory=host_name,
        pattern=_NAME_PATTERN,
        description="The host's name in events; set it where two hosts share one.",
    )
    tenant: str = Field(
        default="default", pattern=_NAME_PATTERN, description="Whose the host's others and idle energy is."
    )
    zone: str = Field(
        default="",
        validation_alias=AliasChoices("ERGONAUT_TELEMETRY_ZONE", ZONE_VARIABLE),
        pattern=r"^[A-Za-z0-9_-]{0,32}$",
        description="Grid zone of the host, such as DE; empty means unknown: then a run's own zone counts, or the world average.",
    )
    intensity_grams_per_kwh: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        validation_alias=AliasChoices("ERGONAUT_TELEMETRY_INTENSITY_GRAMS_PER_KWH", INTENSITY_VARIABLE),
        description="Your own figure for the host's electricity, grams of CO2e per kWh; it goes before what pricing tells.",
    )
    intensity_signal: Signal = Field(
        default=Signal.AVERAGE,
        validation_alias=AliasChoices("ERGONAUT_TELEMETRY_INTENSITY_SIGNAL", SIGNAL_VARIABLE),
        description="Which plants that figure stands for.",
    )
    intensity_accounting: Accounting = Field(
        default=Accounting.LOCATION_BASED,
        validation_alias=AliasChoices("ERGONAUT_TELEMETRY_INTENSITY_ACCOUNTING", ACCOUNTING_VARIABLE),
        description="By which Scope 2 method that figure was made.",
    )
    intensity_boundary: Boundary = Field(
        default=Boundary.UNKNOWN,
        validation_alias=AliasChoices("ERGONAUT_TELEMETRY_INTENSITY_BOUNDARY", BOUNDARY_VARIABLE),
        description="What that figure counts of a plant.",
    )
    pue: float = Field(
        default=1.0,
        ge=1,
        le=PUE_MAX,
        validation_alias=AliasChoices("ERGONAUT_TELEMETRY_PUE", "ERGONAUT_PUE"),
        description="Energy of the building over that of its machines; a run may tell its own.",
    )
    electricity_microusd_per_kwh: int | None = Field(
        default=None,
        ge=0,
        description="Price of electricity, millionths of a dollar, for energy that is no run's; unset leaves its cost unknown.",
    )
    embodied_grams_co2e: float | None = Field(
        default=None,
        ge=0,
        le=1e12,
        allow_inf_nan=False,
        validation_alias=AliasChoices("ERGONAUT_TELEMETRY_EMBODIED_GRAMS_CO2E", TOTAL_VARIABLE),
        description="What making this machine emitted, grams of CO2e; unset means not known, and nothing is charged for it.",
    )
    embodied_lifespan_years: float = Field(
        default=LIFESPAN_YEARS_DEFAULT,
        ge=0.1,
        le=50,
        validation_alias=AliasChoices("ERGONAUT_TELEMETRY_EMBODIED_LIFESPAN_YEARS", LIFESPAN_VARIABLE),
        description="Years over which that is shared out; set it to the time for which you keep machines.",
    )
    embodied_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        validation_alias=AliasChoices("ERGONAUT_TELEMETRY_EMBODIED_SHARE", SHARE_VARIABLE),
        description="Which part of the machine is this host's; below 1 for a virtual machine on a larger one.",
    )
    embodied_machine: Literal["", "server", "laptop"] = Field(
        default="",
        validation_alias=AliasChoices("ERGONAUT_TELEMETRY_EMBODIED_MACHINE", MACHINE_VARIABLE),
        description="Kind of machine to estimate its making by, server or laptop, where no grams are set; good to about a half.",
    )
    sample_interval_seconds: float = Field(
        default=1.0,
        ge=0.1,
        le=60,
        description="Seconds between samples; longer costs less of the host and catches fewer short processes.",
    )
    bridge_seconds_max: float = Field(
        default=300.0,
        ge=0,
        description="Longest absence, seconds, that is still charged; beyond it, guessing who ran is worse than a gap.",
    )
    report_interval_seconds: float = Field(
        default=600.0,
        ge=1,
        description="Seconds between reports of the host, so that who forgot it learns of it again.",
    )
    spool_bytes_max: int = Field(
        default=256 * 1024 * 1024,
        ge=1024 * 1024,
        description="Largest spool, bytes; 18 hours of samples of an idle host with the bus away, 4 with eight runs. Beyond it "
        "the oldest unsent are dropped.",
    )

    @field_validator("zone", mode="before")
    @classmethod
    def _as_tables_write_it(cls, value: object) -> object:
        return zone_code(value) if isinstance(value, str) else value

    def intensity(self) -> Intensity | None:
        """The owner's own figure with what is said of it; None where none is set."""
        if self.intensity_grams_per_kwh is None:
            return None
        told = {
            SIGNAL_VARIABLE: self.intensity_signal.value,
            ACCOUNTING_VARIABLE: self.intensity_accounting.value,
            BOUNDARY_VARIABLE: self.intensity_boundary.value,
        }
        return own_intensity(told, self.zone, self.intensity_grams_per_kwh)

    def embodied(self) -> dict[str, str]:
        """What is set of the machine's making, in the variables that `embodied_from` reads."""
        told = {
            TOTAL_VARIABLE: self.embodied_grams_co2e,
            LIFESPAN_VARIABLE: self.embodied_lifespan_years,
            SHARE_VARIABLE: self.embodied_share,
            MACHINE_VARIABLE: self.embodied_machine,
        }
        return {name: str(value) for name, value in told.items() if value is not None}
