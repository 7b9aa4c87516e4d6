"""What the meters said. Emitted by `telemetry` and by a tracker that streams; kept by the ledger."""

from enum import StrEnum
from typing import ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ergonaut.events.base import Event, Name
from ergonaut.events.pricing import Accounting, Boundary, Signal


class Method(StrEnum):
    """How a figure came to be."""

    COUNTER = "counter"
    POWER_SAMPLES = "power-samples"
    MODEL = "model"
    NOT_MEASURED = "not-measured"


class Share(StrEnum):
    """To whom an energy is charged: a run, other processes, or the host's being on at all."""

    RUN = "run"
    OTHERS = "others"
    IDLE = "idle"


class PowerSample(BaseModel):
    """The energy that one component used over one interval, charged to one run, to others, or to idling."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    share: Share = Field(description="To whom the energy is charged.")
    run_id: str = Field(default="", description="The run charged; empty for others and idle.")
    job_id: str = Field(default="", description="The run's job; empty where there is none.")
    project: str = Field(default="", description="The project that the run is of; empty where there is none.")
    component: str = Field(
        description="`cpu`, `dram`, `gpu0`, ...; `machine` is the machine's rent, which has no energy."
    )
    method: Method = Field(description="How the figure came to be.")
    source: str = Field(description="What was read or which model was used.")
    range_fraction: float | None = Field(
        default=None, ge=0, description="True value within plus or minus this fraction."
    )
    started_at: AwareDatetime = Field(description="Beginning of the interval, UTC.")
    ended_at: AwareDatetime = Field(description="End of the interval, UTC.")
    energy_joules: float | None = Field(
        default=None, ge=0, description="Joules over the interval; null where not measured."
    )
    carbon_grams_co2e: float | None = Field(default=None, ge=0, description="Grams of CO2e; null where not measured.")
    cost_usd: float | None = Field(
        default=None, ge=0, description="US dollars: electricity or rent; null where not known."
    )
    embodied_grams_co2e: float | None = Field(
        default=None,
        ge=0,
        description="The interval's share of making the machine, by ISO/IEC 21031 (SCI); only on the component `machine`, and "
        "never part of carbon_grams_co2e; null where not known.",
    )


class PowerSampled(Event):
    """All samples of one host (or tracker) over one interval, numbered so that a gap can be proved absent."""

    TYPE: ClassVar[str] = "telemetry.power.sampled"

    host: Name = Field(description="The host's name.")
    producer: Name = Field(description="Who numbers: the agent or tracker, the same over restarts.")
    sequence: int = Field(ge=1, description="Counts from 1 for each producer and tenant, without a gap.")
    zone: str = Field(default="", description="Grid zone; empty where unknown.")
    intensity_grams_per_kwh: float = Field(gt=0, description="Grid intensity used, grams of CO2e per kWh.")
    intensity_kind: str = Field(
        description="What it rests on: `typical`, `yearly`, `world-average`, `measured`, `forecast`."
    )
    intensity_source: str = Field(description="Where the intensity comes from.")
    pue: float = Field(
        default=1.0, ge=1, description="Energy of the building over energy of the machines, already in the grams."
    )
    pue_source: str = Field(
        default="", description="Who told the PUE: `settings`, `provider` or `not told`; empty from older producers."
    )
    intensity_signal: Signal = Field(default=Signal.AVERAGE, description="Which plants the intensity stands for.")
    intensity_accounting: Accounting = Field(
        default=Accounting.LOCATION_BASED, description="By which Scope 2 method the intensity was made."
    )
    intensity_boundary: Boundary = Field(default=Boundary.UNKNOWN, description="What the intensity counts of a plant.")
    joules_per_cpu_second: float | None = Field(
        default=None,
        ge=0,
        description="What each CPU-second of the interval is charged, whoever used it, in joules of all components that follow "
        "the CPU's work; idling is apart. Null where that is not measured, or nothing worked.",
    )
    samples: tuple[PowerSample, ...] = Field(description="At most a few thousand.")

    @property
    def key(self) -> str:
        return self.host


class ComponentReport(BaseModel):
    """How one component of a host is measured."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    component: str
    method: Method
    source: str = Field(description="What is read, or why nothing can be and how to change that.")
    range_fraction: float | None = None


class HostReported(Event):
    """A host's meters, told when its agent starts and when they change."""

    TYPE: ClassVar[str] = "telemetry.host.reported"

    host: Name
    zone: str = ""
    cpu_name: str
    logical_cpus: int = Field(ge=1)
    memory_gib: float = Field(gt=0)
    accelerator: str = Field(default="", description="Accelerator by name, such as `H100-80GB`; empty for none.")
    accelerator_count: int = Field(default=0, ge=0)
    components: tuple[ComponentReport, ...]

    @property
    def key(self) -> str:
        return self.host
