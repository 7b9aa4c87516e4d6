"""A run's footprint as flat figures and facts, under the same names in every tool; units are in the names."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ergonaut.errors import Refused
from ergonaut.tracking.summary import RunSummary

PREFIX = "ergonaut/"
FOLDER_VARIABLE = "ERGONAUT_EXPORT_FOLDER"
_TOTALS = ("energy_joules", "carbon_grams_co2e", "cost_usd", "range_fraction", "duration_seconds")


def figures_of(summary: RunSummary) -> Mapping[str, float]:
    """What can be drawn as a curve: totals, each component's joules, and counted work and metrics.

    What was not measured or is not known is left out, so that no tool shows it as 0.
    """
    totals = {name: getattr(summary, name) for name in _TOTALS}
    components = {f"{item.component}_energy_joules": item.energy_joules for item in summary.components}
    known = {f"{PREFIX}{name}": value for name, value in (totals | components).items() if value is not None}
    return known | {f"{PREFIX}metrics/{name}": value for name, value in summary.metrics.items()}


def facts_of(summary: RunSummary) -> Mapping[str, str]:
    """What says how the figures came to be: who, where, by which method, how far off."""
    facts = {
        "run_id": summary.run_id,
        "name": summary.name,
        "project": summary.project,
        "state": summary.state.value if summary.state else "",
        "because": summary.because,
        "zone": summary.zone,
        "intensity": f"{summary.intensity_kind}: {summary.intensity_source}" if summary.intensity_kind else "",
        "metered_by": summary.metered_by,
    }
    facts |= {f"{item.component}_method": f"{item.method.value}: {item.source}" for item in summary.components}
    return {f"{PREFIX}{name}": value for name, value in facts.items() if value}


def export_folder(folder: Path | None) -> Path:
    """The folder for files: the one given, else ERGONAUT_EXPORT_FOLDER, else the current one. Raises Refused."""
    chosen = folder or Path(os.environ.get(FOLDER_VARIABLE, "") or ".")
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{chosen} cannot be made: {error.strerror}", field=FOLDER_VARIABLE) from error
    return chosen


@contextlib.contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """A draft to write, which takes the file's place in one step; of one that could not be written nothing is left."""
    draft = file.with_suffix(f".{os.getpid()}.part")
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
