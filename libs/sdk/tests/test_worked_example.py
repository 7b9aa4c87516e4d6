"""The worked example in the docs holds: its samples, stamped by the code, give the values that the page tells."""

import re
from pathlib import Path

import pytest

from ergonaut.carbon import Embodied, electricity_usd, embodied_grams, operational_grams, rent_usd, sci_grams

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "worked-example.md").read_text()
PUE, PRICE_USD_PER_KWH, RENT_USD_PER_HOUR, RUN_SECONDS = 1.2, 0.30, 0.36, 60
MACHINE = Embodied(1_461_000, lifespan_years=4)


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def told(heading: str) -> dict[str, float]:
    return {row[0]: float(row[-1]) for row in table(heading)}


def samples() -> list[tuple[int, float, float, float]]:
    """Number, joules, range and intensity of each sample that was measured."""
    return [
        (int(number), float(joules), float(fraction), float(grams))
        for number, _, _, _, joules, fraction, grams in table("The samples")
        if re.fullmatch(r"[\d.]+", joules)
    ]


def recomputed() -> dict[str, float]:
    grams = {
        number: operational_grams(joules, pue=PUE, intensity_grams_per_kwh=intensity) or 0.0
        for number, joules, _, intensity in samples()
    }
    joules = sum(sample[1] for sample in samples())
    electricity = electricity_usd(joules, pue=PUE, price_usd_per_kwh=PRICE_USD_PER_KWH) or 0.0
    rent = rent_usd(RENT_USD_PER_HOUR, RUN_SECONDS)
    return {
        "energy_joules": joules,
        "energy_joules_range": sum(sample[1] * sample[2] for sample in samples()),
        "carbon_grams_co2e": sum(grams.values()),
        **{f"carbon_grams_co2e sample {number}": value for number, value in grams.items()},
        "electricity_usd": electricity,
        "rent_usd": rent,
        "cost_usd": electricity + rent,
        "embodied_grams_co2e": embodied_grams(MACHINE, RUN_SECONDS),
        "intensity_grams_per_kwh": sum(grams.values()) / (joules * PUE / 3.6e6),
    }


def test_the_results_follow_from_the_samples_on_the_page() -> None:
    assert told("The results") == {name: pytest.approx(value, rel=2e-6) for name, value in recomputed().items()}


def test_the_report_follows_from_the_results() -> None:
    run = recomputed()
    kwh, certified = run["energy_joules"] * PUE / 3.6e6, 0.0005
    grams, embodied = run["carbon_grams_co2e"], run["embodied_grams_co2e"]
    expected = {
        "energy_kwh": kwh,
        "certified_kwh": certified,
        "scope2_location_grams_co2e": grams,
        "scope2_market_grams_co2e": grams * (kwh - certified) / kwh,
        "scope3_embodied_grams_co2e": embodied,
        "sci_grams_co2e": sci_grams(grams, embodied, 1_000),
    }
    assert told("The report") == {name: pytest.approx(value, rel=3e-6) for name, value in expected.items()}


def test_every_parameter_that_is_used_stands_on_the_page() -> None:
    for words in ("PUE of 1.2", "0.30 dollars a kWh", "0.36 dollars an hour", "1,461 kg", "4 years", "1,000 tokens"):
        assert words in PAGE
