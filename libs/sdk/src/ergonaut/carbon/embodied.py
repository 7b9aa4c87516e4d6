"""What making a machine emitted, shared out over its life: M = TE x (TiR / EL) x (RR / ToR) of ISO/IEC 21031:2024.

The total TE is set, or estimated from a small table (`embodied.csv`) for whoever says which kind of machine it is; else it is
not known. It is never guessed from the host, since a virtual machine does not know what it is a part of.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import isfinite

from ergonaut.errors import Refused
from ergonaut.units import SECONDS_PER_HOUR

TOTAL_VARIABLE = "ERGONAUT_EMBODIED_GRAMS_CO2E"
LIFESPAN_VARIABLE = "ERGONAUT_EMBODIED_LIFESPAN_YEARS"
SHARE_VARIABLE = "ERGONAUT_EMBODIED_SHARE"
MACHINE_VARIABLE = "ERGONAUT_EMBODIED_MACHINE"

LIFESPAN_YEARS_DEFAULT = 4.0
"""EL where none is set: the time over which the account of cloud machines by Teads (2021) and most servers are written off."""

SECONDS_PER_YEAR = 365.25 * 24 * SECONDS_PER_HOUR
_GRAMS_MAX = 1e12
_YEARS = (0.1, 50.0)


@dataclass(frozen=True, slots=True)
class Embodied:
    """What a machine's making emitted and by what rule it is shared out."""

    total_grams_co2e: float
    lifespan_years: float = LIFESPAN_YEARS_DEFAULT
    share: float = 1.0
    range_fraction: float | None = None
    source: str = "settings"

    @property
    def grams_co2e_per_hour(self) -> float:
        """The share of an hour."""
        return embodied_grams(self, SECONDS_PER_HOUR)

    @property
    def basis(self) -> str:
        """Where the figure comes from and how far it may be off, where it is an estimate; else empty."""
        return "" if self.range_fraction is None else f"{self.source}, to within {self.range_fraction:.0%}"


def embodied_grams(embodied: Embodied, seconds_reserved: float) -> float:
    """M in grams: TE (total) x TiR (seconds reserved) / EL (lifespan) x RR / ToR (share of the machine).

    >>> round(embodied_grams(Embodied(1_461_000, lifespan_years=4, share=0.5), 3600), 6)
    20.833333
    """
    lifespan_seconds = embodied.lifespan_years * SECONDS_PER_YEAR
    return embodied.total_grams_co2e * (max(0.0, seconds_reserved) / lifespan_seconds) * embodied.share


def embodied_from(
    environment: Mapping[str, str], *, memory_gib: float = 0.0, accelerators: Mapping[str, int] | None = None
) -> Embodied | None:
    """What the environment sets of this machine; None where it sets neither a total nor a kind. Raises Refused.

    >>> embodied_from({}) is None
    True
    >>> embodied_from({"ERGONAUT_EMBODIED_GRAMS_CO2E": "1200000"}).lifespan_years
    4.0
    """
    total = _number(environment, TOTAL_VARIABLE, 0.0, _GRAMS_MAX)
    years = _number(environment, LIFESPAN_VARIABLE, *_YEARS) or LIFESPAN_YEARS_DEFAULT
    share = _number(environment, SHARE_VARIABLE, 0.0, 1.0)
    share = 1.0 if share is None else share
    if total is not None:
        return Embodied(total, years, share)
    kind = environment.get(MACHINE_VARIABLE, "").strip()
    if not kind:
        return None
    if kind not in ("server", "laptop"):
        raise Refused(f"{kind!r} is neither server nor laptop", field=MACHINE_VARIABLE)
    grams, range_fraction = _estimated(kind, memory_gib, accelerators or {})
    what = "server without accelerators" if kind == "server" and not accelerators else kind
    return Embodied(grams, years, share, range_fraction, f"estimate for a {what} from embodied.csv")


def estimated_server(memory_gib: float, accelerators: Mapping[str, int], *, processors: int = 1) -> Embodied:
    """A whole server by its parts; an estimate, good to about a half.

    >>> estimated_server(384, {"H100-80GB": 8}, processors=2).total_grams_co2e
    2944992.0
    """
    grams, range_fraction = _estimated("server", memory_gib, accelerators)
    grams += (processors - 1) * _parts()["processor"].grams_co2e
    return Embodied(grams, range_fraction=range_fraction, source="estimate for a server from embodied.csv")


@dataclass(frozen=True, slots=True)
class _Part:
    grams_co2e: float
    range_fraction: float


def _estimated(kind: str, memory_gib: float, accelerators: Mapping[str, int]) -> tuple[float, float]:
    parts = _parts()
    pieces = [(1.0, parts[kind])]
    if kind == "server":
        pieces.append((memory_gib, parts["memory_gib"]))
        pieces += [(float(count), parts.get(name, parts["accelerator"])) for name, count in accelerators.items()]
    grams = sum(count * part.grams_co2e for count, part in pieces)
    return grams, sum(count * part.grams_co2e * part.range_fraction for count, part in pieces) / grams


@cache
def _parts() -> Mapping[str, _Part]:
    text = (resources.files("ergonaut.carbon") / "embodied.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["part"]: _Part(float(row["grams_co2e"]), float(row["range_fraction"])) for row in rows}


def _number(environment: Mapping[str, str], name: str, least: float, most: float) -> float | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value) or not least <= value <= most:
        raise Refused(f"{text!r} is no number from {least:g} to {most:g}", field=name)
    return value
