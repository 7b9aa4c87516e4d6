"""What a service tells of itself: spans that cross NATS and gRPC, metrics that can be scraped, logs without secrets."""

import asyncio
import io
import json
import logging
import socket
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import Counter

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1 import vectors_pb2_grpc as pb_grpc
from ergonaut.errors import Unavailable
from ergonaut.events import RunFinished
from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import Listeners, listening, open_bus
from ergonaut_common.observe import (
    carried_context,
    get_logger,
    opened_span,
    serving_metrics,
    span,
    start_logging,
    trace_headers,
)
from ergonaut_common.rpc import channel, serving
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import kept_spans, key_ring_file

NAME = "ergonaut.api.vectors.v1.VectorsService"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return kept_spans()


def named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [each for each in spans.get_finished_spans() if each.name == name]
    return found


async def until_told(spans: InMemorySpanExporter, name: str) -> None:
    async with asyncio.timeout(20):
        while name not in {each.name for each in spans.get_finished_spans()}:
            await asyncio.sleep(0.02)


async def test_a_trace_crosses_nats_from_publisher_to_listener(
    platform: PlatformSettings, spans: InMemorySpanExporter
) -> None:
    listeners = Listeners("test")

    @listeners.on(RunFinished)
    async def note(_: RunFinished) -> None: ...

    event = RunFinished(tenant="default", run_id="run-1", state="succeeded", ended_at=datetime(2026, 1, 1, tzinfo=UTC))
    async with open_bus(platform, "test") as bus, listening(listeners, platform, bus):
        with span("the work"):
            await bus.publish(event)
        await until_told(spans, "handle")
    told = named(spans, "publish")
    heard = named(spans, "handle")
    assert heard.context.trace_id == named(spans, "the work").context.trace_id
    assert heard.parent is not None
    assert heard.parent.span_id == told.context.span_id


class Door(pb_grpc.VectorsServiceServicer):
    async def ListCollections(self, request, context):
        return pb.ListCollectionsResponse()


async def test_a_trace_crosses_grpc_from_client_to_door(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    path, keys = key_ring_file(tmp_path)
    (tmp_path / "key").write_text(keys["default"])
    platform = PlatformSettings(service_key_file=tmp_path / "key")
    add = lambda server: pb_grpc.add_VectorsServiceServicer_to_server(Door(), server)
    async with (
        serving("127.0.0.1:0", service="test", add=add, keys=KeyRing.load(path), names=[NAME]) as server,
        channel(f"127.0.0.1:{server.port}", platform, service="test") as opened,
    ):
        with span("the question"):
            await pb_grpc.VectorsServiceStub(opened).ListCollections(pb.ListCollectionsRequest())
    answered = named(spans, f"/{NAME}/ListCollections")
    asked = named(spans, "the question")
    assert answered.context.trace_id == asked.context.trace_id
    assert answered.parent is not None
    assert answered.parent.span_id == asked.context.span_id


def test_work_that_ends_in_a_callback_joins_the_trace_of_its_headers_and_tells_what_went_wrong(
    spans: InMemorySpanExporter,
) -> None:
    assert opened_span("infer", {}) is None
    trace_id, parent_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    end = opened_span("infer", {"traceparent": f"00-{trace_id}-{parent_id}-01"}, model="digits")
    assert end is not None
    end(Unavailable("is full"))
    told = named(spans, "infer")
    assert f"{told.context.trace_id:032x}" == trace_id
    assert told.parent is not None
    assert f"{told.parent.span_id:016x}" == parent_id
    assert (told.attributes or {})["model"] == "digits"
    assert told.status.description == "is full"


async def test_metrics_can_be_scraped() -> None:
    Counter("ergonaut_test_total", "Counts in this test.").inc(3)
    async with serving_metrics("127.0.0.1:0") as port:
        with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert "ergonaut_test_total 3.0" in answer.read().decode()


@pytest.mark.parametrize(
    ("request_line", "status"), [("GET /other HTTP/1.1", "404"), ("POST /metrics HTTP/1.1", "405"), ("", "405")]
)
async def test_only_metrics_are_served_there(request_line: str, status: str) -> None:
    async with serving_metrics("127.0.0.1:0") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{request_line}\r\n\r\n".encode())
        assert (await reader.readline()).split()[1] == status.encode()
        writer.close()


async def test_a_metrics_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unavailable, match=address):
            async with serving_metrics(address):
                pass


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Logs as a service has them, and afterwards as they were."""
    told = io.StringIO()
    monkeypatch.setattr("sys.stderr", told)
    handlers, level = logging.root.handlers, logging.root.level
    logging.root.handlers = []  # pytest's own, which would be closed
    start_logging("test", "INFO")
    yield told
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.root.handlers, logging.root.level = handlers, level


def test_a_log_line_is_json_with_ids_as_fields_and_the_trace(logs: io.StringIO, spans: InMemorySpanExporter) -> None:
    with span("the work"):
        get_logger("here").info("run started", run_id="run-1")
    get_logger("here").debug("too much")
    logging.getLogger("a.library").warning("of %s", "theirs")
    ours, theirs = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert (ours["event"], ours["run_id"], ours["service"], ours["level"]) == ("run started", "run-1", "test", "info")
    assert ours["trace_id"] == trace.format_trace_id(named(spans, "the work").context.trace_id)
    assert (theirs["event"], theirs["level"]) == ("of theirs", "warning")


async def test_neither_a_key_nor_a_payload_is_in_a_log(
    logs: io.StringIO, platform: PlatformSettings, tmp_path: Path
) -> None:
    path, keys = key_ring_file(tmp_path)
    (tmp_path / "key").write_text(keys["default"])
    listeners = Listeners("test")

    @listeners.on(RunFinished)
    async def note(_: RunFinished) -> None: ...

    add = lambda server: pb_grpc.add_VectorsServiceServicer_to_server(pb_grpc.VectorsServiceServicer(), server)
    called = PlatformSettings(service_key_file=tmp_path / "key")
    async with (
        open_bus(platform, "test") as bus,
        listening(listeners, platform, bus),
        serving("127.0.0.1:0", service="test", add=add, keys=KeyRing.load(path), names=[NAME]) as server,
        channel(f"127.0.0.1:{server.port}", called, service="test") as opened,
    ):
        with pytest.raises(Exception, match="unforeseen"):
            await pb_grpc.VectorsServiceStub(opened).ListCollections(pb.ListCollectionsRequest())
        await bus.jetstream.publish("ergonaut.v1.default.runs.run.finished.run-2", b'{"state": "hunter2"}')
        dead = await bus.jetstream.pull_subscribe("ergonaut.v1.*.dead.>", "graveyard", "ERGONAUT_DEAD")
        (letter,) = await dead.fetch(1, timeout=30)
    told = logs.getvalue()
    assert "call failed" in told
    assert "message parked" in told
    assert keys["default"] not in told
    assert "hunter2" not in told + letter.headers["ergonaut-because"]


def test_headers_of_traces_that_are_none_write_nothing_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    for headers in ({"traceparent": "0" * 600}, {"traceparent": "00-zz"}, {"baggage": "=;=," * 900}):
        with carried_context(headers):
            assert trace_headers() is not None
    assert caplog.records == []
