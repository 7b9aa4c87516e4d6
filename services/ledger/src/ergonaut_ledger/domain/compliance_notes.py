"""What an auditor must know beside a compliance report's figures: the standards, their limits, and what weakens the figures."""

from ergonaut_ledger.domain.compliance import LOCATION, Compliance, Use


def method_notes(use: Use) -> list[str]:
    """The standards and how they are followed."""
    return [
        "Scope 2 follows the GHG Protocol Scope 2 Guidance (WRI and WBCSD, 2015) by both methods; energy includes the building "
        "(PUE).",
        "Location-based: each sample's energy times the average intensity of its zone and hour; where a sample carries a "
        "market-based or marginal figure, the zone's yearly average instead.",
        "Market-based: first certificates and power purchases of the same market and time, by the part of their time that lies "
        "in this report and at most the energy used there; then suppliers' figures; then the residual mix; then the location's "
        "average.",
        "Scope 3, category 2 (Corporate Value Chain Standard, 2011): making the machines, shared out by ISO/IEC 21031:2024, "
        "M = TE x TiR / EL x RR / ToR.",
        f"SCI by ISO/IEC 21031:2024: (location-based grams + embodied grams) / {use.functional_unit or 'run'}; idling of the "
        "tenant's hosts counts in, certificates and offsets do not.",
        "Offsets are told apart and subtracted from nothing.",
    ]


def weaknesses(use: Use, report: Compliance) -> list[str]:
    """What weakens the figures, in sentences."""
    notes = []
    total = sum(day.energy_joules for day in use.days)
    if total <= 0:
        return ["No energy was measured in this time."]

    def percent(joules: float) -> str:
        return f"{100 * joules / total:.3g} % of the energy"

    located = [factor for factor in report.factors if factor.basis.accounting == LOCATION]
    unknown = sum(factor.energy_joules for factor in located if factor.basis.kind == "world-average")
    if unknown:
        notes.append(f"{percent(unknown)} was used in unknown zones and is weighed by the world's average.")
    modelled = sum(factor.energy_joules for factor in located if factor.basis.kind == "typical")
    if modelled:
        notes.append(
            f"{percent(modelled)} is weighed by typical days: yearly averages, bent by an estimate of the hour."
        )
    direct = sum(factor.energy_joules for factor in located if factor.basis.boundary == "direct")
    if direct and direct < total:
        notes.append(
            f"{percent(direct)} is weighed by direct emissions only, the rest by life-cycle ones; the two do not compare."
        )
    if report.market_by_location_joules:
        notes.append(
            f"{percent(report.market_by_location_joules)} has neither certificate, supplier's figure nor residual mix: "
            "market-based as location-based."
        )
    plain = sum(day.joules_without_pue for day in use.days)
    if plain:
        notes.append(
            f"{percent(plain)} is reckoned with a PUE of 1: none was told, or there is no building to speak of."
        )
    hardware = use.hardware
    if hardware.hosts_known < hardware.hosts:
        notes.append(f"What making the machine emitted is known for {hardware.hosts_known} of {hardware.hosts} hosts.")
    if use.is_of_a_part and use.certificates:
        notes.append(
            "Certificates and offsets are the tenant's: certificates cover the same part of each project's energy, offsets are "
            "told whole."
        )
    if use.functional_unit:
        notes.append(f"A run that is only partly in this time counts all its {use.functional_unit}.")
    return notes
