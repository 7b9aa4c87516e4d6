"""The words of compliance reports and certificates that terminal and page share."""

from ergonaut.reports import numbers
from ergonaut.reports.accounts import Certificate, Compliance


def figures_of(report: Compliance) -> list[tuple[str, str]]:
    """The report's figures with their names, for people."""
    sci = numbers.carbon(report.sci_grams_co2e) if report.sci_grams_co2e is not None else numbers.NOT_KNOWN
    embodied = report.scope3_embodied_grams_co2e
    return [
        ("Energy, building included", f"{numbers.kilowatt_hours_figure(report.energy_kwh)}"),
        ("Scope 2, location-based", numbers.carbon(report.scope2_location_grams_co2e)),
        ("Scope 2, market-based", numbers.carbon(report.scope2_market_grams_co2e)),
        ("Covered by certificates", f"{numbers.significant(report.certified_kwh)} kWh"),
        ("Scope 3, making of machines", numbers.carbon(embodied) if embodied is not None else numbers.NOT_KNOWN),
        ("SCI (ISO/IEC 21031)", f"{sci} for one of {report.functional_units:,.0f} {report.functional_unit}"),
        ("Offsets, subtracted nowhere", numbers.carbon(report.offset_grams_co2e)),
    ]


def amount_of(certificate: Certificate) -> str:
    """What a certificate covers, for people."""
    if certificate.kind == "offset":
        return numbers.carbon(certificate.offset_grams_co2e)
    return f"{numbers.significant(certificate.energy_kwh)} kWh"
