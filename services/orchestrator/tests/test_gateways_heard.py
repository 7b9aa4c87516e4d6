"""Who announces itself, as the orchestrator hears it: the fake and the listener on a real NATS keep the same promises."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import until

from ergonaut.announcements import SILENT_SECONDS
from ergonaut.errors import Unavailable
from ergonaut.gateways import ANNOUNCEMENTS, SUBJECT, GatewayAnnounced
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.clock import SystemClock
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import nats_server
from ergonaut_orchestrator.adapters import gateways as adapter
from ergonaut_orchestrator.adapters.gateways import LISTENED_SECONDS_MIN, NatsGateways
from ergonaut_orchestrator.domain.serving import Heard
from ergonaut_orchestrator.fakes import FakeGateways
from ergonaut_orchestrator.ports import Gateways
from ergonaut_orchestrator.service.fleets import heard_of

KEY = "ergo_0123_secret"


class LaterClock(SystemClock):
    """The machine's clock, which the test may put forward."""

    def __init__(self) -> None:
        self.later_seconds = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.later_seconds


@dataclass
class Listened:
    """A listener, how somebody is let announce himself there, and how he falls silent."""

    gateways: Gateways
    tell: Callable[[GatewayAnnounced], Awaitable[None]]
    silence: Callable[[str], None]


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as url:
        yield url


@asynccontextmanager
async def faked() -> AsyncIterator[Listened]:
    fake = FakeGateways()

    async def tell(told: GatewayAnnounced) -> None:
        fake.announced[told.process] = told

    yield Listened(fake, tell, fake.silence)


@asynccontextmanager
async def real(bus: Bus) -> AsyncIterator[Listened]:
    clock = LaterClock()

    async def tell(told: GatewayAnnounced) -> None:
        await bus.connection.publish(SUBJECT, ANNOUNCEMENTS.sealed(told, KEY))
        await bus.connection.flush()

    def silence(_: str) -> None:
        clock.later_seconds += SILENT_SECONDS + 1

    async with NatsGateways.listening(bus, KEY, clock) as made:
        clock.later_seconds = LISTENED_SECONDS_MIN
        yield Listened(made, tell, silence)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as opened:
        yield opened


@pytest.fixture(params=["fake", "nats"])
async def listened(request: pytest.FixtureRequest, bus: Bus) -> AsyncIterator[Listened]:
    async with faked() if request.param == "fake" else real(bus) as made:
        yield made


def told(replica: str = "one", process: str = "one-1", **more: object) -> GatewayAnnounced:
    values = {"replica": replica, "process": process, "told_at": datetime.now(UTC)} | more
    return GatewayAnnounced.model_validate(values)


async def replicas(listened: Listened) -> set[str]:
    return {each.replica for each in await listened.gateways.heard()}


async def test_the_newest_announcement_of_each_process_is_known(listened: Listened) -> None:
    await listened.tell(told())
    await listened.tell(told(process="one-2", at_work=3))
    await listened.tell(told(draining=True))

    async def so() -> bool:
        heard = {each.process: each for each in await listened.gateways.heard()}
        return len(heard) == 2 and heard["one-1"].draining and heard["one-2"].at_work == 3

    await until(so)


async def test_who_falls_silent_is_gone(listened: Listened) -> None:
    await listened.tell(told("two", "two-1"))
    await until(lambda: _is_heard(listened, "two"))
    listened.silence("two")
    assert "two" not in await replicas(listened)


async def test_nothing_is_said_before_everybody_had_time_to_announce_himself(bus: Bus) -> None:
    async with NatsGateways.listening(bus, KEY, SystemClock()) as made:
        with pytest.raises(Unavailable, match="too short a time"):
            await made.heard()


async def test_after_nats_was_away_everybody_is_given_time_again(tmp_path: Path) -> None:
    port, clock = 0, LaterClock()
    with nats_server(tmp_path / "one") as url:
        port = int(url.rpartition(":")[2])
        bus = await _opened(url)
        listening = NatsGateways.listening(bus, KEY, clock)
        made = await listening.__aenter__()
        clock.later_seconds = LISTENED_SECONDS_MIN
        assert list(await made.heard()) == []
    await until(lambda: not bus.connection.is_connected)
    with pytest.raises(Unavailable, match="NATS is away"):
        await made.heard()
    with nats_server(tmp_path / "one", port):
        await until(lambda: bus.connection.is_connected)
        with pytest.raises(Unavailable, match="too short a time"):
            await made.heard()
        clock.later_seconds += LISTENED_SECONDS_MIN
        assert list(await made.heard()) == []
        await listening.__aexit__(None, None, None)
        await bus.connection.close()


async def test_who_has_not_the_services_key_or_tells_old_news_is_not_believed(bus: Bus) -> None:
    async with real(bus) as listened:
        await bus.connection.publish(SUBJECT, ANNOUNCEMENTS.sealed(told("liar", "liar-1"), "ergo_0123_other"))
        await bus.connection.publish(SUBJECT, b"nonsense")
        old = datetime.now(UTC) - timedelta(hours=1)
        await bus.connection.publish(SUBJECT, ANNOUNCEMENTS.sealed(told("late", "late-1", told_at=old), KEY))
        await listened.tell(told("honest", "honest-1"))
        await until(lambda: _is_heard(listened, "honest"))
        assert not {"liar", "late"} & await replicas(listened)


async def test_what_is_remembered_of_announcements_is_bounded(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "PROCESSES_MAX", 3)
    async with real(bus) as listened:
        for number in range(10):
            await listened.tell(told("many", f"many-{number}"))
        # Announcements come in their order, so that all before this one have been heard.
        await listened.tell(told("many", "many-0", at_work=9))
        await until(lambda: _has(listened, at_work=9))
        assert len(await listened.gateways.heard()) == 3


def test_the_workers_of_one_gateway_are_one_that_leaves_when_all_of_them_do() -> None:
    one, other = told(process="1", address="a:1", draining=True), told(process="2", address="a:1")
    assert heard_of([one, other]) == heard_of([other, one]) == [Heard("one", "a:1")]
    assert heard_of([one]) == [Heard("one", "a:1", draining=True)]


async def _is_heard(listened: Listened, replica: str) -> bool:
    return replica in await replicas(listened)


async def _has(listened: Listened, *, at_work: int) -> bool:
    return any(each.at_work == at_work for each in await listened.gateways.heard())


async def _opened(url: str) -> Bus:
    import nats

    from ergonaut_common.bus.connection import connection_options

    return Bus(await nats.connect(url, **connection_options("test")))
