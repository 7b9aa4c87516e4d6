"""What an energy weighs in grams and costs in dollars: the one rule that the tracker and the agent share."""

from enum import StrEnum

from ergonaut.units import SECONDS_PER_HOUR, carbon_grams, kwh_from_joules


class PueSource(StrEnum):
    """Who told the power usage effectiveness that is in a sample's grams and dollars."""

    SETTINGS = "settings"
    PROVIDER = "provider"
    NOT_TOLD = "not told"


PUE_NOT_TOLD = 1.0
"""Where nobody told a PUE, the building is left out; that is the least it can be, and is marked as not told."""


def operational_grams(energy_joules: float | None, *, pue: float, intensity_grams_per_kwh: float) -> float | None:
    """Grams of CO2e of using an energy, building included; None where the energy is not known.

    Linear in the energy, so that the grams of parts add up to the grams of their sum.

    >>> operational_grams(1_800_000, pue=1.5, intensity_grams_per_kwh=400)
    300.0
    >>> operational_grams(None, pue=1.5, intensity_grams_per_kwh=400) is None
    True
    """
    return None if energy_joules is None else carbon_grams(energy_joules * pue, intensity_grams_per_kwh)


def electricity_usd(energy_joules: float | None, *, pue: float, price_usd_per_kwh: float | None) -> float | None:
    """US dollars of an energy at a price per kWh at the building's meter; None where energy or price is not known.

    Whoever pays for a kWh pays for what the building used along with it, hence the PUE, as in the prices of offers. Who pays for
    the machine's kWh alone, as a tenant of a colocation may, gives the price over the PUE.

    >>> electricity_usd(3_600_000, pue=1.2, price_usd_per_kwh=0.25)
    0.3
    """
    if energy_joules is None or price_usd_per_kwh is None:
        return None
    return kwh_from_joules(energy_joules * pue) * price_usd_per_kwh


def rent_usd(price_usd_per_hour: float, seconds: float) -> float:
    """US dollars of renting for a time; a clock that went backwards costs nothing.

    >>> rent_usd(3.6, 10)
    0.01
    """
    return price_usd_per_hour * max(0.0, seconds) / SECONDS_PER_HOUR


def machine_source(price_usd_per_hour: float, embodied_grams_co2e_per_hour: float, embodied_basis: str = "") -> str:
    """What a sample of the machine says of its rent and its making, each where there is any; empty where there is neither.

    >>> machine_source(0.5, 30.0)
    'rent of 0.5 USD an hour; 30 g CO2e an hour for making the machine (ISO/IEC 21031)'
    """
    basis = f"ISO/IEC 21031; {embodied_basis}" if embodied_basis else "ISO/IEC 21031"
    told = [f"rent of {price_usd_per_hour:g} USD an hour"] if price_usd_per_hour else []
    if embodied_grams_co2e_per_hour:
        told.append(f"{embodied_grams_co2e_per_hour:g} g CO2e an hour for making the machine ({basis})")
    return "; ".join(told)
