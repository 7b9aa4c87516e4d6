"""Texts that other servers made for callers of the gateway's OpenAI-compatible door. Emitted by `gateway`, in batches."""

from typing import ClassVar

from pydantic import AwareDatetime, Field

from ergonaut.events.base import Event, Name


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
    cost_usd: float | None = Field(default=None, ge=0, description="By the route's prices; unset where not known.")
    energy_joules: float | None = Field(
        default=None, ge=0, description="An estimate from output tokens; unset where not measured."
    )
    energy_joules_low: float | None = Field(default=None, ge=0, description="The true figure is not below this.")
    energy_joules_high: float | None = Field(default=None, ge=0, description="Nor above this.")
    energy_method: str = Field(default="", description="How the joules were found; `not measured` where they were not.")
    carbon_grams_co2e: float | None = Field(default=None, ge=0, description="Of that energy; unset where not known.")

    @property
    def key(self) -> str:
        return self.route
