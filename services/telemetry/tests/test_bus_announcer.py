"""Events over a real NATS by the agent's own link: stored once, through outages, and a clear word where NATS says no."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import nats
import pytest

from ergonaut.errors import Broken, Refused, Unavailable
from ergonaut.events import HostReported
from ergonaut.events.envelope import headers_of
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import binary, free_port, nats_server, running
from ergonaut_telemetry.adapters import bus_announcer, publishing_link
from ergonaut_telemetry.adapters.bus_announcer import BusAnnouncer

pytestmark = pytest.mark.integration


def event(host: str = "host-1") -> HostReported:
    return HostReported(
        tenant="default", host=host, cpu_name="a CPU", logical_cpus=2, memory_gib=8, components=(),
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[PlatformSettings]:
    with nats_server(tmp_path / "nats") as url:
        yield PlatformSettings(nats_url=url)


@asynccontextmanager
async def announcing(platform: PlatformSettings) -> AsyncIterator[tuple[BusAnnouncer, Bus]]:
    async with open_bus(platform, "test") as bus:
        await bus.ensure_streams("telemetry")
        with BusAnnouncer(bus, platform) as announcer:
            yield announcer, bus


async def test_an_event_that_is_told_twice_is_stored_once_with_its_headers(platform: PlatformSettings) -> None:
    told = event()
    async with announcing(platform) as (announcer, bus):
        await announcer.tell(told)
        await announcer.tell(told, told.model_dump_json().encode())
        stored = await bus.jetstream.get_last_msg("ERGONAUT_TELEMETRY", told.subject)
        messages = (await bus.jetstream.stream_info("ERGONAUT_TELEMETRY")).state.messages

    assert messages == 1
    assert HostReported.model_validate_json(stored.data or b"") == told
    assert stored.headers == headers_of(told)


async def test_many_events_at_once_are_each_acknowledged_in_order(platform: PlatformSettings) -> None:
    async with announcing(platform) as (announcer, bus):
        await asyncio.gather(*(announcer.tell(event(f"host-{number}")) for number in range(200)))
        messages = (await bus.jetstream.stream_info("ERGONAUT_TELEMETRY")).state.messages

    assert messages == 200


async def test_a_server_that_was_killed_and_is_back_is_told_the_rest(tmp_path: Path) -> None:
    port = free_port()
    platform = PlatformSettings(nats_url=f"nats://127.0.0.1:{port}")
    with nats_server(tmp_path / "nats", port):
        opened = announcing(platform)
        announcer, bus = await opened.__aenter__()
        await announcer.tell(event("host-1"))
    telling = asyncio.create_task(announcer.tell(event("host-2")))
    await asyncio.sleep(0)
    with nats_server(tmp_path / "nats", port):
        await telling
        stored = (await bus.jetstream.stream_info("ERGONAUT_TELEMETRY")).state.messages
        await opened.__aexit__(None, None, None)

    assert stored == 2


async def test_a_server_that_stays_away_is_told_of_in_good_time(tmp_path: Path) -> None:
    with nats_server(tmp_path / "nats") as url:
        platform = PlatformSettings(nats_url=url)
        opened = open_bus(platform, "test")
        bus = await opened.__aenter__()
    with (
        BusAnnouncer(bus, platform, patience_seconds=0.2) as announcer,
        pytest.raises(Unavailable, match="did not answer"),
    ):
        await announcer.tell(event())
    await opened.__aexit__(None, None, None)


async def test_a_stream_that_is_not_there_is_waited_for(platform: PlatformSettings) -> None:
    async with announcing(platform) as (announcer, bus):
        await bus.jetstream.delete_stream("ERGONAUT_TELEMETRY")
        telling = asyncio.create_task(announcer.tell(event()))
        await asyncio.sleep(0)
        await bus.ensure_streams("telemetry")
        await telling
        assert (await bus.jetstream.stream_info("ERGONAUT_TELEMETRY")).state.messages == 1


async def test_an_event_larger_than_nats_takes_is_refused(platform: PlatformSettings) -> None:
    async with announcing(platform) as (announcer, _):
        with pytest.raises(Refused, match="larger"):
            await announcer.tell(event(), b"x" * 2 * 1024 * 1024)
        await announcer.tell(event())


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """A server that wants a password."""
    port = free_port()
    arguments = [binary("nats-server"), "-js", "-sd", str(tmp_path / "nats"), "-a", "127.0.0.1", "-p", str(port)]
    with running([*arguments, "--user", "services", "--pass", "secret"], tmp_path / "nats.log", port):
        yield f"nats://127.0.0.1:{port}"


async def test_the_services_user_and_password_open_the_link(guarded: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    platform = PlatformSettings(nats_url=guarded, nats_user="services", nats_password_file=tmp_path / "password")
    async with announcing(platform) as (announcer, bus):
        await announcer.tell(event())
        assert (await bus.jetstream.stream_info("ERGONAUT_TELEMETRY")).state.messages == 1


async def test_a_wrong_password_is_told_and_not_tried_for_ever(guarded: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    platform = PlatformSettings(nats_url=guarded, nats_user="services", nats_password_file=tmp_path / "password")
    connection = await nats.connect(guarded, user="services", password="secret")
    with (
        BusAnnouncer(Bus(connection), platform) as announcer,
        pytest.raises(Broken, match="authorization failed"),
    ):
        await announcer.tell(event())
    await connection.close()


async def test_where_the_plain_link_does_not_do_the_bus_itself_is_used(
    platform: PlatformSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_plain(_: PlatformSettings) -> None:
        raise publishing_link.NotPlain

    monkeypatch.setattr(bus_announcer, "open_link", not_plain)
    async with announcing(platform) as (announcer, bus):
        await announcer.tell(event())
        assert (await bus.jetstream.stream_info("ERGONAUT_TELEMETRY")).state.messages == 1


@pytest.mark.parametrize("url", ["tls://127.0.0.1:4222", "ws://127.0.0.1:4222", "nats://somebody@127.0.0.1:4222"])
async def test_an_address_that_asks_for_more_than_plain_tcp_is_left_to_nats_py(url: str) -> None:
    with pytest.raises(publishing_link.NotPlain):
        await publishing_link.open_link(PlatformSettings(nats_url=url))
