"""Models and the requests that they served. Emitted by `gateway`; requests in batches, since there are many."""

from typing import ClassVar

from pydantic import AwareDatetime, Field

from ergonaut.events.base import Event, Name


class ModelDeployed(Event):
    """A version of a model is served from now on."""

    TYPE: ClassVar[str] = "models.model.deployed"

    model: Name
    version: int = Field(ge=1)
    digest: str
    size_bytes: int = Field(ge=1)
    run_id: str = ""

    @property
    def key(self) -> str:
        return self.model


class ModelRemoved(Event):
    """A model is served no longer."""

    TYPE: ClassVar[str] = "models.model.removed"

    model: Name

    @property
    def key(self) -> str:
        return self.model


class ModelAliased(Event):
    """An alias of a model names another version from now on, or none."""

    TYPE: ClassVar[str] = "models.model.aliased"

    model: Name
    alias: Name
    version: int = Field(ge=0, description="The version that it names; 0 where the alias was removed.")

    @property
    def key(self) -> str:
        return self.model


class InferenceServed(Event):
    """How many requests a model version served over an interval, and how fast."""

    TYPE: ClassVar[str] = "inference.request.served"

    model: Name
    version: int = Field(ge=1)
    started_at: AwareDatetime
    ended_at: AwareDatetime
    requests: int = Field(ge=1)
    rows: int = Field(ge=0, description="Predictions: the sum of the requests' batch sizes.")
    failed: int = Field(default=0, ge=0)
    latency_ms_p50: float = Field(ge=0)
    latency_ms_p99: float = Field(ge=0)
    cpu_seconds: float | None = Field(
        default=None, ge=0, description="CPU time of the runs and of reading and writing; unset where nobody counted."
    )
    energy_joules: float | None = Field(
        default=None, ge=0, description="An estimate from CPU time, idling left out; unset where not measured."
    )
    energy_joules_low: float | None = Field(default=None, ge=0, description="The true figure is not below this.")
    energy_joules_high: float | None = Field(default=None, ge=0, description="Nor above this.")
    energy_method: str = Field(
        default="",
        description="calibrated (by what telemetry charges a CPU-second), model, several, or not-measured; empty from older "
        "gateways.",
    )
    carbon_grams_co2e: float | None = Field(default=None, ge=0, description="Of that energy; unset where not known.")
    cost_usd: float | None = Field(default=None, ge=0, description="Of that energy; unset where not known.")

    @property
    def key(self) -> str:
        return self.model
