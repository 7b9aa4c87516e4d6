"""What is set about this machine counts in the agent as it does in the tracker."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from ergonaut.carbon import PueSource, embodied_from
from ergonaut.events import IntensityChanged, PowerSample
from ergonaut.metering import HostFacts
from ergonaut.runcontext import RunContext
from ergonaut.tracking.places import place_intensity
from ergonaut_telemetry.domain import Memory, Terms, account, grid_of
from ergonaut_telemetry.fakes import FakeMeters
from ergonaut_telemetry.main import terms_of
from ergonaut_telemetry.settings import Settings

FACTS = HostFacts("Fake CPU", 2, 64.0, ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"))
ACCELERATORS = {"H100-80GB": 2}


def terms_with(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Terms:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return terms_of(Settings(), "agent-fake", FACTS)


def machine_sample(meters: FakeMeters, terms: Terms, context: RunContext) -> PowerSample:
    memory = account(Memory(), meters.read(), terms, {}).memory
    meters.begin(context)
    meters.pass_time(10.0, run_1=1.0)
    events = account(memory, meters.read(), terms, {}).events
    (sample,) = (one for event in events for one in event.samples if one.component == "machine")
    return sample


@pytest.mark.parametrize(
    "environment",
    [
        {"ERGONAUT_EMBODIED_GRAMS_CO2E": "1461000"},
        {"ERGONAUT_EMBODIED_GRAMS_CO2E": "1461000", "ERGONAUT_EMBODIED_SHARE": "0.5"},
        {"ERGONAUT_EMBODIED_MACHINE": "laptop", "ERGONAUT_EMBODIED_LIFESPAN_YEARS": "6"},
        {"ERGONAUT_EMBODIED_MACHINE": "server", "ERGONAUT_EMBODIED_SHARE": "0.25"},
    ],
)
def test_the_making_of_a_machine_is_reckoned_as_the_tracker_does_it(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = embodied_from(environment, memory_gib=64.0, accelerators=ACCELERATORS)
    assert made is not None
    terms = terms_with(monkeypatch, **environment)
    assert terms.embodied_grams_co2e_per_hour == pytest.approx(made.grams_co2e_per_hour)
    assert terms.embodied_basis == made.basis


def test_the_agents_own_names_of_settings_go_before_those_that_all_share(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = terms_with(monkeypatch, ERGONAUT_PUE="1.4", ERGONAUT_TELEMETRY_PUE="1.2")
    assert (terms.pue, terms.pue_source) == (1.2, PueSource.SETTINGS)


def test_a_pue_that_all_share_is_taken_and_an_empty_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    told = terms_with(monkeypatch, ERGONAUT_PUE="1.4")
    assert (told.pue, told.pue_source) == (1.4, PueSource.SETTINGS)
    empty = terms_with(monkeypatch, ERGONAUT_PUE="", ERGONAUT_EMBODIED_GRAMS_CO2E="", ERGONAUT_EMBODIED_MACHINE="")
    assert (empty.pue, empty.pue_source, empty.embodied_grams_co2e_per_hour) == (1.0, PueSource.NOT_TOLD, 0.0)


def test_an_estimate_of_the_hosts_making_says_so_and_what_a_lease_tells_does_not(
    meters: FakeMeters, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = terms_with(monkeypatch, ERGONAUT_EMBODIED_MACHINE="laptop")
    own = machine_sample(meters, terms, RunContext(run_id="run-1", metered=True))
    assert "(ISO/IEC 21031; estimate for a laptop from embodied.csv, to within 50%)" in own.source
    lease = RunContext(run_id="run-1", metered=True, embodied_grams_co2e_per_hour=72.0)
    assert machine_sample(meters, terms, lease).source == "72 g CO2e an hour for making the machine (ISO/IEC 21031)"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ERGONAUT_EMBODIED_MACHINE", "toaster"),
        ("ERGONAUT_EMBODIED_SHARE", "2"),
        ("ERGONAUT_PUE", "0.9"),
        ("ERGONAUT_INTENSITY_GRAMS_PER_KWH", "0"),
        ("ERGONAUT_INTENSITY_SIGNAL", "green"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.removeprefix("ERGONAUT_")):
        Settings()


def test_a_figure_of_ones_own_for_the_grid_goes_before_what_pricing_tells_as_it_does_in_the_tracker(
    meters: FakeMeters, make_intensity: Callable[..., IntensityChanged], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        "ERGONAUT_ZONE": "de",
        "ERGONAUT_INTENSITY_GRAMS_PER_KWH": "20",
        "ERGONAUT_INTENSITY_ACCOUNTING": "market-based",
    }
    terms = terms_with(monkeypatch, **environment)
    grid = grid_of([make_intensity()])
    memory = account(Memory(), meters.read(), terms, grid).memory
    meters.begin(RunContext(run_id="run-1", metered=True))
    meters.pass_time(1.0, run_1=1.0)
    turn = account(memory, meters.read(), terms, grid)

    own = place_intensity(environment, "DE")
    assert own.grams_per_kwh == 20.0
    for event in turn.events:
        told = (event.intensity_grams_per_kwh, event.intensity_kind, event.intensity_source, event.intensity_accounting)
        assert told == (own.grams_per_kwh, own.kind, own.source, own.accounting)
    assert [run.intensity_grams_per_kwh for run in turn.runs] == [20.0]
