"""Names for the units in use and the few conversions between them; inside the system all is joules, watts, seconds, grams.

Money is `float` dollars where it is measured in small pieces (a sample's share of a cent) and `int` micro-dollars where it is
agreed upon (prices, budgets); see docs/adr/0003.
"""

from typing import NewType

Watts = NewType("Watts", float)
Joules = NewType("Joules", float)
Seconds = NewType("Seconds", float)
Grams = NewType("Grams", float)
GramsPerKwh = NewType("GramsPerKwh", float)
Usd = NewType("Usd", float)
MicroUsd = NewType("MicroUsd", int)

JOULES_PER_KWH = 3_600_000.0
SECONDS_PER_HOUR = 3_600.0
MICROUSD_PER_USD = 1_000_000


def kwh_from_joules(energy_joules: float) -> float:
    """Convert energy.

    >>> kwh_from_joules(7_200_000)
    2.0
    """
    return energy_joules / JOULES_PER_KWH


def joules_from_kwh(energy_kwh: float) -> Joules:
    """Convert energy.

    >>> joules_from_kwh(0.5)
    1800000.0
    """
    return Joules(energy_kwh * JOULES_PER_KWH)


def carbon_grams(energy_joules: float, intensity_grams_per_kwh: float) -> Grams:
    """Grams of CO2e of an energy at a grid intensity.

    >>> carbon_grams(3_600_000, 475)
    475.0
    """
    return Grams(kwh_from_joules(energy_joules) * intensity_grams_per_kwh)


def usd_from_micro(amount_microusd: float) -> Usd:
    """Convert money.

    >>> usd_from_micro(2_500_000)
    2.5
    """
    return Usd(amount_microusd / MICROUSD_PER_USD)


def micro_from_usd(amount_usd: float) -> MicroUsd:
    """Convert money, rounding to the nearest micro-dollar.

    >>> micro_from_usd(0.0000015)
    2
    """
    return MicroUsd(round(amount_usd * MICROUSD_PER_USD))
