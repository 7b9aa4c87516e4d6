"""What machine-hours cost and how clean electricity is. Emitted by `pricing` under the tenant `public`."""

from enum import StrEnum
from typing import ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ergonaut.events.base import PUBLIC_TENANT, Event, Name
from ergonaut.ids import derived_id


class Market(StrEnum):
    """How a machine is sold."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"
    FREE = "free"


class IntensityKind(StrEnum):
    """What an intensity rests on."""

    TYPICAL = "typical"
    YEARLY = "yearly"
    WORLD_AVERAGE = "world-average"
    MEASURED = "measured"
    FORECAST = "forecast"


class OfferChanged(Event):
    """An offer is from now on as told here; `available` false takes it from the market."""

    TYPE: ClassVar[str] = "pricing.offer.changed"

    tenant: Name = PUBLIC_TENANT
    offer_id: str = Field(description="`provider/region/type/market`.")
    provider: Name
    region: str
    zone: str = Field(default="", description="Grid zone; empty where unknown.")
    machine_type: str
    market: Market
    vcpus: float = Field(gt=0)
    memory_gib: float = Field(gt=0)
    accelerator: str = ""
    accelerator_count: int = Field(default=0, ge=0)
    price_microusd_per_hour: int = Field(ge=0, description="Millionths of a US dollar for a machine-hour.")
    electricity_microusd_per_kwh: int = Field(
        default=0, ge=0, description="Paid on top; 0 where the price includes it."
    )
    power_watts_expected: float = Field(gt=0, description="The whole machine under full load.")
    pue: float = Field(default=1.0, ge=1)
    billing_increment_seconds: int = Field(default=1, ge=1)
    noted_at: AwareDatetime = Field(description="When the price was noted.")
    source: str = Field(description="Where the price was noted.")
    available: bool = True

    @property
    def key(self) -> str:
        return derived_id("offer", self.offer_id)


class Signal(StrEnum):
    """Which power plants an intensity stands for."""

    AVERAGE = "average"
    """All that generate, by what they generate: the signal of inventories."""
    MARGINAL = "marginal"
    """Those that would generate one kWh more: the signal of consequences."""


class Accounting(StrEnum):
    """Which of the two methods of the GHG Protocol's Scope 2 Guidance an intensity follows."""

    LOCATION_BASED = "location-based"
    MARKET_BASED = "market-based"


class Boundary(StrEnum):
    """What an intensity counts of a power plant; the two differ by 30 to 50 g/kWh in Germany."""

    LIFE_CYCLE = "life-cycle"
    DIRECT = "direct"
    UNKNOWN = "unknown"


class HourIntensity(BaseModel):
    """A zone's intensity over one hour."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    starts_at: AwareDatetime
    intensity_grams_per_kwh: float = Field(gt=0)
    range_fraction: float = Field(ge=0)
    kind: IntensityKind


class IntensityChanged(Event):
    """A zone's intensity for the coming hours, as known when this was told."""

    TYPE: ClassVar[str] = "pricing.intensity.changed"

    tenant: Name = PUBLIC_TENANT
    zone: str = Field(min_length=1)
    source: str
    hours: tuple[HourIntensity, ...] = Field(min_length=1, max_length=168)
    signal: Signal = Field(default=Signal.AVERAGE, description="Which plants it stands for.")
    accounting: Accounting = Field(default=Accounting.LOCATION_BASED, description="By which Scope 2 method.")
    boundary: Boundary = Field(default=Boundary.UNKNOWN, description="What it counts of a plant.")

    @property
    def key(self) -> str:
        return self.zone.lower().replace("_", "-")
