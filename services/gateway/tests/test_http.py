"""The HTTP door over a real socket: routes, keys, tensors both ways, and one clear error for whatever is wrong."""

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ergonaut.errors import NotAllowed
from ergonaut.keys import Scope, new_key
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import SystemClock
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.http import Callers, HttpLimits, InferenceDoor, Router, serving_http
from ergonaut_gateway.http import callers as callers_module
from ergonaut_gateway.http.answers import Unknown
from ergonaut_gateway.service import EngineLimits

from .conftest import Gateway, Gateways
from .onnx_models import counting, doubling, identity

LIMITS = HttpLimits(body_bytes=100_000, all_bodies_bytes=250_000, connections=50, body_seconds=0.5)
X = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
INFER = "/v2/models/digits/infer"


@pytest.fixture
async def gateway(gateways: Gateways) -> AsyncIterator[Gateway]:
    gateways.clock = SystemClock()
    made = gateways.another(OnnxLoader(), limits=EngineLimits(threads=1, waiting=0, model_waiting=0))
    await made.deploy(doubling())
    yield made
    made.predictions.close()


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    return key_ring_file(tmp_path, ("default", "other"))


@pytest.fixture
async def port(gateway: Gateway, keys: tuple[Path, dict[str, str]]) -> AsyncIterator[int]:
    router = Router()
    callers = Callers(KeyRing.load(keys[0]))
    InferenceDoor(gateway.models, gateway.catalogue, gateway.predictions, callers).add_to(router)
    async with serving_http("127.0.0.1:0", router, LIMITS) as bound:
        yield bound


@pytest.fixture
async def http(port: int, keys: tuple[Path, dict[str, str]]) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {keys[1]['default']}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
        yield client


async def test_the_server_and_its_models_tell_of_themselves(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v2/health/live")).json() == {"live": True}
    assert (await http.get("/v2/health/ready")).json() == {"ready": True}
    server = (await http.get("/v2")).json()
    assert server["name"] == "ergonaut"
    assert "binary_tensor_data" in server["extensions"]
    model = {
        "name": "digits",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "z", "datatype": "FP32", "shape": [-1, 3]},
        ],
    }
    for path in ("/v2/models/digits", "/v2/models/digits/versions/1"):
        assert (await http.get(path)).json() == model
        assert (await http.get(f"{path}/ready")).json() == {"name": "digits", "ready": True}
    config = (await http.get("/v2/models/digits/config")).json()
    assert (config["name"], config["backend"], config["max_batch_size"]) == ("digits", "onnxruntime", 0)
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 3]}]
    index = (await http.post("/v2/repository/index")).json()
    assert index == [{"name": "digits", "version": "1", "state": "READY", "reason": ""}]


@pytest.mark.parametrize("path", [INFER, "/v2/models/digits/versions/1/infer"])
async def test_a_json_request_gets_a_json_answer(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.post(path, json={"id": "7", "inputs": [X]})
    assert answer.status_code == 200
    assert answer.json() == {
        "id": "7",
        "model_name": "digits",
        "model_version": "1",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [2.0, 4.0, 6.0]},
            {"name": "z", "datatype": "FP32", "shape": [1, 3], "data": [-1.0, -2.0, -3.0]},
        ],
    }


async def test_binary_tensors_go_in_and_come_out(http: httpx.AsyncClient) -> None:
    tensor = np.arange(6, dtype="<f4").reshape(2, 3)
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": 24}},
            ],
            "outputs": [{"name": "z"}, {"name": "y", "parameters": {"binary_data": True}}],
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = await http.post(INFER, content=head + tensor.tobytes(), headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    json_bytes = int(answer.headers["Inference-Header-Content-Length"])
    z, y = json.loads(answer.content[:json_bytes])["outputs"]
    assert z["data"] == (-tensor).ravel().tolist()
    assert y["parameters"] == {"binary_data_size": 24}
    np.testing.assert_array_equal(np.frombuffer(answer.content[json_bytes:], "<f4").reshape(2, 3), 2 * tensor)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_is_unpacked(http: httpx.AsyncClient, encoding: str, pack: Any) -> None:
    body = pack(json.dumps({"inputs": [X]}).encode())
    answer = await http.post(INFER, content=body, headers={"content-encoding": encoding})
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6]


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"{", {}, "body: is not JSON: "),
        (json.dumps({"inputs": [X | {"name": "w"}]}).encode(), {}, "inputs.w: the model has no such input; it takes x"),
        (json.dumps({"inputs": []}).encode(), {}, "inputs.x: is missing; the model takes x"),
        (
            json.dumps({"inputs": [X | {"shape": [3]}]}).encode(),
            {},
            "inputs.x.shape: is [3], the model takes [-1, 3] (-1 is any length)",
        ),
        (
            json.dumps({"inputs": [X | {"datatype": "FP64"}]}).encode(),
            {},
            "inputs.x.datatype: is FP64, the model takes FP32",
        ),
        (
            json.dumps({"inputs": [X], "outputs": [{"name": "q"}]}).encode(),
            {},
            "outputs.q: the model has no such output; it gives y, z",
        ),
        (b"{}", {"Inference-Header-Content-Length": "many"}, "Inference-Header-Content-Length: must be a whole number"),
        (b"x" * 150_000, {}, "body: is larger than 100000 bytes"),
        (b"x" * 5_000_000, {}, "body: is larger than 100000 bytes"),
        (
            gzip.compress(b"x" * 200_000),
            {"content-encoding": "gzip"},
            "body: is larger than 100000 bytes when unpacked",
        ),
        (gzip.compress(b"x" * 100, mtime=0)[:-9], {"content-encoding": "gzip"}, "body: ends within its gzip data"),
        (b"hello", {"content-encoding": "gzip"}, "body: is not gzip: "),
        (b"hello", {"content-encoding": "br"}, "Content-Encoding: 'br' is not known; send gzip, deflate or none"),
    ],
)
async def test_what_is_wrong_gets_one_clear_error(
    http: httpx.AsyncClient, body: bytes, headers: dict[str, str], message: str
) -> None:
    answer = await http.post(INFER, content=body, headers=headers)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(message)


@pytest.mark.parametrize("path", ["/v2/models/nothing", "/v2/models/digits/versions/2", "/v2/models/digits/versions/x"])
async def test_an_unknown_model_or_version_is_not_found(http: httpx.AsyncClient, path: str) -> None:
    answers = [
        await http.get(path),
        await http.get(f"{path}/ready"),
        await http.post(f"{path}/infer", json={"inputs": [X]}),
    ]
    assert [answer.status_code for answer in answers] == [404] * 3
    assert all(answer.json()["error"] for answer in answers)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v3", 404), ("GET", INFER, 405), ("POST", "/v2/health/live", 405)]
)
async def test_an_unknown_route_gets_an_error_in_the_same_form(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])


async def test_without_a_key_only_health_is_told(http: httpx.AsyncClient) -> None:
    http.headers.pop("authorization")
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert (await http.get(path)).status_code == 200
    for method, path in (
        ("GET", "/v2"),
        ("GET", "/v2/models/digits"),
        ("POST", INFER),
        ("POST", "/v2/repository/index"),
    ):
        answer = await http.request(method, path, headers={"authorization": "Bearer wrong"})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "API key is missing or unknown" in answer.json()["error"]


async def test_a_model_of_another_tenant_is_not_found_and_a_service_says_for_whom_it_asks(
    http: httpx.AsyncClient, keys: tuple[Path, dict[str, str]]
) -> None:
    other = {"authorization": f"Bearer {keys[1]['other']}"}
    assert (await http.post(INFER, json={"inputs": [X]}, headers=other)).status_code == 404
    assert (await http.post("/v2/repository/index", headers=other)).json() == []
    posing = await http.get("/v2/models/digits", headers=other | {"x-ergonaut-tenant": "default"})
    assert posing.status_code == 403
    service = {"authorization": f"Bearer {keys[1]['service']}"}
    assert (await http.get("/v2/models/digits", headers=service)).status_code == 403
    acting = await http.get("/v2/models/digits", headers=service | {"x-ergonaut-tenant": "default"})
    assert acting.status_code == 200


async def test_text_goes_in_and_comes_out(http: httpx.AsyncClient, gateway: Gateway) -> None:
    await gateway.deploy(identity("BYTES"), "text")
    sent = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["é", ""]}
    answer = await http.post("/v2/models/text/infer", json={"inputs": [sent]})
    assert answer.json()["outputs"][0]["data"] == ["é", ""]


async def test_bf16_goes_in_and_comes_out_as_json_and_as_bits(http: httpx.AsyncClient, gateway: Gateway) -> None:
    await gateway.deploy(identity("BF16"), "half")
    sent = {"name": "x", "shape": [1, 2], "datatype": "BF16", "data": [1.5, 3.14159274]}
    answer = await http.post("/v2/models/half/infer", json={"inputs": [sent]})
    assert answer.json()["outputs"][0] == {"name": "y", "datatype": "BF16", "shape": [1, 2], "data": [1.5, 3.140625]}
    bits = np.array([0x3FC0, 0x7FC1], dtype="<u2").tobytes()
    given = {"name": "x", "shape": [1, 2], "datatype": "BF16", "parameters": {"binary_data_size": 4}}
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = await http.post("/v2/models/half/infer", content=head + bits, headers=headers)
    assert answer.content[int(answer.headers["Inference-Header-Content-Length"]) :] == bits


async def test_more_requests_than_fit_are_told_to_come_back(http: httpx.AsyncClient, gateway: Gateway) -> None:
    await gateway.deploy(counting(), "counting")

    def rounds(count: int) -> Any:
        given = {"name": "rounds", "shape": [], "datatype": "INT64", "data": [count]}
        return http.post("/v2/models/counting/infer", json={"inputs": [given]})

    answers = await asyncio.gather(*(rounds(100_000) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["retry-after"] == "1"
    assert "at work or waiting" in refused.json()["error"]


async def test_a_model_is_unloaded_and_loaded_again_as_triton_does(http: httpx.AsyncClient) -> None:
    ready = {"name": "digits", "version": "1", "state": "READY", "reason": ""}
    assert (await http.post("/v2/repository/index", json={"ready": True})).json() == [ready]
    gone = await http.post("/v2/repository/models/digits/unload", json={"parameters": {"unload_dependents": False}})
    assert (gone.status_code, gone.json()) == (200, {})
    assert (await http.post(INFER, json={"inputs": [X]})).status_code == 404
    unloaded = ready | {"state": "UNAVAILABLE", "reason": "unloaded"}
    assert (await http.post("/v2/repository/index", json={})).json() == [unloaded]
    assert (await http.post("/v2/repository/index", json={"ready": True})).json() == []
    assert (await http.post("/v2/repository/models/digits/load", json={})).status_code == 200
    assert (await http.post(INFER, json={"inputs": [X]})).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("index", b"{", 400, "body: is not JSON"),
        ("index", b'{"ready": 1}', 400, "ready: Expected `bool`, got `int`"),
        ("models/nothing/load", b"{}", 404, "no model nothing"),
        ("models/nothing/unload", b"", 404, "no model nothing"),
        ("models/digits/load", b'{"parameters": {"config": "{}"}}', 400, "parameters.config: is not supported"),
    ],
)
async def test_what_the_repository_cannot_do_gets_one_clear_error(
    http: httpx.AsyncClient, path: str, body: bytes, status: int, words: str
) -> None:
    answer = await http.post(f"/v2/repository/{path}", content=body)
    assert (answer.status_code, answer.json()["error"][: len(words)]) == (status, words)


async def test_what_was_served_is_told_as_triton_tells_it(http: httpx.AsyncClient, gateway: Gateway) -> None:
    two = X | {"shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}
    for given in (X, two, X | {"shape": [3]}):
        await http.post(INFER, json={"inputs": [given]})
    await gateway.deploy(identity("FP32"), "other")
    paths = ("/v2/models/digits/stats", "/v2/models/digits/versions/1/stats", "/v2/models/stats")
    one, same, both = [(await http.get(path)).json()["model_stats"] for path in paths]
    assert one == same
    assert [each["name"] for each in both] == ["digits", "other"]
    (told,) = one
    assert (told["name"], told["version"], told["inference_count"], told["execution_count"]) == ("digits", "1", 3, 2)
    assert told["inference_stats"]["success"]["count"] == 2
    assert told["inference_stats"]["success"]["ns"] > 0
    assert told["inference_stats"]["fail"]["count"] == 1
    assert [each["batch_size"] for each in told["batch_stats"]] == [1, 2]
    assert (await http.get("/v2/models/nothing/stats")).status_code == 404


async def test_a_request_may_say_by_when_its_answer_is_of_use(http: httpx.AsyncClient) -> None:
    for timeout_microseconds, status in ((1, 504), (60_000_000, 200)):
        answer = await http.post(INFER, json={"inputs": [X], "parameters": {"timeout": timeout_microseconds}})
        assert answer.status_code == status, answer.text


async def test_a_key_that_expires_is_let_in_no_longer_than_a_moment() -> None:
    seconds = [0.0]
    key, record = new_key("default", "p", [Scope.READ])
    ring = KeyRing([record])
    callers = Callers(ring, now_seconds=lambda: seconds[0])
    headers = {"authorization": f"Bearer {key}"}
    assert callers.of(headers).tenant == "default"
    with pytest.raises(NotAllowed, match="no write scope"):
        callers.of(headers, Scope.WRITE)
    ring._records.clear()
    seconds[0] = 0.9
    assert callers.of(headers).tenant == "default"
    seconds[0] = 1.1
    with pytest.raises(Unknown, match="API key is missing or unknown"):
        callers.of(headers)


async def test_callers_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers_module, "CALLERS_MAX", 3)
    made = [new_key("default", f"p{number}", [Scope.READ]) for number in range(9)]
    callers = Callers(KeyRing([record for _, record in made]))
    assert [callers.of({"authorization": f"Bearer {key}"}).principal for key, _ in made][-1] == "p8"
    assert len(callers._known) <= 3


async def test_an_answer_does_not_wait_for_the_callers_delayed_acknowledgement(http: httpx.AsyncClient) -> None:
    latencies_seconds = []
    # A new connection acknowledges its first two dozen segments at once; the delay shows after that.
    for _ in range(60):
        began = time.perf_counter()
        await http.post(INFER, json={"inputs": [X]})
        latencies_seconds.append(time.perf_counter() - began)
    assert min(latencies_seconds[-20:]) < 0.03


async def test_a_body_that_does_not_come_is_given_up(port: int, keys: tuple[Path, dict[str, str]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = keys[1]["default"]
    writer.write(
        f"POST {INFER} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {key}\r\ncontent-length: 9\r\n\r\n{{".encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"}"), 60)
    assert b"400 Bad Request" in head
    assert b"body: did not arrive within 0.5 s" in head
    writer.close()


async def test_bodies_of_all_requests_together_are_bounded_and_room_is_given_back(
    port: int, http: httpx.AsyncClient, keys: tuple[Path, dict[str, str]]
) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {keys[1]['default']}\r\ncontent-length: 95000\r\n\r\n"
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    for _, writer in held:
        writer.write(head.encode() + b" " * 90_000)
        await writer.drain()
    async with asyncio.timeout(30):
        while (refused := await http.post(INFER, content=b" " * 90_000)).status_code != 503:
            await asyncio.sleep(0.01)
    assert (refused.status_code, refused.json()["error"]) == (503, "too many large requests are at work; ask again")
    for _, writer in held:
        writer.close()
    async with asyncio.timeout(30):
        while (answer := await http.post(INFER, json={"inputs": [X]})).status_code == 503:
            await asyncio.sleep(0.01)
    assert answer.status_code == 200


async def test_a_stopping_gateway_says_that_it_is_not_ready(http: httpx.AsyncClient, gateway: Gateway) -> None:
    await gateway.predictions.finish(within_seconds=1)
    assert (await http.get("/v2/health/live")).status_code == 200
    ready = await http.get("/v2/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"ready": False})
    answer = await http.post(INFER, json={"inputs": [X]})
    assert (answer.status_code, answer.json()["error"]) == (503, "the gateway is stopping; ask again")
