"""A meter at the host's supply is never added to its parts; what it shows beyond them is the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.events.telemetry import Method
from ergonaut.metering import Reading
from ergonaut.metering.rest import WithRest


class Set:
    """A meter whose figures the test sets; None is not measured."""

    def __init__(self, **joules: float | None) -> None:
        self.joules = joules

    def read(self) -> list[Reading]:
        return [
            Reading(name, Method.NOT_MEASURED if value is None else Method.COUNTER, f"set {name}", 0.1, value)
            for name, value in self.joules.items()
        ]

    def users(self) -> dict[str, dict[int, float]]:
        return {"gpu0": {7: 1.0}} if "gpu0" in self.joules else {}

    def close(self) -> None: ...


def rest_of(meter: WithRest) -> Reading:
    return next(reading for reading in meter.read() if reading.component == "rest")


def test_the_rest_is_what_the_parts_do_not_account_for_and_is_all_idle() -> None:
    parts, platform = Set(cpu=1000.0, gpu0=50.0), Set(platform=9000.0)
    meter = WithRest([parts, platform])
    meter.read()
    parts.joules, platform.joules = {"cpu": 1030.0, "gpu0": 90.0}, {"platform": 9100.0}
    readings = {reading.component: reading for reading in meter.read()}
    assert set(readings) == {"cpu", "gpu0", "rest"}
    assert readings["rest"].energy_joules == pytest.approx(30.0)
    assert readings["rest"].idle_fraction == 1.0
    assert "less cpu, gpu0" in readings["rest"].source
    assert meter.users() == {"gpu0": {7: 1.0}}


def test_the_rest_is_off_by_what_all_are_off_by() -> None:
    parts, platform = Set(cpu=0.0), Set(platform=0.0)
    meter = WithRest([parts, platform])
    meter.read()
    parts.joules, platform.joules = {"cpu": 60.0}, {"platform": 100.0}
    assert rest_of(meter).range_fraction == pytest.approx((10 + 6) / 40)


def test_a_supply_that_lags_behind_its_parts_makes_up_nothing() -> None:
    parts, platform = Set(cpu=0.0), Set(platform=0.0)
    meter = WithRest([parts, platform])
    meter.read()
    parts.joules = {"cpu": 50.0}
    assert rest_of(meter).energy_joules == 0.0
    platform.joules = {"platform": 80.0}
    assert rest_of(meter).energy_joules == pytest.approx(30.0)


def test_time_without_the_supplys_meter_is_not_measured_and_not_taken_off_later() -> None:
    parts, platform = Set(cpu=0.0), Set(platform=0.0)
    meter = WithRest([parts, platform])
    meter.read()
    parts.joules, platform.joules = {"cpu": 500.0}, {"platform": None}
    unmeasured = rest_of(meter)
    assert (unmeasured.method, unmeasured.energy_joules) == (Method.NOT_MEASURED, None)
    platform.joules = {"platform": 100.0}
    meter.read()
    parts.joules, platform.joules = {"cpu": 510.0}, {"platform": 130.0}
    assert rest_of(meter).energy_joules == pytest.approx(20.0)


def test_a_part_that_could_not_be_read_for_a_while_is_taken_off_when_it_is_back() -> None:
    parts, platform = Set(cpu=0.0), Set(platform=0.0)
    meter = WithRest([parts, platform])
    meter.read()
    parts.joules, platform.joules = {"cpu": None}, {"platform": 100.0}
    meter.read()
    parts.joules, platform.joules = {"cpu": 120.0}, {"platform": 200.0}
    meter.read()
    parts.joules, platform.joules = {"cpu": 140.0}, {"platform": 300.0}
    # All of the first 100 J seemed to be rest, and 20 of them too much, which the next interval makes good.
    assert rest_of(meter).energy_joules == pytest.approx(300.0 - 140.0)


def test_a_parts_counter_that_was_set_back_makes_up_no_rest() -> None:
    parts, platform = Set(gpu0=5000.0), Set(platform=0.0)
    meter = WithRest([parts, platform])
    meter.read()
    parts.joules, platform.joules = {"gpu0": 3.0}, {"platform": 50.0}
    assert rest_of(meter).energy_joules == pytest.approx(50.0)


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1000)), min_size=1, max_size=20))
def test_the_rest_never_runs_backwards_and_never_exceeds_the_supply(steps: list[tuple[float, float]]) -> None:
    parts, platform = Set(cpu=0.0), Set(platform=0.0)
    meter = WithRest([parts, platform])
    meter.read()
    cpu = supply = before = 0.0
    for of_cpu, of_supply in steps:
        cpu, supply = cpu + of_cpu, supply + of_supply
        parts.joules, platform.joules = {"cpu": cpu}, {"platform": supply}
        joules = rest_of(meter).energy_joules
        assert joules is not None
        assert before <= joules <= supply + 1e-6
        before = joules
