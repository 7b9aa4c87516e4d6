"""Where the host's electricity comes from, and how clean it is, as far as anybody has said; nothing is ever guessed.

A guessed place can be a hundred times too clean, so what is not known is the world's average and is marked as such.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ergonaut.carbon import zone_code
from ergonaut.errors import Refused

# IEA, Global Energy & CO2 Status Report 2019: the average carbon intensity of electricity generated in 2018.
WORLD_AVERAGE_GRAMS_PER_KWH = 475.0
ZONE_VARIABLE = "ERGONAUT_ZONE"
INTENSITY_VARIABLE = "ERGONAUT_INTENSITY_GRAMS_PER_KWH"
_ZONE_LENGTH_MAX = 32


@dataclass(frozen=True, slots=True)
class Intensity:
    """Grams of CO2e per kWh, what that rests on (`yearly`, `world-average`, ...) and where it comes from."""

    zone: str
    grams_per_kwh: float
    kind: str
    source: str


def zone_from(environment: Mapping[str, str]) -> str:
    """The grid zone that was set, such as `DE` or `US-CAL`, as the tables write it; empty where none was. Raises Refused.

    >>> zone_from({"ERGONAUT_ZONE": "de"}), zone_from({"ERGONAUT_ZONE": "us-cal-ciso"}), zone_from({})
    ('DE', 'US-CAL-CISO', '')
    """
    zone = environment.get(ZONE_VARIABLE, "").strip()
    allowed = zone.isascii() and all(letter.isalnum() or letter in "-_" for letter in zone)
    if len(zone) > _ZONE_LENGTH_MAX or not allowed:
        raise Refused(f"{zone!r} is no grid zone; give one such as DE or US-CAL, or nothing", field=ZONE_VARIABLE)
    return zone_code(zone)


def intensity_from(environment: Mapping[str, str], zone: str = "") -> Intensity:
    """The intensity that was set for this host, else the world's average, flagged; looks nothing up.

    >>> intensity_from({}).kind
    'world-average'
    """
    text = environment.get(INTENSITY_VARIABLE, "").strip()
    if text:
        return Intensity(zone, _positive(text, INTENSITY_VARIABLE), "yearly", "settings")
    why = f"no factor is set for {zone}" if zone else "nobody has set a zone"
    return Intensity(zone, WORLD_AVERAGE_GRAMS_PER_KWH, "world-average", f"IEA 2019, the world's average, since {why}")


def _positive(text: str, field: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise Refused(f"{text!r} is no positive number of grams of CO2e per kWh", field=field)
    return value
