"""Where a tracked program uses its energy, as far as its environment says: how clean, in what building, on what machine."""

import contextlib
import sys
from collections.abc import Mapping
from functools import cache

from ergonaut.carbon import Embodied, Intensity, PueSource, embodied_from, own_intensity, yearly_intensity
from ergonaut.carbon.embodied import MACHINE_VARIABLE
from ergonaut.metering import intensity_from
from ergonaut.runcontext import RunContext


def place_intensity(environment: Mapping[str, str], zone: str) -> Intensity:
    """The intensity that is set, else the zone's yearly factor, else the world's average, flagged. Raises Refused."""
    told = intensity_from(environment, zone)
    if told.kind == "world-average":
        return yearly_intensity(zone)
    return own_intensity(environment, zone, told.grams_per_kwh)


@cache
def tell_of_unknown_zone(zone: str) -> None:
    """Say on stderr, once a process, that a zone has no factor, since a slip of the pen looks like that too."""
    with contextlib.suppress(Exception):
        print(  # noqa: T201
            f"ergonaut: zone {zone} is in no table of factors, so the world's average counts and is marked as such where pricing "
            "tells nothing else; give one such as DE or US-CAL, or set ERGONAUT_INTENSITY_GRAMS_PER_KWH",
            file=sys.stderr,
        )


def embodied_per_hour(environment: Mapping[str, str], context: RunContext | None) -> float:
    """Grams of CO2e an hour of making this machine; 0 where neither the environment nor the lease tells. Raises Refused."""
    if context is not None and context.embodied_grams_co2e_per_hour:
        return context.embodied_grams_co2e_per_hour
    made = _made(environment)
    return made.grams_co2e_per_hour if made else 0.0


def embodied_source(environment: Mapping[str, str], grams_co2e_per_hour: float) -> str:
    """Where an hour's figure of `embodied_per_hour` comes from and how far it may be off, where it is an estimate; else empty."""
    made = _made(environment)
    return made.basis if made is not None and made.grams_co2e_per_hour == grams_co2e_per_hour else ""


def _made(environment: Mapping[str, str]) -> Embodied | None:
    if not environment.get(MACHINE_VARIABLE):
        return embodied_from(environment)
    from ergonaut.metering.hosts import host_facts

    # Which accelerators there are is not known before the meters are opened; the estimate says that it is without them.
    return embodied_from(environment, memory_gib=host_facts().memory_gib)


def pue_source_of(environment: Mapping[str, str], context: RunContext | None) -> PueSource:
    """Who told the PUE of this environment: the placement of a run, or whoever set the variable."""
    if not environment.get("ERGONAUT_PUE", "").strip():
        return PueSource.NOT_TOLD
    return PueSource.PROVIDER if context is not None else PueSource.SETTINGS
