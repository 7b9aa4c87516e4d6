"""The rules by which CPU time is shared out and becomes joules, and how a host's rate is read."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.metering import HostUse, attribute
from ergonaut_common.clock import FakeClock
from ergonaut_gateway.adapters.rates import TOLD_SECONDS_MAX, HostRate, modelled_rate, rate_of
from ergonaut_gateway.domain.energy import Moment, Rate, Shared, Sharing, Used, footprint

RATE = Rate(2.0, 0.1, "calibrated", "a counter", grams_per_joule=1e-4, usd_per_joule=1e-8)


def given_out(shared: Shared, moment: Moment) -> float:
    return moment.run_seconds * shared.run_scale + moment.requests * shared.request_seconds + shared.idle_seconds


def moment(process: float, *, runs: float = 0.0, unfinished: float = 0.0, requests: int = 0) -> Moment:
    return Moment(1.0, process, runs, unfinished, requests)


def test_what_the_process_did_beside_runs_is_shared_by_requests_alike() -> None:
    shared = Sharing().share(moment(0.5, runs=0.3, requests=20))

    assert shared.run_scale == 1.0
    assert shared.request_seconds == pytest.approx(0.01)


def test_what_the_process_does_when_nobody_asks_is_nobodys() -> None:
    sharing = Sharing()
    idle = [sharing.share(moment(0.01)) for _ in range(30)]

    busy = sharing.share(moment(0.11, requests=10))

    assert idle[0].idle_seconds == 0.01
    assert busy.request_seconds == pytest.approx(0.01, rel=0.01)
    assert busy.idle_seconds == pytest.approx(0.01, rel=0.01)


def test_a_long_run_is_not_charged_to_the_quick_requests_that_come_meanwhile() -> None:
    sharing = Sharing()

    meanwhile = sharing.share(moment(1.0 + 0.02, unfinished=1.0, requests=2))
    at_its_end = sharing.share(moment(0.5 + 0.01, runs=1.5, requests=1))

    assert meanwhile.request_seconds == pytest.approx(0.01)
    assert at_its_end == Shared(1.0, pytest.approx(0.01), 0.0)


def test_several_threads_runs_that_counted_each_others_time_are_put_right() -> None:
    shared = Sharing().share(moment(2.0, runs=4.0, requests=2))

    assert shared == Shared(run_scale=0.5)


MOMENTS = st.lists(
    st.tuples(
        st.floats(0.0, 3.0),
        st.floats(0.0, 1.0),
        st.floats(0.0, 2.0),
        st.integers(0, 50),
    ),
    max_size=30,
)


@given(MOMENTS)
def test_all_parts_together_are_the_process(drawn: Sequence[tuple[float, float, float, int]]) -> None:
    sharing, process, out = Sharing(), 0.0, 0.0
    for process_seconds, run_ratio, unfinished, requests in drawn:
        each = moment(process_seconds, runs=run_ratio * process_seconds, unfinished=unfinished, requests=requests)
        process += process_seconds
        out += given_out(sharing.share(each), each)
    last = moment(0.0, requests=1)
    out += given_out(sharing.share(last), last)

    # Below 0 is what was given for runs that were taken for busier than they were, and never ended.
    assert out >= process - 1e-9 or out == pytest.approx(process)
    if all(unfinished == 0.0 for _, _, unfinished, _ in drawn):
        assert out == pytest.approx(process)


@given(
    own=st.lists(st.floats(0.001, 0.9), min_size=1, max_size=20),
    others=st.floats(0.0, 1.0),
    watts=st.floats(5.0, 200.0),
)
def test_a_processs_seconds_at_the_hosts_rate_are_what_telemetry_charges_it(
    own: list[float], others: float, watts: float
) -> None:
    used, charged = Used(), 0.0
    for seconds in own:
        use = HostUse(1.0, 2, seconds + others, 1, 0, {("default", "gateway"): seconds})
        split = attribute("cpu", watts, use)
        charged += split.runs["default", "gateway"]
        told = (split.others + sum(split.runs.values())) / use.busy_cpu_seconds
        used.add(seconds, Rate(told, 0.1, "calibrated", "a counter"))

    assert sum(used.joules.values()) == pytest.approx(charged)


def test_figures_say_what_is_known_and_how() -> None:
    used = Used()
    used.add(2.0, RATE)

    assert used.figures() == {
        "cpu_seconds": 2.0,
        "energy_method": "calibrated",
        "energy_joules": 4.0,
        "energy_joules_low": pytest.approx(3.6),
        "energy_joules_high": pytest.approx(4.4),
        "carbon_grams_co2e": pytest.approx(4e-4),
        "cost_usd": pytest.approx(4e-8),
    }


def test_what_has_no_rate_is_not_measured_and_never_zero() -> None:
    used = Used()
    used.add(1.0, RATE)
    used.add(1.0, None)

    assert used.figures() == {"cpu_seconds": 2.0, "energy_method": "not-measured"}


def test_a_window_has_the_method_of_its_own_time() -> None:
    used = Used()
    used.add(1.0, None)
    before = used.copied()
    used.add(1.0, RATE)
    used.add(1.0, Rate(1.0, None, "model", "a table"))

    told = used.since(before).figures()

    assert (told["energy_method"], told["energy_joules"]) == ("several", 3.0)
    assert "energy_joules_low" not in told
    assert "carbon_grams_co2e" not in told


def test_an_answer_of_an_accelerator_says_that_it_was_not_measured() -> None:
    told = footprint(RATE, 0.5, is_measured=False)

    assert told["energy_method"] == "not-measured"
    assert told["energy_source"] == "it ran on an accelerator"
    assert "energy_joules" not in told


class Told:
    """A message of the bus."""

    def __init__(self, body: bytes) -> None:
        self.data = body
        self.subject = "ergonaut.v1.default.telemetry.power.sampled.here"


def body(rate: float | None = 3.0, **sample: object) -> bytes:
    cpu = {"component": "cpu", "method": "counter", "source": "RAPL", "range_fraction": 0.05, "energy_joules": 10.0}
    return json.dumps({"joules_per_cpu_second": rate, "samples": [{"component": "dram"}, cpu | sample]}).encode()


def test_the_hosts_rate_comes_with_its_range_and_what_a_joule_weighs_and_costs() -> None:
    rate = rate_of(body(carbon_grams_co2e=0.001, cost_usd=2e-6))

    assert rate is not None
    assert (rate.joules_per_cpu_second, rate.range_fraction, rate.method) == (3.0, 0.05, "calibrated")
    assert (rate.grams_per_joule, rate.usd_per_joule) == (pytest.approx(1e-4), pytest.approx(2e-7))
    assert "RAPL" in rate.source


def host_told(**message: object) -> bytes:
    intensity = {
        "zone": "DE",
        "intensity_grams_per_kwh": 300.0,
        "intensity_kind": "measured",
        "intensity_source": "the grid",
    }
    building = {"pue": 1.5, "pue_source": "settings", "intensity_boundary": "direct"}
    whole = json.loads(body(cost_usd=10.0 * 1.5 * 0.2 / 3_600_000))
    return json.dumps({**whole, **intensity, **building, **message}).encode()


def test_what_a_host_draws_comes_with_its_rate_place_building_and_price() -> None:
    rate = rate_of(host_told())

    assert rate is not None
    drawn = rate.electricity
    assert drawn is not None
    assert (drawn.intensity.zone, drawn.intensity.grams_per_kwh, drawn.intensity.kind) == ("DE", 300.0, "measured")
    assert drawn.intensity.boundary == "direct"
    assert (drawn.pue, drawn.pue_source, drawn.usd_per_kwh) == (1.5, "settings", 0.2)


def test_seconds_of_one_price_and_place_are_told_alike() -> None:
    def told(joules: float) -> object:
        whole = json.loads(host_told())
        whole["samples"][1] |= {"energy_joules": joules, "cost_usd": joules * 1.5 * 0.2 / 3_600_000}
        rate = rate_of(json.dumps(whole).encode())
        assert rate is not None
        return rate.electricity

    assert len({told(joules / 7) for joules in range(1, 100)}) == 1


@pytest.mark.parametrize(
    "message", [{"intensity_signal": "unheard of"}, {"pue": 0.0}, {"intensity_grams_per_kwh": 0.0}]
)
def test_a_place_that_cannot_be_understood_leaves_the_rate_as_it_is(message: dict[str, object]) -> None:
    rate = rate_of(host_told(**message))

    assert rate is not None
    assert rate.electricity is None
    assert rate.joules_per_cpu_second == 3.0


@pytest.mark.parametrize("message", [body(None), body(energy_joules=None), b'{"samples": []}'])
def test_a_message_without_a_rate_changes_nothing(message: bytes) -> None:
    assert rate_of(message) is None


async def test_a_rate_holds_until_its_agent_has_been_silent_for_long() -> None:
    clock = FakeClock()
    rate = HostRate(clock)
    await rate.hear(Told(body()))  # type: ignore[arg-type]
    await rate.hear(Told(b"\xff{"))  # type: ignore[arg-type]

    before = rate.rate()
    await clock.advance(TOLD_SECONDS_MAX + 1)

    assert before is not None
    assert before.joules_per_cpu_second == 3.0
    assert rate.rate() is None


def test_without_telemetry_the_cpu_model_gives_an_estimate_with_its_range() -> None:
    rate = modelled_rate()

    assert rate is not None
    assert rate.method == "model"
    assert rate.range_fraction is not None
    assert 0 < rate.joules_per_cpu_second < 100
    assert rate.grams_per_joule is None


TOLD = {
    "cpu_seconds": 1.0,
    "energy_joules": 4.0,
    "energy_joules_low": 3.0,
    "energy_joules_high": 5.0,
    "energy_method": "calibrated",
    "energy_source": "there",
}


def test_what_another_gateway_tells_of_its_part_is_added_with_its_range_and_source() -> None:
    here = footprint(RATE, 0.5, is_measured=True)
    both = footprint(RATE, 0.5, is_measured=True, elsewhere=[TOLD])
    assert both["cpu_seconds"] == pytest.approx(1.5)
    assert both["energy_joules"] == pytest.approx(here["energy_joules"] + 4.0)
    assert both["energy_joules_low"] == pytest.approx(here["energy_joules_low"] + 3.0)
    assert both["energy_source"].endswith("; in another gateway: there")
    assert "cost_usd" not in both
    assert "carbon_grams_co2e" not in both


def test_a_part_of_which_nothing_is_told_leaves_the_whole_unknown() -> None:
    told = footprint(RATE, 0.5, is_measured=True, elsewhere=[{}])
    assert told["energy_method"] == "not-measured"
    assert "energy_joules" not in told
