"""What the OpenAI-compatible door says that its answers used, by the hour and place in which they were made."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest

from ergonaut.carbon import Intensity, yearly_intensity
from ergonaut.events import CompletionsServed
from ergonaut.events.pricing import Boundary
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import FakeClock
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway.adapters.grid import GridHours
from ergonaut_gateway.domain.electricity import Electricity
from ergonaut_gateway.fakes import FakeAnnouncer
from ergonaut_gateway.http import Callers, HttpLimits, Router, serving_http
from ergonaut_gateway.openai import Reporting, opened_door
from ergonaut_gateway.openai.domain.tallies import Completions
from ergonaut_gateway.openai.domain.usage import Figures
from ergonaut_gateway.service.places import Places

from .openai_upstream import FakeModels, fake_models
from .test_electricity import HOST, NOON, intensity_told

ENERGY = {"joules": 1_800.0, "low": 900.0, "high": 3_600.0, "source": "a meter"}
"""With the 20 tokens that the upstream tells: 36 kJ, a hundredth of a kWh."""


class Site:
    """A door whose route `small` asks one upstream, and another where that fails; time, grid and host are ours to say."""

    def __init__(self, folder: Path, first: FakeModels, second: FakeModels) -> None:
        self.first, self.second = first, second
        self.clock = FakeClock(NOON)
        self.hours = GridHours(self.clock)
        self.host: Electricity | None = HOST
        self.announcer = FakeAnnouncer()
        self._folder = folder
        self._ring, self._keys = key_ring_file(folder, ("default",))

    @asynccontextmanager
    async def opened(
        self, first: dict[str, Any] | None = None, second: dict[str, Any] | None = None, **route: Any
    ) -> AsyncIterator[openai.AsyncOpenAI]:
        """OpenAI's client of it; `first` and `second` are what the file says of the upstreams beside."""
        urls = [f"http://127.0.0.1:{upstream.port}/v1" for upstream in (self.first, self.second)]
        upstreams = [{"url": urls[0], **(first or {})}, {"url": urls[1], "weight": 0, **(second or {})}]
        whole = {"upstreams": upstreams, "rounds": 1, "joules_per_output_token": ENERGY, **route}
        file = self._folder / "routes.json"
        file.write_text(json.dumps({"models": {"small": whole}}))
        router, callers = Router(), Callers(KeyRing.load(self._ring))
        reporting = Reporting(self.announcer, 3600.0, Places(self.hours.now, lambda: self.host))
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(opened_door(str(file), callers, router, reporting))
            port = await stack.enter_async_context(serving_http("127.0.0.1:0", router, HttpLimits()))
            base = f"http://127.0.0.1:{port}/v1"
            yield await stack.enter_async_context(
                openai.AsyncOpenAI(api_key=self._keys["default"], base_url=base, max_retries=0)
            )

    @property
    def told(self) -> list[CompletionsServed]:
        return [event for event in self.announcer.told if isinstance(event, CompletionsServed)]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with fake_models() as first, fake_models() as second:
        yield Site(tmp_path, first, second)


async def used(client: openai.AsyncOpenAI) -> dict[str, Any]:
    answer: Any = await client.chat.completions.create(model="small", messages=[])
    told: dict[str, Any] = answer.usage.ergonaut
    return told


async def test_grams_are_those_of_the_hour_in_which_an_answer_is_made(site: Site) -> None:
    await site.hours.hear(intensity_told("FR", 100, 50, boundary=Boundary.LIFE_CYCLE))
    async with site.opened(zone="FR") as client:
        first = await used(client)
        await site.clock.advance(3600)
        second = await used(client)
        await site.clock.advance(3600)
        third = await used(client)
    assert first["carbon_grams_co2e"] == pytest.approx(1.0)
    assert first["range"]["carbon_grams_co2e"] == pytest.approx([0.45, 2.2])
    assert first["electricity"] == {
        "zone": "FR",
        "intensity_grams_per_kwh": 100.0,
        "intensity_kind": "measured",
        "intensity_source": "the grid",
        "intensity_signal": "average",
        "intensity_accounting": "location-based",
        "intensity_boundary": "life-cycle",
        "pue": 1.0,
        "pue_source": "not told",
    }
    assert second["carbon_grams_co2e"] == pytest.approx(0.5)
    assert third["electricity"]["intensity_kind"] == "yearly", "nobody told of the third hour"


async def test_where_no_place_is_known_the_worlds_average_stands_in_and_is_marked(site: Site) -> None:
    async with site.opened() as client:
        told = await used(client)
    assert told["carbon_grams_co2e"] == pytest.approx(4.75)
    assert (told["electricity"]["zone"], told["electricity"]["intensity_kind"]) == ("", "world-average")
    assert "cost_usd" not in told


async def test_an_upstream_on_this_host_costs_its_electricity_where_no_price_of_tokens_is_known(site: Site) -> None:
    async with site.opened({"here": True}) as client:
        told = await used(client)
        site.host = None
        untold = await used(client)
    assert told["cost_usd"] == pytest.approx(0.01 * 1.5 * 0.2)
    assert told["range"]["cost_usd"] == pytest.approx([0.0015, 0.006])
    assert told["carbon_grams_co2e"] == pytest.approx(0.01 * 1.5 * 300)
    assert (told["electricity"]["zone"], told["electricity"]["price_usd_per_kwh"]) == ("DE", 0.2)
    assert "cost_usd" not in untold
    assert untold["electricity"]["intensity_kind"] == "world-average"


async def test_what_tokens_are_sold_for_is_the_cost_also_of_an_upstream_here(site: Site) -> None:
    async with site.opened({"here": True}, usd_per_million_input=1, usd_per_million_output=2) as client:
        told = await used(client)
    assert told["cost_usd"] == pytest.approx(50e-6)
    assert "cost_usd" not in told["range"]


async def test_each_upstream_is_weighed_by_its_own_place_price_and_energy(site: Site) -> None:
    site.first.behaviour = "500"
    there = {"zone": "SE", "usd_per_million_input": 10, "usd_per_million_output": 10}
    energy = ENERGY | {"joules": 900.0}
    async with site.opened({"here": True}, there | {"joules_per_output_token": energy}, zone="PL") as client:
        told = await used(client)
    assert told["electricity"]["zone"] == "SE"
    assert told["energy_joules"] == 18_000
    assert told["cost_usd"] == pytest.approx(300e-6)


async def test_events_tell_grams_by_what_they_rest_on_and_never_in_one_sum(site: Site) -> None:
    await site.hours.hear(intensity_told("FR", 100))
    async with site.opened(zone="FR") as client:
        await used(client)
        await used(client)
        await site.clock.advance(3600)
        await used(client)
    hour, year = site.told
    assert (hour.requests, hour.intensity_kind, hour.intensity_grams_per_kwh) == (2, "measured", 100)
    assert hour.carbon_grams_co2e == pytest.approx(2.0)
    assert (hour.carbon_grams_co2e_low, hour.carbon_grams_co2e_high) == pytest.approx((0.9, 4.4))
    assert (year.requests, year.intensity_kind, year.zone) == (1, "yearly", "FR")
    assert year.intensity_source == yearly_intensity("FR").source


async def test_events_tell_what_the_host_paid_for_its_electricity(site: Site) -> None:
    async with site.opened({"here": True}) as client:
        await used(client)
    [event] = site.told
    assert event.cost_usd == pytest.approx(0.003)
    assert (event.price_usd_per_kwh, event.pue, event.pue_source) == (0.2, 1.5, "settings")


async def test_answers_that_fail_are_told_with_the_others_and_never_alone(site: Site) -> None:
    async with site.opened(zone="FR") as client:
        for behaviour in ("422", "well", "422"):
            site.first.behaviour = behaviour
            try:
                await used(client)
            except openai.APIStatusError:
                continue
    [event] = site.told
    assert (event.requests, event.untold, event.intensity_kind) == (3, 2, "yearly")
    assert event.energy_joules == 36_000


def test_sums_that_rest_on_nothing_tell_nothing_that_they_would_rest_on() -> None:
    sums = Completions(datetime(2026, 1, 1, tzinfo=UTC))
    sums.add(Figures(10, 10), failed=False)
    told = sums.told("default", "small", datetime(2026, 1, 1, tzinfo=UTC))
    assert (told.carbon_grams_co2e, told.intensity_grams_per_kwh, told.intensity_kind) == (None, None, "")


def test_an_intensity_without_a_range_adds_no_doubt_to_that_of_the_joules() -> None:
    exact = Electricity(Intensity("", 100.0, "yearly", "settings"))
    assert exact.grams((3_600_000.0, 3_600_000.0, 3_600_000.0)) == pytest.approx((100.0, 100.0, 100.0))
