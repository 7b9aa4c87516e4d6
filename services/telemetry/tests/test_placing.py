"""The host's place: asked for until it is told, for a bounded time, and used without a restart."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from ergonaut.carbon import PueSource
from ergonaut.events import HostReported, IntensityChanged
from ergonaut.metering import Place
from ergonaut_common.clock import FakeClock
from ergonaut_telemetry.domain import Terms
from ergonaut_telemetry.fakes import FakeAnnouncer, FakeMeters, FakeSpool
from ergonaut_telemetry.service import Placing, Reporting, Sampling

NOBODY = Place(source="unknown: nobody answers", may_be_told_later=True)
FRANKFURT = Place("DE", "aws", "eu-central-1", "m7a.large", "metadata service of aws", 1.15, "aws (2023)")


class Cloud:
    """Tells a place once it has been asked often enough; remembers how it was asked."""

    def __init__(self, place: Place = FRANKFURT, *, answers_at: int = 1) -> None:
        self._place = place
        self._answers_at = answers_at
        self.asked: list[bool] = []

    async def ask(self, anew: bool) -> Place:
        self.asked.append(anew)
        return self._place if len(self.asked) >= self._answers_at else NOBODY


async def passed(placing: Placing, clock: FakeClock, seconds: float, *, step: float = 10.0) -> bool:
    """Let the placing go on for so long; whether it has come to its end."""
    going_on = asyncio.create_task(placing.run(clock))
    for _ in range(int(seconds / step)):
        await clock.advance(step)
    ended = going_on.done()
    going_on.cancel()
    return ended


async def test_a_cloud_that_answers_at_once_is_asked_once(terms: Terms) -> None:
    cloud = Cloud()
    placing = Placing(terms, cloud.ask)
    await placing.look()
    assert await passed(placing, FakeClock(), 7200)
    assert (placing.terms.zone, cloud.asked) == ("DE", [False])


async def test_a_cloud_that_is_slow_after_a_boot_is_asked_again_until_it_answers(terms: Terms) -> None:
    cloud, told = Cloud(answers_at=4), list[Terms]()
    placing = Placing(terms, cloud.ask)
    placing.tell(told.append)
    await placing.look()
    assert placing.terms.zone == ""
    assert await passed(placing, FakeClock(), 70)
    assert ([one.zone for one in told], cloud.asked) == (["DE"], [False, True, True, True])


async def test_a_machine_that_nobody_ever_tells_of_is_not_asked_about_for_ever(terms: Terms) -> None:
    cloud = Cloud(answers_at=1_000)
    placing = Placing(terms, cloud.ask)
    await placing.look()
    assert await passed(placing, FakeClock(), 86_400)
    assert len(cloud.asked) == 12


@pytest.mark.parametrize("place", [Place(source="unknown: metadata is off"), Place("", "aws", "mars-north-1")])
async def test_a_place_that_will_never_be_told_is_not_asked_for_again(place: Place, terms: Terms) -> None:
    cloud = Cloud(place)
    placing = Placing(terms, cloud.ask)
    await placing.look()
    assert await passed(placing, FakeClock(), 7200)
    assert (placing.terms, len(cloud.asked)) == (terms, 1)


async def test_with_a_zone_that_was_set_nobody_is_asked(terms: Terms) -> None:
    cloud = Cloud()
    placing = Placing(replace(terms, zone="FR"), cloud.ask)
    await placing.look()
    assert await passed(placing, FakeClock(), 7200)
    assert (placing.terms.zone, cloud.asked) == ("FR", [])


async def test_the_pue_that_the_provider_publishes_counts_unless_one_was_set(terms: Terms) -> None:
    for own, told in (
        (terms, (1.15, PueSource.PROVIDER)),
        (replace(terms, pue=1.3, pue_source=PueSource.SETTINGS), (1.3, PueSource.SETTINGS)),
    ):
        placing = Placing(own, Cloud().ask)
        await placing.look()
        assert (placing.terms.pue, placing.terms.pue_source) == told


async def test_a_place_told_late_counts_from_the_next_sample_and_is_reported(
    meters: FakeMeters, spool: FakeSpool, terms: Terms, make_intensity: Callable[..., IntensityChanged]
) -> None:
    sampling, reporting, bus, clock = (
        Sampling(meters, spool, terms),
        Reporting(meters, terms),
        FakeAnnouncer(),
        FakeClock(),
    )
    sampling.learn_intensity(make_intensity())
    placing = Placing(terms, Cloud().ask)
    placing.tell(sampling.reckon_by)
    placing.tell(reporting.reckon_by)
    sampling.sample()
    meters.pass_time(1.0)
    turn = sampling.sample()
    reporting.notice(turn)
    await reporting.report_if_due(bus, clock, 600.0)
    await placing.look()
    meters.pass_time(1.0)
    (before,), (after,) = turn.events, sampling.sample().events
    await reporting.report_if_due(bus, clock, 600.0)

    assert (before.zone, before.intensity_kind, before.pue_source) == ("", "world-average", "not told")
    assert (after.zone, after.intensity_kind, after.pue, after.pue_source) == ("DE", "typical", 1.15, "provider")
    assert [event.zone for event in bus.told if isinstance(event, HostReported)] == ["", "DE"]
