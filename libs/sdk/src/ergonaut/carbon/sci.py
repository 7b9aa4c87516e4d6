"""The Software Carbon Intensity of ISO/IEC 21031:2024: SCI = ((E x I) + M) / R."""


def sci_grams(
    operational_grams_co2e: float | None, embodied_grams_co2e: float | None, functional_units: float
) -> float | None:
    """Grams of CO2e for each functional unit: operational (E x I, location-based) and embodied (M) over R.

    None where a part is not known or there is no unit: a score without hardware is no SCI. Offsets and certificates do not
    enter; the standard forbids it.

    >>> sci_grams(900.0, 100.0, 4)
    250.0
    >>> sci_grams(900.0, None, 4) is None
    True
    """
    if operational_grams_co2e is None or embodied_grams_co2e is None or functional_units <= 0:
        return None
    return (operational_grams_co2e + embodied_grams_co2e) / functional_units
