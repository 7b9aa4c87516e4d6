"""What hearing of other gateways and asking them promise, held by the fakes and by NATS and gRPC with our own server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest
from opentelemetry.trace import SpanContext, TraceFlags

from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut.api.openinference.v2.open_inference_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)
from ergonaut.errors import Refused, Unavailable
from ergonaut.gateways import ANNOUNCEMENTS, FORWARDED_BY, SUBJECT, GatewayAnnounced
from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.bus.announcements import NatsAnnouncements
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway import h2
from ergonaut_gateway.adapters.peers import GrpcPeerLinks
from ergonaut_gateway.domain.energy import Meter
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceRequest
from ergonaut_gateway.domain.peers import Errand, PeerAway
from ergonaut_gateway.fakes import FakeAnnouncements
from ergonaut_gateway.ports import Announcements, PeerLink, PeerLinks
from ergonaut_gateway.rpc import NAMES, door

from .conftest import Gateways
from .h2_frames import listening
from .peer_town import Node, Town, request

PATIENCE_SECONDS = 30.0


@dataclass
class Asked:
    """A gateway, a link to it, and where nobody is."""

    node: Node
    links: PeerLinks
    address: str
    nowhere: str

    @property
    def link(self) -> PeerLink:
        return self.links.open(self.address, tls=False)


def errand(
    asked: InferenceRequest | None = None, *, model: str = "digits", seconds: float = PATIENCE_SECONDS
) -> Errand:
    return Errand("default", model, 1, asked or request(), seconds)


@asynccontextmanager
async def listening_node(node: Node, keys: KeyRing) -> AsyncIterator[str]:
    add = door(node.gateway.models, node.gateway.catalogue, node.predictions)
    async with (
        h2.opened(add, node.predictions, keys, NAMES, close_seconds=0.1) as opened,
        listening(opened) as port,
    ):
        yield f"127.0.0.1:{port}"


@pytest.fixture(params=["fake", "grpc"])
async def asked(request: pytest.FixtureRequest, gateways: Gateways, tmp_path: Path) -> AsyncIterator[Asked]:
    async with AsyncExitStack() as stack:
        town = await stack.enter_async_context(Town(gateways, lambda: 0.5))
        node = await town.add("one")
        await town.open()
        if request.param == "fake":
            yield Asked(node, town.links, "one:7405", "nowhere:1")
            return
        path, keys = key_ring_file(tmp_path, ("default",))
        address = await stack.enter_async_context(listening_node(node, KeyRing.load(path)))
        links = GrpcPeerLinks(keys["service"], "asking")
        stack.push_async_callback(links.closed)
        yield Asked(node, links, address, "127.0.0.1:1")


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not what():
            await asyncio.sleep(0.005)


async def test_what_is_asked_is_answered_as_the_model_computes_it(asked: Asked) -> None:
    link = asked.link
    for value in (0.1, 1.7e38, -0.0):
        answer = await link.ask(errand(request(value, "mine")))
        assert (answer.id, answer.model, answer.version) == ("mine", "digits", 1)
        assert {name: tensor.tobytes() for name, tensor in answer.outputs.items()} == {
            "y": (2 * request(value).inputs["x"]).tobytes()
        }
    link.close()


async def test_what_a_request_used_is_counted_on_its_meter(asked: Asked) -> None:
    link, meter = asked.link, Meter()
    await link.ask(errand(InferenceRequest("", request().inputs, (), meter)))
    assert meter.cpu_seconds + sum(told["cpu_seconds"] for told in meter.told) > 0
    link.close()


async def test_what_is_wrong_with_a_request_is_told(asked: Asked) -> None:
    link = asked.link
    with pytest.raises(Refused, match="cannot compute this: a NaN"):
        await link.ask(errand(request(float("nan"))))
    with pytest.raises(Refused, match="is FP64"):
        await link.ask(errand(InferenceRequest("", {"x": np.zeros((1, 3))})))
    with pytest.raises(Refused, match="no such output"):
        await link.ask(errand(InferenceRequest("", request().inputs, ("q",))))
    link.close()


async def test_who_has_no_room_says_when_there_should_be_some(asked: Asked) -> None:
    link = asked.link
    asked.node.loader.gate.clear()
    asked.node.ask(request(), lambda _: None, stays=True)
    with pytest.raises(Busy) as refused:
        await link.ask(errand())
    assert refused.value.retry_after_seconds > 0
    link.close()


async def test_who_has_not_the_model_is_asked_no_more_for_it_and_is_well_otherwise(asked: Asked) -> None:
    link = asked.link
    with pytest.raises(Busy, match="no model nothing is served") as refused:
        await link.ask(errand(model="nothing"))
    assert refused.value.retry_after_seconds == 0
    link.close()


async def test_a_time_that_is_over_is_told_and_the_run_dropped(asked: Asked) -> None:
    link = asked.link
    asked.node.loader.gate.clear()
    with pytest.raises(DeadlineExceeded):
        await link.ask(errand(seconds=0.1))
    await until(lambda: asked.node.predictions.at_work == 0)
    link.close()


async def test_who_does_not_answer_is_told_from_who_refuses(asked: Asked) -> None:
    link = asked.links.open(asked.nowhere, tls=False)
    with pytest.raises(PeerAway):
        await link.ask(errand(seconds=5))
    link.close()


async def test_a_request_that_is_given_up_is_dropped_there(asked: Asked) -> None:
    link = asked.link
    asked.node.loader.gate.clear()
    asking = asyncio.create_task(link.ask(errand()))
    await until(lambda: asked.node.predictions.at_work == 1)
    asking.cancel()
    await until(lambda: asked.node.predictions.at_work == 0)
    with pytest.raises(asyncio.CancelledError):
        await asking
    link.close()


async def test_a_link_that_is_closed_answers_what_was_asked_and_nothing_more(asked: Asked) -> None:
    link = asked.link
    asked.node.loader.gate.clear()
    asking = asyncio.create_task(link.ask(errand()))
    await until(lambda: asked.node.predictions.at_work == 1)
    link.close()
    await asyncio.sleep(0)
    asked.node.loader.gate.set()
    assert (await asyncio.wait_for(asking, PATIENCE_SECONDS)).version == 1
    with pytest.raises(PeerAway):
        await link.ask(errand())


ANNOUNCED = GatewayAnnounced(replica="a", process="a-1", told_at=datetime.now(UTC))


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as opened:
        yield opened


@pytest.fixture(params=["fake", "nats"])
def announcements(request: pytest.FixtureRequest, bus: Bus) -> Announcements:
    return FakeAnnouncements() if request.param == "fake" else NatsAnnouncements(bus, "key", ANNOUNCEMENTS)


async def test_all_who_listen_hear_what_is_told_also_who_tells_it(announcements: Announcements) -> None:
    one: list[GatewayAnnounced] = []
    two: list[GatewayAnnounced] = []
    async with announcements.heard(one.append):
        async with announcements.heard(two.append):
            now = ANNOUNCED.model_copy(update={"told_at": datetime.now(UTC)})
            await announcements.tell(now)
            await until(lambda: bool(one and two))
        await announcements.tell(now)
        await until(lambda: len(one) == 2)
    assert (one, two) == ([now, now], [now])


async def test_nothing_is_heard_of_who_has_another_key_or_tells_nonsense(bus: Bus) -> None:
    ours, theirs = NatsAnnouncements(bus, "key", ANNOUNCEMENTS), NatsAnnouncements(bus, "another", ANNOUNCEMENTS)
    heard: list[GatewayAnnounced] = []
    now = ANNOUNCED.model_copy(update={"told_at": datetime.now(UTC)})
    async with ours.heard(heard.append):
        await theirs.tell(now)
        for nonsense in (b"", b"{}", b"\0" * 100):
            await bus.connection.publish(SUBJECT, nonsense)
        await ours.tell(now)
        await until(lambda: bool(heard))
    assert heard == [now]


async def test_what_cannot_be_told_now_is_not_told_later(nats_url: str) -> None:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as bus:
        announcements = NatsAnnouncements(bus, "key", ANNOUNCEMENTS)
        await bus.connection.close()
        with pytest.raises(Unavailable, match="NATS is away"):
            await announcements.tell(ANNOUNCED)


Infer = Callable[[oip.ModelInferRequest, grpc.aio.ServicerContext], Awaitable[oip.ModelInferResponse]]


class Strange(GRPCInferenceServiceServicer):
    """A server that answers as a test likes."""

    def __init__(self, infer: Infer) -> None:
        self._infer = infer

    async def ModelInfer(self, request, context):
        return await self._infer(request, context)


@asynccontextmanager
async def strange(infer: Infer) -> AsyncIterator[PeerLink]:
    """A link to a server that answers so."""
    server = grpc.aio.server()
    add_GRPCInferenceServiceServicer_to_server(Strange(infer), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    links = GrpcPeerLinks("secret", "asking")
    link = links.open(f"127.0.0.1:{port}", tls=False)
    try:
        yield link
    finally:
        link.close()
        await links.closed()
        await server.stop(0)


async def test_who_asks_for_whom_goes_along_and_so_does_the_trace() -> None:
    metadata: dict[str, str] = {}

    async def note(asked: oip.ModelInferRequest, context: grpc.aio.ServicerContext) -> oip.ModelInferResponse:
        metadata.update(dict(context.invocation_metadata()))
        return oip.ModelInferResponse(model_version="1")

    trace = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
    async with strange(note) as link:
        await link.ask(errand(InferenceRequest("", request().inputs, (), Meter(trace))))
    assert metadata["authorization"] == "Bearer secret"
    assert metadata["x-ergonaut-tenant"] == "default"
    assert metadata[FORWARDED_BY] == "asking"
    assert metadata["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"


@pytest.mark.parametrize(
    "answer",
    [
        oip.ModelInferResponse(model_version="2"),
        oip.ModelInferResponse(model_version="1", raw_output_contents=[b""]),
        oip.ModelInferResponse(
            model_version="1",
            outputs=[oip.ModelInferResponse.InferOutputTensor(name="y", datatype="FP32", shape=[9])],
            raw_output_contents=[b"short"],
        ),
    ],
)
async def test_an_answer_that_is_none_to_the_request_is_no_answer(answer: oip.ModelInferResponse) -> None:
    async def give(asked: oip.ModelInferRequest, context: grpc.aio.ServicerContext) -> oip.ModelInferResponse:
        return answer

    async with strange(give) as link:
        with pytest.raises(PeerAway):
            await link.ask(errand())


@pytest.mark.parametrize("code", ["UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED", "CANCELLED", "UNIMPLEMENTED"])
async def test_who_cannot_take_what_it_is_sent_is_as_good_as_away(code: str) -> None:
    async def refuse(asked: oip.ModelInferRequest, context: grpc.aio.ServicerContext) -> oip.ModelInferResponse:
        await context.abort(grpc.StatusCode[code], "no")

    async with strange(refuse) as link:
        with pytest.raises(PeerAway, match=code):
            await link.ask(errand())


async def test_who_was_sent_a_request_sends_it_to_nobody_else(gateways: Gateways, tmp_path: Path) -> None:
    path, keys = key_ring_file(tmp_path, ("default",))
    async with Town(gateways, lambda: 0.5) as town, AsyncExitStack() as stack:
        one, two = await town.add("one"), await town.add("two")
        await town.open()
        address = await stack.enter_async_context(listening_node(one, KeyRing.load(path)))
        links = GrpcPeerLinks(keys["service"], "asking")
        stack.push_async_callback(links.closed)
        one.loader.gate.clear()
        one.ask(request(), lambda _: None, stays=True)
        link = links.open(address, tls=False)
        with pytest.raises(Busy):
            await link.ask(errand())
        assert two.taken == []
        link.close()


async def test_a_machine_that_vanished_is_noticed_though_it_ends_no_connection(
    gateways: Gateways, tmp_path: Path
) -> None:
    path, keys = key_ring_file(tmp_path, ("default",))
    async with Town(gateways, lambda: 0.5) as town, AsyncExitStack() as stack:
        node = await town.add("one")
        await town.open()
        address = await stack.enter_async_context(listening_node(node, KeyRing.load(path)))
        cable = await stack.enter_async_context(Cable.laid(address))
        links = GrpcPeerLinks(keys["service"], "asking")
        stack.push_async_callback(links.closed)
        link = links.open(cable.address, tls=False)
        await link.ask(errand())
        cable.cut = True
        with pytest.raises(PeerAway):
            await asyncio.wait_for(link.ask(errand(seconds=300)), PATIENCE_SECONDS)
        link.close()


class Cable:
    """Carries bytes both ways until it is cut, which neither side is told."""

    def __init__(self) -> None:
        self.address = ""
        self.cut = False

    @classmethod
    @asynccontextmanager
    async def laid(cls, address: str) -> AsyncIterator["Cable"]:
        cable = cls()
        host, _, port = address.rpartition(":")
        tasks: set[asyncio.Task[None]] = set()

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while content := await reader.read(65536):
                if not cable.cut:
                    writer.write(content)

        async def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(host, int(port))
            tasks.add(asyncio.create_task(carry(reader, back)))
            tasks.add(asyncio.create_task(carry(there, writer)))

        server = await asyncio.start_server(come, "127.0.0.1", 0)
        cable.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield cable
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
