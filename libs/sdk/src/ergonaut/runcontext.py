"""What a run's processes carry in their environment, so that any meter on the host knows whom to charge and at what price.

The orchestrator writes it when it starts a program; the tracker and the telemetry agent read it.
"""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

PUE_MAX = 5.0
"""Of the worst buildings; whoever tells more has mixed something up."""

_PREFIX = "ERGONAUT_"
# Any process of the host may tell anything in its environment. What the agent cannot reckon with, or what would make everybody's
# message too large, must end here; each bound is far beyond what an honest one tells.
_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_NAME_OR_NONE = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"
_ZONE = r"^[A-Za-z0-9._-]{0,64}$"
_PATH_CHARACTERS_MAX = 4096
_MICROUSD_MAX = 10**12
_EMBODIED_GRAMS_PER_HOUR_MAX = 1e9


class RunContext(BaseModel):
    """One run as its own processes know it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str = Field(pattern=_NAME)
    tenant: str = Field(default="default", pattern=_NAME)
    job_id: str = Field(default="", pattern=_NAME_OR_NONE)
    journal: str = Field(
        default="",
        max_length=_PATH_CHARACTERS_MAX,
        description="File to which the tracker writes phases and metrics.",
    )
    project: str = Field(
        default="", pattern=_NAME_OR_NONE, description="The project that the run is of; empty where there is none."
    )
    checkpoint_folder: str = Field(
        default="",
        max_length=_PATH_CHARACTERS_MAX,
        description="Folder that outlives the attempt: a program that is asked to stop saves its state here, and its next "
        "attempt finds it here again.",
    )
    metered: bool = Field(
        default=False, description="An agent on this host meters the run; the tracker must not do it again."
    )
    zone: str = Field(default="", pattern=_ZONE, description="Grid zone; empty where unknown.")
    pue: float = Field(default=1.0, ge=1, le=PUE_MAX, allow_inf_nan=False)
    price_microusd_per_hour: int = Field(default=0, ge=0, le=_MICROUSD_MAX, description="The machine's rent.")
    electricity_microusd_per_kwh: int = Field(default=0, ge=0, le=_MICROUSD_MAX, description="Paid on top of the rent.")
    embodied_grams_co2e_per_hour: float = Field(
        default=0.0,
        ge=0,
        le=_EMBODIED_GRAMS_PER_HOUR_MAX,
        allow_inf_nan=False,
        description="The run's share of making the machine, an hour; 0 where not known.",
    )

    def to_environment(self) -> dict[str, str]:
        """The variables to start a run's program with.

        >>> RunContext(run_id="run-1").to_environment()["ERGONAUT_RUN_ID"]
        'run-1'
        """
        values = self.model_dump(mode="json")
        return {f"{_PREFIX}{name.upper()}": str(value) for name, value in values.items()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """The run that an environment tells of, or None where it tells of none or is damaged.

        >>> RunContext.from_environment({"HOME": "/"}) is None
        True
        """
        values = {name: environment.get(f"{_PREFIX}{name.upper()}") for name in cls.model_fields}
        if not values["run_id"]:
            return None
        try:
            return cls.model_validate({name: value for name, value in values.items() if value is not None})
        except ValueError:
            return None
