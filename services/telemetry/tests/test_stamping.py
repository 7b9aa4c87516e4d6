"""What the agent writes on each charge: grams, dollars, embodied carbon, and on what they rest."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ergonaut.carbon import PueSource
from ergonaut.events import IntensityChanged, PowerSample
from ergonaut.events.pricing import Accounting, Boundary, Signal
from ergonaut.events.telemetry import Share
from ergonaut.runcontext import RunContext
from ergonaut_telemetry.domain import Memory, Terms, Turn, account
from ergonaut_telemetry.domain.stamping import Grid, grid_of
from ergonaut_telemetry.fakes import FakeMeters
from ergonaut_telemetry.settings import Settings


class Host:
    """A host whose agent samples when told to."""

    def __init__(self, meters: FakeMeters, terms: Terms, grid: dict[str, IntensityChanged] | None = None) -> None:
        self._meters = meters
        self._terms = terms
        self._grid: Grid = grid_of((grid or {}).values())
        self._memory = account(Memory(), meters.read(), terms, self._grid).memory

    def turn(self, seconds: float = 1.0, **busy: float) -> Turn:
        self._meters.pass_time(seconds, **busy)
        turn = account(self._memory, self._meters.read(), self._terms, self._grid)
        self._memory = turn.memory
        return turn


def machine_samples(turn: Turn) -> list[PowerSample]:
    return [sample for event in turn.events for sample in event.samples if sample.component == "machine"]


def test_every_event_says_on_what_its_intensity_rests(
    meters: FakeMeters, terms: Terms, make_intensity: Callable[..., IntensityChanged]
) -> None:
    bases = {"signal": Signal.MARGINAL, "accounting": Accounting.MARKET_BASED, "boundary": Boundary.LIFE_CYCLE}
    told = make_intensity().model_copy(update=bases)
    (event,) = Host(meters, replace(terms, zone="DE"), {"DE": told}).turn().events
    assert (event.intensity_signal, event.intensity_accounting, event.intensity_boundary) == tuple(bases.values())


@pytest.mark.parametrize("zone", ["de", " De ", "us-cal-ciso", "us_cal_ciso"])
def test_a_zone_is_written_as_pricing_writes_it_however_it_was_set(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERGONAUT_ZONE", zone)
    assert Settings().zone == zone.strip().upper().replace("_", "-")


def test_a_runs_own_zone_gets_its_hours_however_it_is_written(
    meters: FakeMeters, terms: Terms, make_intensity: Callable[..., IntensityChanged]
) -> None:
    host = Host(meters, terms, {"DE": make_intensity()})
    meters.begin(RunContext(run_id="run-1", metered=True, zone="de"))
    kinds = {event.zone: event.intensity_kind for event in host.turn(1.0, run_1=1.0).events}
    assert kinds == {"DE": "typical", "": "world-average"}


@pytest.mark.parametrize(
    ("set_by", "run_pue", "told"),
    [
        (PueSource.NOT_TOLD, 1.0, "not told"),
        (PueSource.SETTINGS, 1.0, "settings"),
        (PueSource.SETTINGS, 1.3, "provider"),
    ],
)
def test_the_pue_says_who_told_it(
    meters: FakeMeters, terms: Terms, set_by: PueSource, run_pue: float, told: str
) -> None:
    host = Host(meters, replace(terms, pue_source=set_by))
    meters.begin(RunContext(run_id="run-1", metered=True, pue=run_pue))
    events = host.turn(1.0, run_1=1.0).events
    assert [event.pue_source for event in events if any(sample.run_id for sample in event.samples)] == [told]


def test_who_pays_for_electricity_pays_for_the_building_too(meters: FakeMeters, terms: Terms) -> None:
    host = Host(meters, replace(terms, pue=1.5, electricity_microusd_per_kwh=200_000))
    (event,) = host.turn(100.0).events
    (idle,) = (sample for sample in event.samples if sample.energy_joules)
    assert idle.cost_usd == pytest.approx((idle.energy_joules or 0) / 3.6e6 * 1.5 * 0.2)


def test_what_the_runs_are_charged_of_a_machines_making_adds_up_to_the_host(meters: FakeMeters, terms: Terms) -> None:
    host = Host(meters, replace(terms, embodied_grams_co2e_per_hour=36.0))
    alone = machine_samples(host.turn(10.0))
    meters.begin(RunContext(run_id="run-1", metered=True))
    meters.begin(RunContext(run_id="run-2", tenant="other", metered=True))
    shared = machine_samples(host.turn(10.0, run_1=1.0, run_2=9.0))
    assert [(sample.share, sample.embodied_grams_co2e) for sample in alone] == [(Share.IDLE, pytest.approx(0.1))]
    assert [sample.embodied_grams_co2e for sample in shared] == [pytest.approx(0.05), pytest.approx(0.05)]
    assert {sample.carbon_grams_co2e for sample in (*alone, *shared)} == {None}
    assert {sample.cost_usd for sample in (*alone, *shared)} == {None}


def test_a_rented_machine_brings_its_own_embodied_carbon_beside_its_rent(meters: FakeMeters, terms: Terms) -> None:
    host = Host(meters, terms)
    lease = RunContext(
        run_id="run-1", metered=True, price_microusd_per_hour=3_600_000, embodied_grams_co2e_per_hour=72.0
    )
    meters.begin(lease)
    (machine,) = machine_samples(host.turn(5.0, run_1=1.0))
    assert machine.embodied_grams_co2e == pytest.approx(0.1)
    assert machine.cost_usd == pytest.approx(0.005)
    assert machine.source == "rent of 3.6 USD an hour; 72 g CO2e an hour for making the machine (ISO/IEC 21031)"


def test_where_nobody_told_what_making_the_machine_emitted_nothing_is_told_of_it(
    meters: FakeMeters, terms: Terms
) -> None:
    host = Host(meters, terms)
    meters.begin(RunContext(run_id="run-1", metered=True, price_microusd_per_hour=3_600_000))
    (machine,) = machine_samples(host.turn(5.0))
    assert machine.embodied_grams_co2e is None
