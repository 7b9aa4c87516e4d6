"""A share of the cases over real sockets against a real gateway process, whose memory is watched and which must go on serving."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.api.inference.v1 import pipelines_pb2 as pipes
from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceStub
from ergonaut.api.inference.v1.pipelines_pb2_grpc import PipelineServiceStub
from ergonaut_common.testing import ServiceProcess, free_port, nats_server
from services.gateway.tests.onnx_models import adding, doubling, identity

from .calls import PIPED
from .doors import Case, Statuses, Upstream, told
from .drawing import tree, written
from .requests import MODELS, X, post

AT_ONCE = 16
FIRST_SECONDS = 1.0
"""How long the first answer may take; who sent half a request would be told after 10 s only, which is tested elsewhere."""

MORE_SECONDS = 0.02
"""How long after an answer another one is waited for."""

WARM_UP_SHARE = 0.3
GROWTH_BYTES_MAX = 50_000_000
GOOD_EVERY = 250


@dataclass
class Outcome:
    """What became of all cases."""

    wrong: list[tuple[Case, str]] = field(default_factory=list)
    statuses: Statuses = field(default_factory=dict)
    rss_warm_bytes: int = 0
    rss_end_bytes: int = 0

    @property
    def growth_bytes(self) -> int:
        """How much memory the process took after its warm-up."""
        return self.rss_end_bytes - self.rss_warm_bytes


@dataclass(frozen=True)
class Target:
    """A process and its ports."""

    process: ServiceProcess
    http_port: int

    @property
    def grpc_port(self) -> int:
        """gRPC's own."""
        return int(self.process.address.rpartition(":")[2])

    @property
    def key(self) -> str:
        """The key that is let in."""
        return self.process.keys["default"]

    @property
    def rss_bytes(self) -> int:
        """How much memory it holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


async def tried(target: Target, cases: Iterable[Case], count: int) -> Outcome:
    """Send all cases, some at a time."""
    outcome, left, done = Outcome(), iter(cases), 0

    async def send() -> None:
        nonlocal done
        for case in left:
            if wrong := await _sent(target, case, outcome):
                outcome.wrong.append((case, wrong))
            done += 1
            if done == int(count * WARM_UP_SHARE):
                outcome.rss_warm_bytes = target.rss_bytes
            if done % GOOD_EVERY == 0 and not await answers_well(target):
                outcome.wrong.append((case, "a good request was not answered after this or one before it"))
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(send())
    outcome.rss_end_bytes = target.rss_bytes
    return outcome


async def answers_well(target: Target) -> bool:
    """Whether a good request is answered as ever."""
    out = await _exchanged(
        target.http_port, post("/v2/models/digits/infer", target.key, written(tree({"inputs": [X]}))), 10
    )
    return b"[2.0,4.0,6.0]" in out


async def _sent(target: Target, case: Case, outcome: Outcome) -> str:
    try:
        out = await _exchanged(target.grpc_port if case.is_h2 else target.http_port, case.sent, FIRST_SECONDS)
    except ConnectionRefusedError:
        return "nobody listens any more"
    return told(case, out, outcome.statuses, is_h2=case.is_h2)


async def _exchanged(port: int, sent: bytes, first_seconds: float) -> bytes:
    """What came back, until nothing more did for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    out = b""
    try:
        writer.write(sent)
        within_seconds = first_seconds
        while True:
            async with asyncio.timeout(within_seconds):
                piece = await reader.read(65_536)
            if not piece:
                break
            out += piece
            within_seconds = MORE_SECONDS
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return out


@contextlib.asynccontextmanager
async def running_target(folder: Path) -> AsyncIterator[Target]:
    """A gateway process with all doors, on its own NATS, with an upstream."""
    upstream = Upstream()
    server = await asyncio.start_server(upstream.answer, "127.0.0.1", 0, limit=4_000_000)
    routes, http_port = folder / "routes.json", free_port()
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    routes.write_text(json.dumps({"models": {"small": {"rounds": 1, "upstreams": [{"url": url}]}}}))
    with nats_server(folder / "nats") as nats_url:
        settings = {
            "ERGONAUT_NATS_URL": nats_url,
            "ERGONAUT_GATEWAY_HTTP_ADDRESS": f"127.0.0.1:{http_port}",
            "ERGONAUT_GATEWAY_OPENAI_ROUTES": str(routes),
            "ERGONAUT_GATEWAY_LABELS_WAITING_MAX": "100",
            "ERGONAUT_GATEWAY_WATCH_ROWS_PER_SECOND": "100",
            "ERGONAUT_GATEWAY_WAITING_MAX": "10000",
            "ERGONAUT_GATEWAY_MODEL_WAITING_MAX": "10000",
            "ERGONAUT_LOG_LEVEL": "ERROR",
        }
        target = Target(ServiceProcess("gateway", folder / "gateway", settings), http_port)
        async with server:
            with target.process.running():
                await _deploy(target.process)
                yield target


async def _deploy(process: ServiceProcess) -> None:
    files = {"digits": doubling(), "spare": doubling("spare"), "adding": adding()}
    files |= {name: identity(given[0]["datatype"]) for name, given in MODELS.items() if name.startswith("id-")}
    async with process.healthy("inference.GRPCInferenceService") as channel:
        for name, content in files.items():
            messages = iter([pb.DeployModelRequest(name=name), pb.DeployModelRequest(chunk=content)])
            await ModelServiceStub(channel).DeployModel(messages, metadata=process.metadata(), timeout=60)
        asked = pipes.ApplyPipelineRequest(pipeline=PIPED)
        await PipelineServiceStub(channel).ApplyPipeline(asked, metadata=process.metadata(), timeout=60)
