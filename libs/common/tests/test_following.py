"""Following a fact of which only the newest matters: what was told before, what is told now, and what makes no sense."""

import asyncio
from datetime import UTC, datetime

from ergonaut.events import IntensityChanged, subject_of
from ergonaut.events.pricing import HourIntensity, IntensityKind
from ergonaut_common.bus import Bus, Listeners, following, open_bus
from ergonaut_common.settings import PlatformSettings

HOUR = datetime(2026, 1, 1, tzinfo=UTC)


def intensity(zone: str, grams: float) -> IntensityChanged:
    hour = HourIntensity(starts_at=HOUR, intensity_grams_per_kwh=grams, range_fraction=0.2, kind=IntensityKind.TYPICAL)
    return IntensityChanged(zone=zone, source="a table", hours=(hour,))


class Follower:
    """Keeps what it was told, in order."""

    def __init__(self) -> None:
        self.listeners = Listeners("test")
        self.told: list[tuple[str, float]] = []
        self.listeners.on(IntensityChanged)(self.hear)

    async def hear(self, event: IntensityChanged) -> None:
        self.told.append((event.zone, event.hours[0].intensity_grams_per_kwh))

    async def until_told(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.told) < count:
                await asyncio.sleep(0.01)


async def told(bus: Bus, *events: IntensityChanged) -> None:
    await bus.ensure_streams("pricing")
    for event in events:
        await bus.publish(event)


async def test_of_what_was_told_before_the_newest_of_each_subject_is_heard(platform: PlatformSettings) -> None:
    follower = Follower()
    async with open_bus(platform, "test") as bus:
        await told(bus, intensity("DE", 1), intensity("FR", 2), intensity("DE", 3))
        async with following(follower.listeners, bus):
            assert sorted(follower.told) == [("DE", 3), ("FR", 2)]


async def test_what_is_told_now_is_heard_at_once(platform: PlatformSettings) -> None:
    follower = Follower()
    async with open_bus(platform, "test") as bus, following(follower.listeners, bus):
        await told(bus, intensity("DE", 1))
        await follower.until_told(1)
    assert follower.told == [("DE", 1)]


async def test_what_cannot_be_understood_or_speaks_for_another_is_left_and_the_next_is_heard(
    platform: PlatformSettings,
) -> None:
    follower = Follower()
    async with open_bus(platform, "test") as bus, following(follower.listeners, bus):
        subject = subject_of(IntensityChanged.TYPE, tenant="public", key="de")
        await bus.jetstream.publish(subject, b"no json at all")
        foreign = intensity("FR", 9).model_dump_json().encode()
        await bus.jetstream.publish(subject, foreign)
        await told(bus, intensity("DE", 1))
        await follower.until_told(1)
    assert follower.told == [("DE", 1)]


async def test_nothing_is_left_behind_on_the_bus(platform: PlatformSettings) -> None:
    follower = Follower()
    async with open_bus(platform, "test") as bus:
        await told(bus, intensity("DE", 1))
        async with following(follower.listeners, bus):
            pass
        assert (await bus.jetstream.stream_info("ERGONAUT_PRICING")).state.consumer_count == 0
