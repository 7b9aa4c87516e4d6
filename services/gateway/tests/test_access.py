"""Every door of a whole gateway, walked by its routes and methods: none answers without a key, none lets a key do more than it
may, none tells one tenant of another. A new route that is open, or that changes something, fails here until it is in a table."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceStub
from ergonaut.keys import Scope, new_key
from ergonaut_common.rpc.calls import scope_needed
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import free_port
from ergonaut_gateway import main as composition
from ergonaut_gateway.h2 import door as h2_door
from ergonaut_gateway.http import Router

from .onnx_models import doubling

pytestmark = pytest.mark.integration

PUBLIC = {
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/"),
    ("GET", "/openapi.json"),
    ("GET", "/v2/models/{model}/page"),
    ("GET", "/v2/models/{model}/versions/{version}/page"),
}
"""Answered to anybody: probes, and pages that say nothing of what is served."""

WRITES = {
    ("POST", "/v2/repository/models/{model}/load"),
    ("POST", "/v2/repository/models/{model}/unload"),
    ("POST", "/v2/models/{model}/labels"),
}
"""Not for a key that may only read; all others are."""

REFUSED_SECONDS = 1.0
"""In which a stream is refused; one that is let in waits for its first request, which is sent after this."""

GRPC_PUBLIC = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
MARK = "run-of-a"
"""Stands in what the one tenant has, and in nothing that anybody sends."""


@dataclass
class Walked:
    """A gateway that serves, and what it answers to."""

    http_address: str
    keys: dict[str, str]
    routes: list[tuple[str, str]] = field(default_factory=list)
    methods: dict[str, Any] = field(default_factory=dict)

    def http(self, key: str) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.keys[key]}"} if key else {}
        return httpx.AsyncClient(base_url=f"http://{self.http_address}", headers=headers, timeout=20)

    def metadata(self, key: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.keys[key]}"),) if key else ()


def recording(walked: Walked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is built tell its routes and methods."""

    class Recording(Router):
        def add(self, method: str, pattern: str, *given: Any, **named: Any) -> None:
            walked.routes.append((method, pattern))
            super().add(method, pattern, *given, **named)

    class RecordingDoor(h2_door.H2Door):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            walked.methods = {path: getattr(method, "handler", None) for path, method in self._methods.items()}

    monkeypatch.setattr(composition, "Router", Recording)
    monkeypatch.setattr(h2_door, "H2Door", RecordingDoor)


@pytest.fixture
async def walked(nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Walked]:
    keys, records = {"unknown": "ergo_000000000000_" + "x" * 43}, []
    tenants = {"a": f"a-{free_port()}", "b": f"b-{free_port()}"}
    for name, scopes in (
        ("a", (Scope.READ, Scope.WRITE)),
        ("b", (Scope.READ, Scope.WRITE)),
        ("b-reads", (Scope.READ,)),
    ):
        keys[name], record = new_key(tenants[name[0]], name, scopes)
        records.append(record.model_dump(mode="json"))
    (tmp_path / "keys.json").write_text(json.dumps({"keys": records}))
    upstream = {"url": f"http://127.0.0.1:{free_port()}", "model": "x"}
    routes = {"models": {"secret": {"upstreams": [upstream], "tenants": [tenants["a"]], "rounds": 1}}}
    (tmp_path / "routes.json").write_text(json.dumps(routes))
    walked = Walked(f"127.0.0.1:{free_port()}", keys)
    for name, value in {
        "HTTP_ADDRESS": walked.http_address,
        "GRPC_ADDRESS": f"127.0.0.1:{free_port()}",
        "METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
        "WATCH_ROWS_PER_SECOND": "10",
        "LABELS_WAITING_MAX": "10",
        "REQUEST_LOG_RATE": "1",
        "OPENAI_ROUTES": str(tmp_path / "routes.json"),
    }.items():
        monkeypatch.setenv(f"ERGONAUT_GATEWAY_{name}", value)
    recording(walked, monkeypatch)
    platform = PlatformSettings(nats_url=nats_url, keys_file=tmp_path / "keys.json", data_dir=tmp_path)
    serving = asyncio.create_task(composition.main(platform))
    try:
        await _until_ready(walked, serving)
        await _deploy(walked)
        yield walked
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def _until_ready(walked: Walked, serving: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(30), walked.http("") as http:
        while not serving.done():
            with suppress(httpx.TransportError):
                if (await http.get("/v2/health/ready")).status_code == 200:
                    return
            await asyncio.sleep(0.02)
    serving.result()


async def _deploy(walked: Walked) -> None:
    first = pb.DeployModelRequest(name="secret", run_id=MARK, chunk=doubling())
    async with grpc.aio.insecure_channel(walked.http_address) as channel:
        await ModelServiceStub(channel).DeployModel(iter([first]), metadata=walked.metadata("a"))


def path_of(pattern: str) -> str:
    """A path that the pattern has, for the model of the one tenant."""
    return (
        pattern.replace("{model}", "secret")
        .replace("{model*}", "secret")
        .replace("{name}", "secret")
        .replace("{version}", "1")
    )


async def ask(http: httpx.AsyncClient, route: tuple[str, str]) -> httpx.Response:
    x = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    body = {"inputs": [x]} if route[1].endswith("/infer") else {"labels": {"id": 1}} if "labels" in route[1] else {}
    if "/v1/" in route[1]:
        body = {"model": "secret", "messages": [], "prompt": "", "input": ""}
    return await http.request(route[0], path_of(route[1]), json=body if route[0] == "POST" else None)


async def test_every_http_route_asks_for_a_key_and_its_scope(walked: Walked) -> None:
    assert {*walked.routes} >= WRITES
    found: dict[tuple[str, str], tuple[int, int, int]] = {}
    async with walked.http("") as nobody, walked.http("unknown") as stranger, walked.http("b-reads") as reader:
        for route in walked.routes:
            answers = [await ask(http, route) for http in (nobody, stranger, reader)]
            found[route] = (answers[0].status_code, answers[1].status_code, answers[2].status_code)

    for route, (without, unknown, _) in found.items():
        assert (without, unknown) == ((200, 200) if route in PUBLIC else (401, 401)), route
    assert {route for route, (_, _, reading) in found.items() if reading == 403} == WRITES


async def test_no_http_route_tells_or_does_anything_to_another_tenants(walked: Walked) -> None:
    async with walked.http("b") as other, walked.http("a") as owner:
        for route in walked.routes:
            answer = await ask(other, route)
            assert MARK not in answer.text
            if route in PUBLIC:
                assert "secret" not in answer.text.replace(path_of(route[1]), ""), route
            elif "{model" in route[1]:
                assert answer.status_code in {400, 404}, (route, answer.text)
            elif route[0] == "GET" or route[1].endswith("/index"):
                assert "secret" not in answer.text, route
        assert (await ask(owner, ("POST", "/v2/models/{model}/infer"))).status_code == 200


async def test_every_grpc_method_asks_for_a_key_and_its_scope(walked: Walked) -> None:
    assert len(walked.methods) > 20
    async with grpc.aio.insecure_channel(walked.http_address) as channel:
        for path in walked.methods:
            if path.startswith(GRPC_PUBLIC):
                continue
            refused = grpc.StatusCode.PERMISSION_DENIED
            assert await code_of(walked, channel, path, "") == refused, path
            assert await code_of(walked, channel, path, "unknown") == refused, path
            may = await code_of(walked, channel, path, "b-reads") != refused
            assert may == (scope_needed(path) is Scope.READ and not _writes(path)), path


async def test_no_grpc_method_tells_or_does_anything_to_another_tenants(walked: Walked) -> None:
    async with grpc.aio.insecure_channel(walked.http_address) as channel:
        for path in walked.methods:
            if not path.startswith(GRPC_PUBLIC):
                _, told = await called(walked, channel, path, "b")
                assert MARK.encode() not in told, path
        kept = await ModelServiceStub(channel).GetModel(
            pb.GetModelRequest(name="secret"), metadata=walked.metadata("a")
        )
    assert (kept.model.run_id, kept.model.version) == (MARK, 1)
    async with walked.http("a") as owner:
        assert (await ask(owner, ("POST", "/v2/models/{model}/infer"))).status_code == 200


def _writes(path: str) -> bool:
    """Methods of the Open Inference Protocol are named otherwise than ours."""
    return path.endswith(("/RepositoryModelLoad", "/RepositoryModelUnload"))


async def code_of(walked: Walked, channel: grpc.aio.Channel, path: str, key: str) -> grpc.StatusCode:
    return (await called(walked, channel, path, key))[0]


async def called(walked: Walked, channel: grpc.aio.Channel, path: str, key: str) -> tuple[grpc.StatusCode, bytes]:
    """How a method answers to a request about the model of the one tenant, and all that it says."""
    handler = walked.methods[path]
    streams_in, streams_out = (handler.request_streaming, handler.response_streaming) if handler else (False, False)
    kinds: dict[tuple[bool, bool], Callable[..., Any]] = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    request, told, gate = _request(handler), b"", asyncio.Event()
    method = kinds[streams_in, streams_out](path)
    given = _when_open(gate, request) if streams_in else request
    call = method(given, metadata=walked.metadata(key), timeout=30)
    if streams_in:
        # grpcio's client takes a request that is written after the call was refused for an error of its own.
        await asyncio.wait({asyncio.ensure_future(call.code())}, timeout=REFUSED_SECONDS)
        gate.set()
    with suppress(grpc.aio.AioRpcError):
        told = b"".join([bytes(each) async for each in call]) if streams_out else bytes(await call)
    return await call.code(), told + (await call.details() or "").encode()


async def _when_open(gate: asyncio.Event, request: bytes) -> AsyncIterator[bytes]:
    await gate.wait()
    yield request


def _request(handler: Any) -> bytes:
    """A request that names the model of the one tenant in whatever fields a name may stand in."""
    if handler is None:
        from ergonaut.api.openinference.v2.open_inference_pb2 import ModelInferRequest

        return ModelInferRequest(model_name="secret").SerializeToString()
    kind = handler.request_deserializer.__self__
    request = kind()
    for name in ("name", "model", "model_name", "endpoint", "pipeline"):
        described = kind.DESCRIPTOR.fields_by_name.get(name)
        if described is not None and described.type == described.TYPE_STRING and not described.is_repeated:
            setattr(request, name, "secret")
    return bytes(request.SerializeToString())
