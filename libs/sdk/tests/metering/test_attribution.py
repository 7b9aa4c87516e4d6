"""Every joule is somebody's, and nobody pays for a neighbour."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ergonaut.metering import HostUse, attribute
from ergonaut.metering.attribution import NOBODY, OTHERS, dynamic_fraction
from ergonaut.metering.cpu_model import WATTS_PER_CPU_FULL, WATTS_PER_CPU_IDLE

run_ids = st.sampled_from([(tenant, f"run-{number}") for tenant in ("acme", "other") for number in range(3)])
RUN_1, RUN_2 = ("acme", "run-1"), ("other", "run-1")
amounts = st.floats(min_value=0, max_value=1e6, allow_nan=False)
byte_counts = st.integers(min_value=0, max_value=2**45)
uses = st.builds(
    HostUse,
    seconds=st.floats(min_value=0, max_value=1e5),
    logical_cpus=st.integers(min_value=1, max_value=512),
    busy_cpu_seconds=st.floats(min_value=-10, max_value=1e6),  # a container's counter may be set back
    memory_bytes=byte_counts,
    memory_used_bytes=byte_counts,
    run_cpu_seconds=st.dictionaries(run_ids, amounts),
    run_resident_bytes=st.dictionaries(run_ids, byte_counts),
    gpu_weights=st.fixed_dictionaries({"gpu0": st.dictionaries(run_ids | st.sampled_from([OTHERS, NOBODY]), amounts)}),
)


@example("dram", 90064845.98735195, HostUse(0.0, 1, 0.0, 0, 0, run_resident_bytes={RUN_1: 763}), None)
@given(
    st.sampled_from(["cpu", "dram", "gpu0", "gpu1", "platform", "rest"]),
    st.floats(min_value=0, max_value=1e9),
    uses,
    st.none() | st.floats(min_value=0, max_value=1),
)
def test_runs_and_others_and_idle_are_the_whole_and_none_is_negative(
    component: str, energy_joules: float, use: HostUse, idle_fraction: float | None
) -> None:
    split = attribute(component, energy_joules, use, idle_fraction)
    parts = [*split.runs.values(), split.others, split.idle]
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(energy_joules, rel=1e-9, abs=1e-9)


def host(**changes: object) -> HostUse:
    values: dict[str, object] = {
        "seconds": 10, "logical_cpus": 4, "busy_cpu_seconds": 20, "memory_bytes": 1000, "memory_used_bytes": 600,
    }  # fmt: skip
    return HostUse(**(values | changes))  # type: ignore[arg-type]


def test_the_part_that_work_causes_is_that_of_the_model() -> None:
    utilisation = 0.3
    full_line = WATTS_PER_CPU_IDLE + (WATTS_PER_CPU_FULL - WATTS_PER_CPU_IDLE) * utilisation
    assert dynamic_fraction(utilisation) == pytest.approx(1 - WATTS_PER_CPU_IDLE / full_line)


def test_work_is_shared_by_cpu_seconds_and_idling_is_nobodys() -> None:
    split = attribute("cpu", 100.0, host(run_cpu_seconds={RUN_1: 5.0, RUN_2: 10.0}))
    work = 100.0 * dynamic_fraction(0.5)
    assert split.runs == pytest.approx({RUN_1: work / 4, RUN_2: work / 2})
    assert split.others == pytest.approx(work / 4)
    assert split.idle == pytest.approx(100.0 - work)


def test_a_sleeping_run_beside_a_busy_neighbour_is_charged_no_cpu() -> None:
    split = attribute("cpu", 100.0, host(busy_cpu_seconds=40, run_cpu_seconds={RUN_1: 0.0}))
    assert split.runs == {RUN_1: 0.0}


def test_memory_is_shared_by_what_is_resident() -> None:
    split = attribute("dram", 10.0, host(run_resident_bytes={RUN_1: 100}))
    assert (split.runs[RUN_1], split.others, split.idle) == pytest.approx((1.0, 5.0, 4.0))


def test_a_gpu_is_charged_wholly_to_those_who_hold_it() -> None:
    held = host(gpu_weights={"gpu0": {RUN_1: 30.0, OTHERS: 10.0}, "gpu1": {}})
    split = attribute("gpu0", 8.0, held)
    assert (split.runs, split.others, split.idle) == ({RUN_1: 6.0}, 2.0, 0.0)
    assert attribute("gpu1", 8.0, held).idle == 8.0


def test_a_part_of_a_gpu_that_nobody_holds_is_idle() -> None:
    split = attribute("gpu0", 70.0, host(gpu_weights={"gpu0": {RUN_1: 1.0, OTHERS: 2.0, NOBODY: 4.0}}))
    assert split.runs == pytest.approx({RUN_1: 10.0})
    assert (split.others, split.idle) == pytest.approx((20.0, 40.0))


def test_a_gpu_whose_users_nobody_tells_goes_by_cpu_time_and_is_not_idle_meanwhile() -> None:
    use = host(busy_cpu_seconds=10.0, run_cpu_seconds={RUN_1: 8.0, RUN_2: 0.1})
    split = attribute("gpu0", 100.0, use)
    assert split.runs == pytest.approx({RUN_1: 80.0, RUN_2: 1.0})
    assert (split.others, split.idle) == (pytest.approx(19.0), 0.0)
    assert attribute("gpu0", 100.0, host(busy_cpu_seconds=0.0, run_cpu_seconds={RUN_1: 0.0})).idle == 100.0
    assert attribute("gpu0", 100.0, host(run_cpu_seconds={RUN_1: 8.0}, gpu_weights={"gpu0": {}})).idle == 100.0


def test_runs_of_one_name_of_two_tenants_are_two_runs() -> None:
    split = attribute("cpu", 100.0, host(run_cpu_seconds={RUN_1: 5.0, RUN_2: 10.0}))
    assert split.runs[RUN_2] == pytest.approx(2 * split.runs[RUN_1])


def test_the_idle_part_follows_the_meters_own_ratio() -> None:
    busy = host(busy_cpu_seconds=40, run_cpu_seconds={RUN_1: 40.0})
    assert attribute("cpu", 100.0, busy, 0.25).idle == pytest.approx(25.0)
    assert attribute("rest", 100.0, busy, 1.0).idle == 100.0
