"""The scheduler's own settings, from variables that begin with ERGONAUT_SCHEDULER_."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from ergonaut.jobs import KNOWN_PROVIDERS
from ergonaut_common.settings import DoorSettings


class Settings(DoorSettings):
    """What an operator may turn."""

    model_config = SettingsConfigDict(env_prefix="ERGONAUT_SCHEDULER_", frozen=True, extra="ignore")

    grpc_address: str = Field(default="127.0.0.1:7403", description="Where the gRPC door listens, host:port.")
    metrics_address: str = Field(default="127.0.0.1:7503", description="Where /metrics is served, host:port.")
    providers: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("local",),
        description="Providers that can be used here, separated by commas; others are weighed and listed with why not. "
        "Add one when its credentials are in place.",
    )
    alternatives_max: int = Field(
        default=12, ge=0, le=100, description="Alternatives told with a plan; more than a screen's worth is not read."
    )
    reconcile_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Seconds between two looks for jobs that were left half done; lower it to recover sooner, for more reads.",
    )

    @field_validator("providers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("providers")
    @classmethod
    def _known(cls, providers: tuple[str, ...]) -> tuple[str, ...]:
        for provider in providers:
            if provider not in KNOWN_PROVIDERS:
                raise ValueError(f"unknown provider {provider!r}; known are {', '.join(KNOWN_PROVIDERS)}")
        return providers
