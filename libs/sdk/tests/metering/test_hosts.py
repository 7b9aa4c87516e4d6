"""The models are straight lines, the host has a name, and a place is never guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.errors import Refused
from ergonaut.ids import is_name
from ergonaut.metering import HostLoad, discover, host_facts, host_name, intensity_from, read_load, zone_from
from ergonaut.metering.cpu_model import CpuModel
from ergonaut.metering.dram_model import DramModel


def joules_between(meter: CpuModel | DramModel) -> float:
    ((before,), (after,)) = (meter.read(), meter.read())
    assert before.energy_joules is not None
    assert after.energy_joules is not None
    return after.energy_joules - before.energy_joules


@pytest.mark.parametrize(
    ("busy_cpu_seconds", "watts"), [(0.0, 4 * 0.74), (20.0, 4 * (0.74 + 3.5) / 2), (40.0, 4 * 3.5)]
)
def test_the_cpu_model_is_a_line_from_idle_to_full(busy_cpu_seconds: float, watts: float) -> None:
    loads = iter([HostLoad(100.0, 7.0, 4, 1, 1), HostLoad(110.0, 7.0 + busy_cpu_seconds, 4, 1, 1)])
    assert joules_between(CpuModel(load=lambda: next(loads))) == pytest.approx(watts * 10)


def test_the_memory_model_counts_what_is_built_in() -> None:
    seconds = iter([100.0, 110.0])
    meter = DramModel(memory_bytes=64 * 10**9, seconds=lambda: next(seconds))
    assert joules_between(meter) == pytest.approx(0.392 * 64 * 10)


def test_this_host_has_facts_a_load_and_a_meter_for_each_component() -> None:
    facts, load, meters = host_facts(), read_load(), discover()
    assert facts.cpu_name
    assert facts.logical_cpus >= 1
    assert facts.memory_gib == pytest.approx(load.memory_bytes / 2**30)
    assert 0 < load.memory_used_bytes < load.memory_bytes
    components = [reading.component for meter in meters for reading in meter.read()]
    assert len(components) == len(set(components))
    for meter in meters:
        meter.close()


@given(st.text(max_size=100))
def test_any_host_gets_a_name_that_is_fit_for_subjects(own_name: str) -> None:
    assert is_name(host_name(own_name))


def test_a_place_that_nobody_told_is_the_worlds_average_and_says_so() -> None:
    intensity = intensity_from({}, zone_from({}))
    assert (intensity.zone, intensity.grams_per_kwh, intensity.kind) == ("", 475.0, "world-average")


def test_a_zone_without_a_factor_is_still_the_worlds_average() -> None:
    intensity = intensity_from({}, "FR")
    assert (intensity.zone, intensity.grams_per_kwh, intensity.kind) == ("FR", 475.0, "world-average")


def test_an_intensity_that_was_set_is_used() -> None:
    intensity = intensity_from({"ERGONAUT_INTENSITY_GRAMS_PER_KWH": "56"}, "FR")
    assert (intensity.grams_per_kwh, intensity.kind, intensity.source) == (56.0, "yearly", "settings")


@pytest.mark.parametrize("text", ["-3", "0", "much", "nan", "inf"])
def test_an_intensity_that_is_no_positive_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(Refused, match="ERGONAUT_INTENSITY_GRAMS_PER_KWH"):
        intensity_from({"ERGONAUT_INTENSITY_GRAMS_PER_KWH": text})


def test_a_zone_that_cannot_be_one_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="ERGONAUT_ZONE"):
        zone_from({"ERGONAUT_ZONE": "../etc"})
