"""Grams and dollars from joules, by one rule for tracker, agent and ledger; pure, offline, each figure with what it rests on.

`stamping` weighs an energy, `factors` knows each zone's year, `embodied` shares out what making a machine emitted, and `sci` puts
the two together by ISO/IEC 21031:2024. Which bounds and methods hold is decided in docs/adr/0011.
"""

from ergonaut.carbon.embodied import LIFESPAN_YEARS_DEFAULT, Embodied, embodied_from, embodied_grams
from ergonaut.carbon.factors import YearlyFactor, yearly_factor, zone_code, zone_name
from ergonaut.carbon.intensities import (
    Intensity,
    hourly_intensity,
    own_intensity,
    with_newly_told,
    yearly_intensity,
)
from ergonaut.carbon.sci import sci_grams
from ergonaut.carbon.stamping import (
    PUE_NOT_TOLD,
    PueSource,
    electricity_usd,
    machine_source,
    operational_grams,
    rent_usd,
)

__all__ = [
    "LIFESPAN_YEARS_DEFAULT",
    "PUE_NOT_TOLD",
    "Embodied",
    "Intensity",
    "PueSource",
    "YearlyFactor",
    "electricity_usd",
    "embodied_from",
    "embodied_grams",
    "hourly_intensity",
    "machine_source",
    "operational_grams",
    "own_intensity",
    "rent_usd",
    "sci_grams",
    "with_newly_told",
    "yearly_factor",
    "yearly_intensity",
    "zone_code",
    "zone_name",
]
