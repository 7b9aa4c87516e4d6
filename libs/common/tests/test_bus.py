"""Events over a real NATS: told once, settled by hand, never lost."""

import asyncio
import contextlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo, StreamState
from nats.js.kv import KeyValue
from prometheus_client import REGISTRY

from ergonaut.errors import Broken, Refused, Unavailable
from ergonaut.events import STREAMS, RunFinished
from ergonaut_common.bus import Delivery, Listeners, Malformed, listed, listening, open_bus, reading, watching_lag
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.bus.lag import unread_ratio
from ergonaut_common.bus.pulling import ConsumerGone, open_pull
from ergonaut_common.bus.settling import delay_seconds
from ergonaut_common.lifetimes import background
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import free_port, nats_server

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def finished(run_id: str = "run-1") -> RunFinished:
    return RunFinished(tenant="default", run_id=run_id, state="succeeded", ended_at=NOW)


async def until(condition, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_an_event_told_twice_is_stored_once(platform: PlatformSettings) -> None:
    async with open_bus(platform, "test") as bus:
        await bus.ensure_streams("runs")
        event = finished()
        await bus.publish(event)
        await bus.publish(event)
        assert (await bus.jetstream.stream_info("ERGONAUT_RUNS")).state.messages == 1


async def test_a_listener_gets_the_typed_event(platform: PlatformSettings) -> None:
    listeners, seen = Listeners("test"), []

    @listeners.on(RunFinished)
    async def note(event: RunFinished) -> None:
        seen.append(event)

    event = finished()
    async with open_bus(platform, "test") as bus, listening(listeners, platform, bus):
        await bus.publish(event)
        await until(lambda: seen)
    assert seen == [event]


async def test_a_fetch_that_a_busy_machine_ends_late_is_no_failure(
    platform: PlatformSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fetch, fetches, seen = JetStreamContext.PullSubscription.fetch, [0], []
    listeners = Listeners("test")

    @listeners.on(RunFinished)
    async def note(event: RunFinished) -> None:
        seen.append(event)

    async def late(subscription: Any, *arguments: Any, **named: Any) -> Any:
        fetches[0] += 1
        if fetches[0] <= 3:
            raise TimeoutError
        return await fetch(subscription, *arguments, **named)

    monkeypatch.setattr(JetStreamContext.PullSubscription, "fetch", late)
    async with open_bus(platform, "test") as bus, listening(listeners, platform, bus):
        await bus.publish(finished())
        await until(lambda: seen)
    assert fetches[0] > 3
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == []


async def test_trouble_is_tried_again_with_growing_delay(platform: PlatformSettings) -> None:
    listeners, times = Listeners("test"), []

    @listeners.on(RunFinished)
    async def fail_twice(_: RunFinished) -> None:
        times.append(time.monotonic())
        if len(times) < 3:
            raise Unavailable("the other part is away")

    async with open_bus(platform, "test") as bus, listening(listeners, platform, bus):
        await bus.publish(finished())
        await until(lambda: len(times) == 3)
    assert times[1] - times[0] >= delay_seconds(1)
    assert times[2] - times[1] >= delay_seconds(2)


async def test_who_does_not_give_up_is_told_until_it_could_be_done_and_others_are_not(
    platform: PlatformSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ergonaut_common.bus.settling.DELIVERIES_MAX", 2)
    listeners, patient, other = Listeners("test"), [], []

    @listeners.on(RunFinished, durable="patient", gives_up=False)
    async def patiently(_: RunFinished) -> None:
        patient.append(1)
        if len(patient) < 5:
            raise Unavailable("Temporal is away")

    @listeners.on(RunFinished, durable="other")
    async def impatiently(_: RunFinished) -> None:
        other.append(1)
        raise Unavailable("Temporal is away")

    async with open_bus(platform, "test") as bus, listening(listeners, platform, bus):
        await bus.publish(finished())
        await until(lambda: len(patient) == 5)
        assert (await bus.jetstream.stream_info("ERGONAUT_DEAD")).state.messages == 1
    assert len(other) == 2


async def test_a_consumer_of_an_older_version_is_given_the_limit_of_this_one(platform: PlatformSettings) -> None:
    async def nothing(_: RunFinished) -> None: ...

    async with open_bus(platform, "test") as bus:
        for gives_up, limit in ((True, 64), (False, -1)):
            listeners = Listeners("test")
            listeners.on(RunFinished, durable="d", gives_up=gives_up)(nothing)
            async with listening(listeners, platform, bus):
                assert (await bus.jetstream.consumer_info("ERGONAUT_RUNS", "d")).config.max_deliver == limit


async def test_what_never_can_be_handled_is_parked_at_once(platform: PlatformSettings) -> None:
    listeners, seen = Listeners("test"), []

    @listeners.on(RunFinished)
    async def refuse(event: RunFinished) -> None:
        seen.append(event.run_id)
        raise Refused("no such job")

    async with open_bus(platform, "test") as bus, listening(listeners, platform, bus):
        await bus.publish(finished())
        await bus.jetstream.publish("ergonaut.v1.default.runs.run.finished.run-2", b'{"state": "unheard of"}')
        await bus.jetstream.publish("ergonaut.v1.default.runs.run.finished.run-3", b"no json at all")
        dead = await bus.jetstream.pull_subscribe("ergonaut.v1.*.dead.>", "graveyard", "ERGONAUT_DEAD")
        letters = [letter for _ in range(3) for letter in await dead.fetch(1, timeout=30)]
    assert {letter.headers["ergonaut-subject"].rpartition(".")[2] for letter in letters} == {"run-1", "run-2", "run-3"}
    assert seen == ["run-1"]


async def test_a_body_that_speaks_for_another_tenant_or_run_is_parked(platform: PlatformSettings) -> None:
    listeners, seen = Listeners("test"), []

    @listeners.on(RunFinished)
    async def note(event: RunFinished) -> None:
        seen.append(event.tenant)

    body = finished("run-1").model_dump_json().encode()
    async with open_bus(platform, "test") as bus, listening(listeners, platform, bus):
        for subject in ("ergonaut.v1.other.runs.run.finished.run-1", "ergonaut.v1.default.runs.run.finished.run-2"):
            await bus.jetstream.publish(subject, body)
        dead = await bus.jetstream.pull_subscribe("ergonaut.v1.*.dead.>", "graveyard", "ERGONAUT_DEAD")
        letters = [letter for _ in range(2) for letter in await dead.fetch(1, timeout=30)]
        await bus.publish(finished("run-3"))
        await until(lambda: seen)
    assert all("the body tells of" in letter.headers["ergonaut-because"] for letter in letters)
    assert seen == ["default"]


async def test_a_listener_goes_on_after_nats_was_killed(tmp_path: Path) -> None:
    port, listeners, seen = free_port(), Listeners("test"), []

    @listeners.on(RunFinished)
    async def note(event: RunFinished) -> None:
        seen.append(event.run_id)

    platform = PlatformSettings(nats_url=f"nats://127.0.0.1:{port}")
    with nats_server(tmp_path, port):
        opened = open_bus(platform, "test")
        bus = await opened.__aenter__()
        door = listening(listeners, platform, bus)
        await door.__aenter__()
        await bus.publish(finished("run-1"))
        await until(lambda: seen == ["run-1"])
    with nats_server(tmp_path, port):
        await bus.publish(finished("run-2"))
        await until(lambda: seen == ["run-1", "run-2"], 30)
        await door.__aexit__(None, None, None)
        await opened.__aexit__(None, None, None)


async def test_a_batch_comes_again_until_it_is_handled_and_bad_ones_are_parked(platform: PlatformSettings) -> None:
    attempts, kept = [], []

    async def handle(batch: list[Delivery]) -> list[Malformed]:
        attempts.append(len(batch))
        if len(attempts) == 1:
            raise OSError("disk full")
        kept.extend(item for item in batch if item.data.startswith(b"{"))
        return [Malformed(item, "no json") for item in batch if not item.data.startswith(b"{")]

    async with open_bus(platform, "test") as bus, reading(bus, ["runs"], "test", handle):
        await bus.publish(finished())
        await bus.jetstream.publish("ergonaut.v1.default.runs.run.finished.run-2", b"no json at all")
        await until(lambda: len(attempts) > 1 and kept)
        dead = await bus.jetstream.pull_subscribe("ergonaut.v1.*.dead.>", "graveyard", "ERGONAUT_DEAD")
        (letter,) = await dead.fetch(1, timeout=30)
    assert letter.headers["ergonaut-because"] == "no json"
    assert {item.subject for item in kept} == {"ergonaut.v1.default.runs.run.finished.run-1"}


async def test_what_a_reader_has_not_settled_is_shown_until_it_has(platform: PlatformSettings) -> None:
    may_go_on = asyncio.Event()

    async def handle(_: list[Delivery]) -> list[Malformed]:
        await may_go_on.wait()
        return []

    def shown(metric: str) -> float | None:
        return REGISTRY.get_sample_value(metric, {"stream": "ERGONAUT_RUNS", "consumer": "slow"})

    async with (
        open_bus(platform, "test") as bus,
        reading(bus, ["runs"], "slow", handle),
        background(watching_lag(bus, ["runs"], "slow", look_seconds=0.05)),
    ):
        for number in range(3):
            await bus.publish(finished(f"run-{number}"))
        await until(lambda: shown("ergonaut_stream_unread_messages") == 3)
        state = (await bus.jetstream.stream_info("ERGONAUT_RUNS")).state
        assert shown("ergonaut_stream_unread_ratio") == state.bytes / STREAMS["runs"].bytes_max
        may_go_on.set()
        await until(lambda: shown("ergonaut_stream_unread_messages") == 0)
        await until(lambda: shown("ergonaut_stream_unread_ratio") == 0)


@pytest.mark.parametrize(("unread", "ratio"), [(0, 0.0), (50, 0.2), (200, 0.4)])
def test_the_unread_part_of_a_full_stream_is_that_of_its_messages(unread: int, ratio: float) -> None:
    info = StreamInfo(StreamConfig(max_bytes=1000), StreamState(100, 400, 1, 100, 1))
    assert unread_ratio(info, unread) == ratio


async def test_an_event_that_is_too_large_for_nats_is_not_tried_again(platform: PlatformSettings) -> None:
    event = finished().model_copy(update={"because": "x" * 2_000_000})
    async with open_bus(platform, "test") as bus:
        await bus.ensure_streams("runs")
        with pytest.raises(Broken, match="larger than NATS takes"):
            await asyncio.wait_for(bus.publish(event), 2)


async def test_a_socket_that_closed_a_moment_ago_passes_and_a_fault_does_not() -> None:
    failures = [RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")]

    async def ask() -> str:
        if failures:
            raise failures.pop()
        return "answer"

    assert await until_answered(ask, what="asking") == "answer"
    failures.append(RuntimeError("a fault"))
    with pytest.raises(RuntimeError, match="a fault"):
        await until_answered(ask, what="asking")


async def test_a_bucket_is_listed_by_key_without_what_was_deleted(platform: PlatformSettings) -> None:
    async with open_bus(platform, "test") as bus:
        bucket = await bus.key_value("records")
        assert await listed(bucket) == []
        for key in ("b.2", "a.1", "b.1", "gone"):
            await bucket.put(key, key.encode())
        await bucket.put("a.1", b"newer")
        await bucket.delete("gone")
        assert [(entry.key, entry.value) for entry in await listed(bucket)] == [
            ("a.1", b"newer"),
            ("b.1", b"b.1"),
            ("b.2", b"b.2"),
        ]
        assert [entry.key for entry in await listed(bucket, "b.*", keys_only=True)] == ["b.1", "b.2"]


async def test_a_listing_says_so_when_nats_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ergonaut_common.bus.connection.PUBLISH_PATIENCE_SECONDS", 0.5)
    with nats_server(tmp_path) as url:
        opened = open_bus(PlatformSettings(nats_url=url), "test")
        bus = await opened.__aenter__()
        bucket = await bus.key_value("records")
    with pytest.raises(Unavailable, match="records"):
        await asyncio.wait_for(listed(bucket), 25)
    await opened.__aexit__(None, None, None)


async def test_a_listing_that_is_cut_off_is_asked_for_again_and_not_waited_for(
    platform: PlatformSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_bus(platform, "test") as bus:
        bucket = await bus.key_value("records")
        await bucket.put("a", b"one")
        silent = KeyValue.KeyWatcher(bucket)

        async def watch(*arguments: Any, **options: Any) -> KeyValue.KeyWatcher:
            watcher = await KeyValue.watch(bucket, *arguments, **options)
            if silent._sub is not None:
                return watcher
            # As it is when NATS dies after the question: the subscription is there, and nothing comes.
            silent._sub = watcher._sub
            return silent

        monkeypatch.setattr(bucket, "watch", watch)
        monkeypatch.setattr("ergonaut_common.bus.buckets.ENTRY_PATIENCE_SECONDS", 0.5)
        assert [entry.key for entry in await asyncio.wait_for(listed(bucket), 8)] == ["a"]


async def test_a_listing_does_not_take_a_busy_clients_word_that_nothing_is_there(
    platform: PlatformSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_bus(platform, "test") as bus:
        bucket = await bus.key_value("records")
        for number in range(3):
            await bucket.put(f"key.{number}", b"value")

        async def hasty(*arguments: Any, **options: Any) -> KeyValue.KeyWatcher:
            watcher = await KeyValue.watch(bucket, *arguments, **options)
            # As nats-py does when the entries have come and are not handled yet.
            early: asyncio.Queue[Any] = asyncio.Queue()
            early.put_nowait(None)
            while not watcher._updates.empty():
                early.put_nowait(watcher._updates.get_nowait())
            watcher._updates, watcher._init_done = early, True
            return watcher

        monkeypatch.setattr(bucket, "watch", hasty)
        assert [entry.key for entry in await listed(bucket)] == ["key.0", "key.1", "key.2"]
        assert await listed(bucket, "other.*") == []


async def test_a_batch_is_bounded_by_bytes_and_a_larger_message_comes_alone(platform: PlatformSettings) -> None:
    subject = "ergonaut.v1.default.runs.run.finished.run-1"
    async with open_bus(platform, "test") as bus:
        await bus.ensure_streams("runs")
        for _ in range(6):
            await bus.jetstream.publish(subject, b"x" * 40_000)
        await bus.jetstream.publish(subject, b"y" * 300_000)
        pull = await open_pull(bus, "ERGONAUT_RUNS", "test")
        batches = [await pull.fetch(100, 100_000, 10) for _ in range(4)]
        await pull.close()
    assert [len(batch) for batch in batches] == [2, 2, 2, 1]
    assert len(batches[3][0].data) == 300_000


async def test_pulling_from_a_consumer_that_was_deleted_says_so(platform: PlatformSettings) -> None:
    async with open_bus(platform, "test") as bus:
        await bus.ensure_streams("runs")
        pull = await open_pull(bus, "ERGONAUT_RUNS", "test")
        await bus.jetstream.delete_consumer("ERGONAUT_RUNS", "test")
        with pytest.raises(ConsumerGone, match=r"ERGONAUT_RUNS\.test"):
            await pull.fetch(10, 100_000, 10)


async def test_reading_goes_on_after_nats_was_killed_and_its_consumer_deleted(tmp_path: Path) -> None:
    port, seen = free_port(), []

    async def handle(batch: list[Delivery]) -> list[Malformed]:
        seen.extend(json.loads(each.data)["run_id"] for each in batch)
        return []

    async with contextlib.AsyncExitStack() as stack:
        with nats_server(tmp_path, port):
            bus = await stack.enter_async_context(
                open_bus(PlatformSettings(nats_url=f"nats://127.0.0.1:{port}"), "test")
            )
            await stack.enter_async_context(reading(bus, ["runs"], "test", handle))
            await bus.publish(finished("run-1"))
            await until(lambda: seen == ["run-1"])
        with nats_server(tmp_path, port):
            await bus.publish(finished("run-2"))
            await until(lambda: seen == ["run-1", "run-2"], 30)
            await bus.jetstream.delete_consumer("ERGONAUT_RUNS", "test")
            await bus.publish(finished("run-3"))
            await until(lambda: "run-3" in seen, 30)
            await stack.aclose()
