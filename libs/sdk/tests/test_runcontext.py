"""What a process tells of its run in its environment is believed within bounds, since any process may tell anything."""

import pytest

from ergonaut.runcontext import RunContext

HONEST = RunContext(
    run_id="run-1",
    tenant="vision",
    job_id="job-1",
    journal="/var/lib/ergonaut/run-1/journal.jsonl",
    project="digits",
    metered=True,
    zone="US-CAL-CISO",
    pue=1.2,
    price_microusd_per_hour=98_000_000,
    electricity_microusd_per_kwh=310_000,
    embodied_grams_co2e_per_hour=41.7,
)


def test_what_is_told_is_understood_as_it_was_meant() -> None:
    assert RunContext.from_environment(HONEST.to_environment()) == HONEST


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("ERGONAUT_PUE", "inf"),
        ("ERGONAUT_PUE", "nan"),
        ("ERGONAUT_PUE", "6"),
        ("ERGONAUT_PRICE_MICROUSD_PER_HOUR", "9" * 400),
        ("ERGONAUT_ELECTRICITY_MICROUSD_PER_KWH", "9" * 20),
        ("ERGONAUT_EMBODIED_GRAMS_CO2E_PER_HOUR", "inf"),
        ("ERGONAUT_EMBODIED_GRAMS_CO2E_PER_HOUR", "1e300"),
        ("ERGONAUT_JOB_ID", "j" * 125_000),
        ("ERGONAUT_PROJECT", "two words"),
        ("ERGONAUT_ZONE", "D" * 65),
        ("ERGONAUT_JOURNAL", "/" + "x" * 4096),
        ("ERGONAUT_RUN_ID", "run\n1"),
    ],
)
def test_an_environment_that_nobody_can_reckon_with_tells_of_no_run(variable: str, text: str) -> None:
    assert RunContext.from_environment(HONEST.to_environment() | {variable: text}) is None
