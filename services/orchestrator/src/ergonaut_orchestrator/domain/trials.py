"""A trained model on trial: where it comes from, what it is asked, and what the training's end leads to."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ergonaut.retraining import Artifacts, Judging


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a run used; what nobody measured is None, which is not 0."""

    energy_joules: float | None = None
    energy_joules_range: float | None = None
    carbon_grams_co2e: float | None = None
    carbon_grams_co2e_range: float | None = None
    cost_usd: float | None = None
    cost_usd_range: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """Rows for a model's input, and the output that is wanted; an empty name is the only input, or the first output."""

    rows: NDArray[Any]
    input: str = ""
    output: str = ""


@dataclass(frozen=True, slots=True)
class Trained:
    """A training's run, and the files that it kept by their names in the store; an empty one is not there."""

    tenant: str
    model: str
    run_id: str
    model_file: str
    signature_file: str = ""


@dataclass(frozen=True, slots=True)
class Deployed:
    """The new version, and the one that was served by default before it; 0 where there was none."""

    challenger: int
    champion: int


@dataclass(frozen=True, slots=True)
class Trial:
    """Which versions are held against each other, on which rows; champion 0 is none."""

    tenant: str
    model: str
    deployed: Deployed
    validation_file: str
    judging: Judging


def missing_file(artifacts: Artifacts, *, model_file: str, validation_file: str) -> str:
    """What a training should have kept and did not, in words; empty where all is there."""
    for name, kept, field in (
        (artifacts.model, model_file, "model"),
        (artifacts.validation, validation_file, "validation"),
    ):
        if not kept:
            return f"artifacts.{field}: the training kept no {name}; name it among the job's artifacts too"
    return ""
