"""Each grid zone's yearly average intensity, from a table that comes along, so that no network is needed.

Called by the tracker, the agent and `pricing`, which share this one table: `factors.csv`. Facts compiled by us:

- Countries: life-cycle, Ember and Energy Institute by way of Our World in Data, CC BY 4.0.
- States of the US: EPA eGRID2023, total output rate, public domain. Direct emissions of the state's own plants only, hence the
  range of 60 %: California and Virginia import much power that is dirtier than their own.
- Provinces of Canada: reckoned by us, the shares of generation in the Canada Energy Regulator's provincial profiles times the
  medians of IPCC AR5 WG III, annex III, table A.III.2 (g/kWh: coal 820, gas 490, biomass 230, solar 48, hydro 24, tide 17,
  nuclear 12, wind 11), and 733 for oil (World Nuclear Association 2011).
- `WORLD` stands in for what is not here: the average of 2018, IEA, Global Energy & CO2 Status Report 2019.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from ergonaut.events.pricing import Boundary

WORLD = "WORLD"

COUNTRY_FOR_PART_RANGE = 1.0
"""How far a part of a country may be off the whole: Alberta emits three times Canada's average."""

_OTHER_NAMES = {
    "US-CAL": "US-CA",
    "US-CAL-CISO": "US-CA",
    "US-TEX": "US-TX",
    "US-TEX-ERCO": "US-TX",
    "US-NY-NYIS": "US-NY",
    "UK": "GB",
    "EL": "GR",
}
"""Names by which others call zones of the table; balancing areas that are one state, and two countries as the EU writes them."""


@dataclass(frozen=True, slots=True)
class YearlyFactor:
    """A zone's average over a year, location-based."""

    zone: str
    intensity_grams_per_kwh: float
    year: int
    boundary: Boundary
    range_fraction: float
    licence: str
    source: str
    stands_for: str = ""
    """The zone asked for, where the factor is that of the country it lies in."""

    @property
    def citation(self) -> str:
        """Where the factor comes from, in one line."""
        cited = f"{self.source} ({self.year}, {self.boundary.value}, {self.licence})"
        return (
            f"{cited}; that of {self.zone} as a whole, since {self.stands_for} is not in the table"
            if self.stands_for
            else cited
        )


def yearly_factor(zone: str) -> YearlyFactor | None:
    """The factor of a zone in any case, of the country it is a part of, or None where neither is known; never a clean guess.

    >>> yearly_factor("de").intensity_grams_per_kwh, yearly_factor("US-CAL").zone, yearly_factor("SE-SE3").zone
    (381.0, 'US-CA', 'SE')
    >>> yearly_factor("ATLANTIS") is None
    True
    """
    asked = zone_name(zone)
    known = shipped_factors()
    found = known.get(asked)
    if found is not None:
        return None if found.zone == WORLD else found
    country = known.get(asked.partition("-")[0])
    if country is None or country.zone == WORLD:
        return None
    return replace(country, range_fraction=COUNTRY_FOR_PART_RANGE, stands_for=zone)


def zone_name(zone: str) -> str:
    """The one name of a zone that others write in another way, so that two mentions of it can be told to be the same.

    >>> zone_name("us_cal"), zone_name("UK"), zone_name("SE-SE3")
    ('US-CA', 'GB', 'SE-SE3')
    """
    asked = zone_code(zone)
    return _OTHER_NAMES.get(asked, asked)


def zone_code(zone: str) -> str:
    """A zone's code as the tables and `pricing` write it; whoever takes a zone in from outside does it once, by this.

    >>> zone_code("de"), zone_code("us-cal-ciso"), zone_code(" us_cal ")
    ('DE', 'US-CAL-CISO', 'US-CAL')
    """
    return zone.strip().upper().replace("_", "-")


def world_factor() -> YearlyFactor:
    """The world's average, for what is not known."""
    return shipped_factors()[WORLD]


@cache
def shipped_factors() -> Mapping[str, YearlyFactor]:
    """The whole table by zone; read once, when first asked for."""
    text = (resources.files("ergonaut.carbon") / "factors.csv").read_text("utf-8")
    return {row["zone"]: _factor(row) for row in csv.DictReader(text.splitlines())}


def _factor(row: Mapping[str, str]) -> YearlyFactor:
    return YearlyFactor(
        zone=row["zone"],
        intensity_grams_per_kwh=float(row["intensity_grams_per_kwh"]),
        year=int(row["year"]),
        boundary=Boundary(row["boundary"]),
        range_fraction=float(row["range_fraction"]),
        licence=row["licence"],
        source=row["source"],
    )
