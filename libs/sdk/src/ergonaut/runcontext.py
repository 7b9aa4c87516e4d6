"""What a run's processes carry in their environment, so that any meter on the host knows whom to charge and at what price.

The orchestrator writes it when it starts a program; the tracker and the telemetry agent read it.
"""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

_PREFIX = "ERGONAUT_"


class RunContext(BaseModel):
    """One run as its own processes know it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    tenant: str = Field(default="default", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    job_id: str = ""
    journal: str = Field(default="", description="File to which the tracker writes phases and metrics.")
    project: str = Field(default="", description="The project that the run is of; empty where there is none.")
    checkpoint_folder: str = Field(
        default="",
        description="Folder that outlives the attempt: a program that is asked to stop saves its state here, and its next "
        "attempt finds it here again.",
    )
    metered: bool = Field(
        default=False, description="An agent on this host meters the run; the tracker must not do it again."
    )
    zone: str = Field(default="", description="Grid zone; empty where unknown.")
    pue: float = Field(default=1.0, ge=1)
    price_microusd_per_hour: int = Field(default=0, ge=0, description="The machine's rent.")
    electricity_microusd_per_kwh: int = Field(default=0, ge=0, description="Paid on top of the rent.")
    embodied_grams_co2e_per_hour: float = Field(
        default=0.0, ge=0, description="The run's share of making the machine, an hour; 0 where not known."
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
