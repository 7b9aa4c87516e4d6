"""Texts that other servers made for callers of the gateway's OpenAI-compatible door. Emitted by `gateway`, in batches."""

from typing import ClassVar

from pydantic import AwareDatetime, Field

from ergonaut.events.base import Event, Name
from ergonaut.events.pricing import Accounting, Boundary, Signal


class CompletionsServed(Event):
    """What one route of the OpenAI-compatible door served to a tenant over an interval, and what that used."""

    TYPE: ClassVar[str] = "inference.completion.served"

    route: Name = Field(description="The model that callers ask for, as far as it fits into a name.")
    model: str = Field(max_length=200, description="The model that callers ask for, as they write it.")
    started_at: AwareDatetime
    ended_at: AwareDatetime
    requests: int = Field(ge=1, description="Answered or failed; those that no upstream was asked for are left out.")
    failed: int = Field(default=0, ge=0, description="Of these, without a whole answer.")
    untold: int = Field(default=0, ge=0, description="Of these, answered without a word on tokens; in no figure below.")
    tokens_in: int = Field(default=0, ge=0)
    tokens_out: int = Field(default=0, ge=0)
    cost_usd: float | None = Field(
        default=None,
        ge=0,
        description="By the route's prices, else of the estimated energy on a host whose price is known; unset where not known.",
    )
    energy_joules: float | None = Field(
        default=None, ge=0, description="An estimate from output tokens; unset where not measured."
    )
    energy_joules_low: float | None = Field(default=None, ge=0, description="The true figure is not below this.")
    energy_joules_high: float | None = Field(default=None, ge=0, description="Nor above this.")
    energy_method: str = Field(default="", description="How the joules were found; `not measured` where they were not.")
    carbon_grams_co2e: float | None = Field(
        default=None,
        ge=0,
        description="Of that energy, average and location-based, by the intensity below; unset where not known.",
    )
    carbon_grams_co2e_low: float | None = Field(default=None, ge=0, description="The true figure is not below this.")
    carbon_grams_co2e_high: float | None = Field(default=None, ge=0, description="Nor above this.")
    zone: str = Field(default="", description="Grid zone of the energy; empty where unknown.")
    intensity_grams_per_kwh: float | None = Field(
        default=None, ge=0, description="Grid intensity used, grams of CO2e per kWh; unset where there are no grams."
    )
    intensity_kind: str = Field(
        default="",
        description="What it rests on: `typical`, `measured` or `forecast` of the hour, else `yearly` or `world-average`.",
    )
    intensity_source: str = Field(default="", description="Where the intensity comes from.")
    intensity_signal: Signal = Field(default=Signal.AVERAGE, description="Which plants the intensity stands for.")
    intensity_accounting: Accounting = Field(
        default=Accounting.LOCATION_BASED, description="By which Scope 2 method the intensity was made."
    )
    intensity_boundary: Boundary = Field(default=Boundary.UNKNOWN, description="What the intensity counts of a plant.")
    pue: float = Field(
        default=1.0, ge=1, description="Energy of the building over energy of the machines, already in the grams."
    )
    pue_source: str = Field(
        default="",
        description="Who told the PUE: `settings`, `provider` or `not told`; empty where there are no grams.",
    )
    price_usd_per_kwh: float | None = Field(
        default=None, ge=0, description="Of electricity where the energy was used; unset where not known."
    )

    @property
    def key(self) -> str:
        return self.route
