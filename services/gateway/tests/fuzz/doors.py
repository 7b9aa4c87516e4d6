"""All doors of a gateway in this process, with real models and a real upstream behind them, given bytes as a socket would give
them. What comes back is judged: no answer may say that the fault is ours."""

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hpack

from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import SystemClock
from ergonaut_common.h2 import H2Limits, frames
from ergonaut_common.h2.connection import Connection as H2Connection
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway import h2
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.adapters.signatures import TrustedKeys
from ergonaut_gateway.endpoint_rpc import endpoint_door
from ergonaut_gateway.fakes import (
    FakeAnnouncer,
    FakeEndpointBook,
    FakeFiguresBook,
    FakeFuser,
    FakePipelineBook,
    FakeReferences,
)
from ergonaut_gateway.h2 import H2Door
from ergonaut_gateway.http import Callers, HttpLimits, InferenceDoor, PagesDoor, PeopleDoor, QualityDoor, Router
from ergonaut_gateway.http.connection import Connection, Door
from ergonaut_gateway.openai import Reporting, opened_door
from ergonaut_gateway.pipeline_rpc import pipeline_door
from ergonaut_gateway.protocol.pipeline_wire import pipeline_of
from ergonaut_gateway.rpc import NAMES, door
from ergonaut_gateway.service import EngineLimits, Predictions
from ergonaut_gateway.service.drifts import Watching
from ergonaut_gateway.service.endpoints import Endpoints, EndpointWorld
from ergonaut_gateway.service.labels import Keeping
from ergonaut_gateway.service.quality import Quality
from ergonaut_gateway.service.traffic import Traffic
from services.gateway.tests.conftest import Gateway, Gateways
from services.gateway.tests.onnx_models import adding, doubling, identity
from services.gateway.tests.openai_upstream import FakeModels
from services.gateway.tests.pipeline_models import house_of

from .calls import PIPED
from .drawing import tree, written
from .requests import MODELS, X, post

SECONDS_MAX = 20.0
"""How long a lot may take to be answered on a busy machine; what is not answered then never will be."""

HTTP_LIMITS = HttpLimits(body_bytes=2_000_000, head_bytes=32 * 1024)
LIMITS = EngineLimits(threads=1, waiting=100_000, model_waiting=100_000)
OWN_FAULTS = {2, 13, 14, 15}
"""gRPC statuses that say that the server is at fault: UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS."""

GRPC_RULES = re.compile(
    "the last message is not whole|a message begins with neither|is packed, but grpc-encoding|grpc-timeout .* cannot be read"
)
"""INTERNAL as gRPC's specification wants it for callers who break its framing."""

Statuses = dict[str, dict[int, int]]
"""How many answers of each status each kind of case got: HTTP's are three digits long, gRPC's one or two."""

NO_ANSWER = -1
"""Counted where nothing was said: a connection that was closed as its protocol wants, or whose request never came whole."""

_SPOKEN = re.compile(rb"\S+ \S+ HTTP/1\.[01]\r?\n")
_STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")


@dataclass(frozen=True)
class Case:
    """Bytes for a connection: of HTTP, which may turn out to be HTTP/2, or of the gRPC port."""

    kind: str
    sent: bytes
    piece_bytes: int = 0
    """How much comes at a time; 0 is all at once, -1 request by request."""

    def pieces(self) -> list[bytes]:
        """What comes at a time."""
        if self.piece_bytes < 0:
            return [piece for piece in re.split(rb"(?=POST /)", self.sent) if piece]
        size = self.piece_bytes or len(self.sent) or 1
        return [self.sent[at : at + size] for at in range(0, len(self.sent), size)]

    @property
    def is_h2(self) -> bool:
        """Whether it is for the gRPC port."""
        return self.kind.startswith(("grpc", "h2"))


class Kept(asyncio.Transport):
    """A connection into memory, which gives bytes while they are read."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case
        self.out = bytearray()
        self.closed = False
        self.crashed: BaseException | None = None
        self.protocol: Any = None
        self._left = deque(case.pieces())
        self._reading = True
        self._giving = False

    def give(self) -> None:
        """Give what is left, as far as it is read."""
        if self._giving:
            return
        self._giving = True
        try:
            while self._left and self._reading and not self.closed:
                self.protocol.data_received(self._left.popleft())
        except Exception as error:
            self.crashed = error
        self._giving = False

    def write(self, data: bytes) -> None:
        self.out += data

    def writelines(self, pieces: Any) -> None:
        self.out += b"".join(pieces)

    def write_eof(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        asyncio.get_running_loop().call_soon(self.give)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    @property
    def waits(self) -> bool:
        """Whether an answer is still to come."""
        if self.closed:
            return False
        if isinstance(self.protocol, H2Connection):
            return any(stream.ended for stream in self.protocol.streams.values())
        return bool(self.protocol._turns)


class Upstream(FakeModels):
    """One that answers anything, and keeps little of it."""

    async def _behave(self, body: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.clear()
        self.authorizations[:-1] = []
        try:
            await super()._behave(body, reader, writer)
        except Exception:
            # It is no door of ours: whatever it cannot read, it answers as a server elsewhere would.
            writer.write(b"HTTP/1.1 400 X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")


class Doors:
    """The doors, and what came of cases."""

    def __init__(self, http: Door, grpc: H2Door, key: str) -> None:
        self.http, self.grpc, self.key = http, grpc, key
        self.unforeseen: list[str] = []
        """What the event loop was told that nobody caught."""
        self.statuses: Statuses = {}

    async def judged(self, cases: Sequence[Case]) -> list[str]:
        """Give all cases at once, and say of each what is wrong with what came of it; empty where nothing is."""
        self.unforeseen.clear()
        kept = [self._begun(case) for case in cases]
        await _answered(kept)
        wrong = [self._wrong(each) for each in kept]
        for each in kept:
            self._ended(each, wrong)
        await asyncio.sleep(0)
        if self.http.room.held_bytes or self.grpc.tasks.room.held_bytes:
            wrong.append("room for bodies was not given back")
        if self.http.connections or self.grpc.connections:
            wrong.append("connections were not let go")
        return [*wrong, *self.unforeseen]

    async def answers_well(self) -> bool:
        """Whether a good request is answered as ever."""
        good = Case("good", post("/v2/models/digits/infer", self.key, written(tree({"inputs": [X]}))))
        kept = self._begun(good)
        await _answered([kept])
        self._ended(kept, [])
        return b"[2.0,4.0,6.0]" in kept.out

    def _begun(self, case: Case) -> Kept:
        kept = Kept(case)
        kept.protocol = self.grpc() if case.is_h2 else Connection(self.http)
        kept.protocol.connection_made(kept)
        kept.give()
        return kept

    def _wrong(self, kept: Kept) -> str:
        if kept.crashed is not None:
            return f"crashed: {kept.crashed!r}"
        if kept.waits and not _may_wait(kept):
            return "was not answered"
        is_h2 = isinstance(kept.protocol, H2Connection)
        return told(kept.case, bytes(kept.out), self.statuses, is_h2=is_h2)

    def _ended(self, kept: Kept, wrong: list[str]) -> None:
        try:
            kept.protocol.connection_lost(None)
        except Exception as error:
            wrong.append(f"crashed at the end: {error!r}")


def told(case: Case, out: bytes, counted: Statuses, *, is_h2: bool) -> str:
    """What is wrong with the bytes that came back; the statuses in them are counted."""
    statuses, wrong = _grpc_statuses(out) if is_h2 else _http_statuses(case.sent, out)
    of_kind = counted.setdefault(case.kind, {})
    for status in statuses or [NO_ANSWER]:
        of_kind[status] = of_kind.get(status, 0) + 1
    return wrong


async def _answered(kept: Sequence[Kept]) -> None:
    give_up_at, turns = time.monotonic() + SECONDS_MAX, 0
    while any(each.waits and not _may_wait(each) for each in kept) and time.monotonic() < give_up_at:
        turns += 1
        # At first what is answered on the loop; then what threads and upstreams need.
        await asyncio.sleep(0 if turns < 30 else 0.001)
    for _ in range(3):
        await asyncio.sleep(0)


def _may_wait(kept: Kept) -> bool:
    """Whether it is rightly not answered: what the caller's window does not let through."""
    if isinstance(kept.protocol, H2Connection):
        streams = kept.protocol.streams.values()
        return all(stream.pending is not None for stream in streams if stream.ended)
    return False


def _http_statuses(sent: bytes, out: bytes) -> tuple[list[int], str]:
    statuses = [int(each) for each in _STATUS.findall(out)]
    for status in statuses:
        if status == 504 and b"timeout" in sent:
            # The request's own deadline was too short.
            continue
        if status == 505 and not all(map(_SPOKEN.match, re.split(rb"(?<=.)(?=POST |GET )", sent, flags=re.DOTALL))):
            # RFC 9110 has no other status for this.
            continue
        if status in (429, 499) or status >= 500 or status < 100:
            return statuses, f"was answered {status}: {out[:600]!r}"
    return statuses, ""


def _grpc_statuses(out: bytes) -> tuple[list[int], str]:
    at, decoder, statuses, words = 0, hpack.Decoder(), [], ""
    while at + frames.HEAD_BYTES <= len(out):
        high, low, kind, _, _ = frames.HEAD.unpack_from(out, at)
        at += frames.HEAD_BYTES + ((high << 8) | low)
        payload = out[at - ((high << 8) | low) : at]
        if kind == frames.GOAWAY:
            code = int.from_bytes(payload[4:8], "big")
            if code == frames.Code.INTERNAL_ERROR:
                return statuses, f"the connection ended by our fault: {payload[8:]!r}"
        if kind == frames.HEADERS:
            fields = dict(decoder.decode(payload))
            words = fields.get("grpc-message", "")
            statuses.append(int(fields.get("grpc-status", fields.get(":status", "0"))))
            if statuses[-1] in OWN_FAULTS and not GRPC_RULES.search(words):
                return statuses, f"was answered {statuses[-1]}: {words}"
    return statuses, ""


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Doors]:
    """The doors while the block runs."""
    gateways = Gateways(folder / "spool")
    gateways.clock = SystemClock()
    gateway = gateways.another(
        OnnxLoader(), file_bytes_max=100_000, limits=LIMITS, checker=TrustedKeys(()), models_max=100
    )
    quality = Quality(
        gateways.announcer,
        FakeReferences(),
        gateways.clock,
        watching=Watching(rows_per_second=100),
        keeping=Keeping(predictions_max=100),
    )
    gateway.predictions = Predictions(gateway.catalogue, gateways.announcer, gateways.clock, LIMITS, quality.served)
    await _deployed(gateway)
    ring, keys = key_ring_file(folder, ("default",))
    callers, router = Callers(KeyRing.load(ring)), Router()
    InferenceDoor(gateway.models, gateway.catalogue, gateway.predictions, callers).add_to(router)
    QualityDoor(quality, callers).add_to(router)
    PeopleDoor(gateway.models, gateway.catalogue, gateway.predictions, callers).add_to(router)
    PagesDoor().add_to(router)
    async with AsyncExitStack() as stack:
        await _with_upstream(stack, folder, callers, router)
        house = house_of(gateway, OnnxLoader(), FakePipelineBook(), unfusing())
        await house.apply(pipeline_of(PIPED))
        others = (pipeline_door(house.pipelines), endpoint_door(_endpoints(gateway)))
        add = door(gateway.models, gateway.catalogue, gateway.predictions, *others)
        grpc = await stack.enter_async_context(
            h2.opened(add, gateway.predictions, KeyRing.load(ring), NAMES, H2Limits(), close_seconds=0)
        )
        doors = Doors(Door(router, HTTP_LIMITS, grpc), grpc, keys["default"])
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: doors.unforeseen.append(f"{context}"))
        yield doors
        loop.set_exception_handler(None)
        await router.close()
    gateway.predictions.close()


def _endpoints(gateway: Gateway) -> Endpoints:
    catalogue, predictions, clock = gateway.catalogue, gateway.predictions, gateway.clock
    traffic = Traffic(
        predictions.submit_model,
        lambda *version: catalogue.find(*version).record,
        predictions.statistics_of,
        lambda: False,
        clock,
    )
    world = EndpointWorld(FakeEndpointBook(), FakeFiguresBook(), gateway.announcer, clock, gateway.models)
    return Endpoints(world, predictions.plans, traffic, process="fuzz")


def unfusing() -> FakeFuser:
    """A fuser that leaves pipelines as they are: to merge models takes a process each time."""
    fuser = FakeFuser()
    fuser.refuses = "not here"
    return fuser


async def _deployed(gateway: Gateway) -> None:
    files = {"digits": doubling(), "spare": doubling("spare"), "adding": adding()}
    files |= {name: identity(given[0]["datatype"]) for name, given in MODELS.items() if name.startswith("id-")}
    for name, content in files.items():
        await gateway.deploy(content, name)


async def _with_upstream(stack: AsyncExitStack, folder: Path, callers: Callers, router: Router) -> None:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.answer, "127.0.0.1", 0, limit=4_000_000)
    upstream.port = server.sockets[0].getsockname()[1]
    await stack.enter_async_context(server)
    routes = folder / "routes.json"
    routes.write_text(
        f'{{"models": {{"small": {{"rounds": 1, "upstreams": [{{"url": "http://127.0.0.1:{upstream.port}/v1"}}]}}}}}}'
    )
    await stack.enter_async_context(opened_door(str(routes), callers, router, Reporting(FakeAnnouncer(), 10.0)))
