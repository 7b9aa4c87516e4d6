"""Goes through what tritonclient's documentation offers, with one of its four clients: `http`, `http_aio`, `grpc` or `grpc_aio`.

A program of its own, given the client, an address and a key, since tritonclient and our generated module register the same
protobuf names. Any failure ends it with a traceback. What `tests/triton_script.py` covers is not repeated. Not imported by tests.
"""

import asyncio
import queue
import sys
import threading
import time

import ml_dtypes
import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
VALUES = {
    "BOOL": np.array([[True, False]]),
    "INT8": np.array([[-128, 127]], dtype=np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], dtype=np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], dtype=np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], dtype=np.int64),
    "UINT8": np.array([[0, 255]], dtype=np.uint8),
    "UINT16": np.array([[0, 2**16 - 1]], dtype=np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], dtype=np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], dtype=np.uint64),
    "FP16": np.array([[1.5, -65504]], dtype=np.float16),
    "BF16": np.array([[1.5, -(2.0**100)]], dtype=ml_dtypes.bfloat16),
    "FP32": np.array([[1.5, np.inf]], dtype=np.float32),
    "FP64": np.array([[1.5, -1e300]], dtype=np.float64),
    "BYTES": np.array([[b"\x00\xc3\xa9", b"text"]], dtype=np.object_),
}
"""The edges of every datatype."""


def doubling_input(module, rows=ROWS, **more):
    given = module.InferInput("x", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows, **more)
    return [given]


def refused(call, words, status=None):
    try:
        call()
    except InferenceServerException as error:
        check_refusal(error, words, status)
        return
    raise AssertionError(f"nothing was refused; expected: {words}")


async def refused_async(call, words, status=None):
    try:
        await call
    except InferenceServerException as error:
        check_refusal(error, words, status)
        return
    raise AssertionError(f"nothing was refused; expected: {words}")


def check_refusal(error, words, status):
    assert words in error.message(), f"{error.message()} lacks {words}"
    assert status is None or status in str(error.status()), error.status()


def http(address, key):
    headers = {"authorization": f"Bearer {key}"}
    client = tritonclient.http.InferenceServerClient(address, concurrency=4, network_timeout=20.0)
    http_told(client, headers)
    http_predictions(client, headers)
    http_unoffered(client, headers)
    http_wrong(client, headers)
    client.close()


def http_told(client, headers):
    assert client.is_server_live(query_params={"probe": "yes"})
    metadata = client.get_server_metadata(headers=dict(headers))
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(metadata["extensions"])
    for version in ("", "1"):
        told = client.get_model_metadata("doubling", version, headers=dict(headers), query_params={"a": [1, 2]})
        assert (told["name"], told["outputs"][1]["name"]) == ("doubling", "z")
        assert client.get_model_config("doubling", version, headers=dict(headers))["max_batch_size"] == 0
    assert client.get_inference_statistics(headers=dict(headers))["model_stats"]
    assert not client.is_model_ready("no such/model", headers=dict(headers))


def http_predictions(client, headers):
    module = tritonclient.http
    for datatype, value in VALUES.items():
        given = module.InferInput("x", [1, 2], datatype)
        given.set_data_from_numpy(value, binary_data=True)
        result = client.infer(f"identity-{datatype.lower()}", [given], model_version="1", headers=dict(headers))
        np.testing.assert_array_equal(result.as_numpy("y"), value, err_msg=datatype)
        assert result.get_output("y")["datatype"] == datatype
    for packed in ("gzip", "deflate"):
        many = np.tile(ROWS, (500, 1))
        compression = {"request_compression_algorithm": packed, "response_compression_algorithm": packed}
        result = client.infer("doubling", doubling_input(module, many), headers=dict(headers), **compression)
        np.testing.assert_array_equal(result.as_numpy("y"), 2 * many)
    outputs = [module.InferRequestedOutput("z", binary_data=False), module.InferRequestedOutput("y", binary_data=True)]
    more = {"request_id": "id é", "parameters": {"colour": "red", "n": 7}, "query_params": {"q": 1}}
    result = client.infer("doubling", doubling_input(module), outputs=outputs, headers=dict(headers), **more)
    assert [each["name"] for each in result.get_response()["outputs"]] == ["z", "y"]
    assert result.get_response()["id"] == "id é"
    asked = [client.async_infer("doubling", doubling_input(module), headers=dict(headers)) for _ in range(8)]
    for each in asked:
        np.testing.assert_array_equal(each.get_result(timeout=20).as_numpy("y"), 2 * ROWS)
    body, json_size = module.InferenceServerClient.generate_request_body(doubling_input(module))
    assert json_size is not None
    assert len(body) == json_size + ROWS.nbytes


def http_unoffered(client, headers):
    for status in (client.get_system_shared_memory_status, client.get_cuda_shared_memory_status):
        assert status(headers=dict(headers)) == []
    client.unregister_system_shared_memory(headers=dict(headers))
    client.unregister_cuda_shared_memory("region", headers=dict(headers))
    register = client.register_system_shared_memory
    refused(lambda: register("region", "/shm", 64, headers=dict(headers)), "shared memory is not offered", "400")
    register = client.register_cuda_shared_memory
    refused(lambda: register("region", b"handle", 0, 64, headers=dict(headers)), "shared memory is not offered", "400")
    for call in (client.get_trace_settings, client.update_trace_settings):
        refused(lambda call=call: call(headers=dict(headers)), "trac", "400")
        refused(lambda call=call: call("doubling", headers=dict(headers)), "send a traceparent", "400")
    refused(lambda: client.get_log_settings(headers=dict(headers)), "ERGONAUT_LOG_LEVEL", "400")
    refused(lambda: client.update_log_settings({"log_info": False}, headers=dict(headers)), "ERGONAUT_LOG_LEVEL", "400")
    shared = tritonclient.http.InferInput("x", [2, 3], "FP32")
    shared.set_shared_memory("region", 24)
    words = "inputs.x.parameters.shared_memory_region: is not supported"
    refused(lambda: client.infer("doubling", [shared], headers=dict(headers)), words, "400")
    classes = [tritonclient.http.InferRequestedOutput("y", class_count=2)]
    given = doubling_input(tritonclient.http)
    words = "outputs.y.parameters.classification: is not supported"
    refused(lambda: client.infer("doubling", given, outputs=classes, headers=dict(headers)), words, "400")
    config = {"config": '{"max_batch_size": 8}'}
    refused(lambda: client.load_model("doubling", headers=dict(headers), **config), "come with a deployment", "400")
    files = {"config": "{}", "files": {"file:1/model.onnx": b"x"}}
    refused(lambda: client.load_model("doubling", headers=dict(headers), **files), "come with a deployment", "400")


def http_wrong(client, headers):
    module, given = tritonclient.http, doubling_input(tritonclient.http)
    refused(lambda: client.infer("nothing", given, headers=dict(headers)), "no model nothing is served", "404")
    refused(lambda: client.infer("doubling", given, model_version="9", headers=dict(headers)), "9", "404")
    refused(lambda: client.infer("doubling", given), "key", "401")
    refused(lambda: client.load_model("nothing", headers=dict(headers)), "nothing", "404")
    outputs = [module.InferRequestedOutput("no")]
    words = "outputs.no: the model has no such output"
    refused(lambda: client.infer("doubling", given, outputs=outputs, headers=dict(headers)), words, "400")
    for at, name in enumerate(("sequence_start", "sequence_end")):
        more = {"sequence_id": 7 + at, name: True}
        refused(lambda more=more: client.infer("doubling", given, headers=dict(headers), **more), "sequence", "400")
    refused(lambda: client.infer("doubling", given, timeout=-1, headers=dict(headers)), "parameters.timeout", "400")
    late = client.async_infer("doubling", given, headers=dict(headers), model_version="9")
    refused(lambda: late.get_result(timeout=20), "9")


async def http_aio(address, key):
    headers = {"authorization": f"Bearer {key}"}
    module = tritonclient.http.aio
    async with module.InferenceServerClient(address, conn_limit=8, conn_timeout=20.0) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("doubling", headers=dict(headers))
        assert not await client.is_model_ready("nothing", headers=dict(headers))
        assert (await client.get_server_metadata(headers=dict(headers)))["name"] == "ergonaut"
        assert (await client.get_model_metadata("doubling", headers=dict(headers)))["inputs"][0]["shape"] == [-1, 3]
        assert (await client.get_model_config("doubling", headers=dict(headers)))["name"] == "doubling"
        index = await client.get_model_repository_index(headers=dict(headers))
        assert "doubling" in {each["name"] for each in index}
        assert (await client.get_inference_statistics("doubling", headers=dict(headers)))["model_stats"]
        await client.unload_model("identity-int8", headers=dict(headers))
        assert not await client.is_model_ready("identity-int8", headers=dict(headers))
        await client.load_model("identity-int8", headers=dict(headers))
        for packed in (None, "gzip", "deflate"):
            compression = {"request_compression_algorithm": packed, "response_compression_algorithm": packed}
            asked = [
                client.infer("doubling", doubling_input(module), headers=dict(headers), **compression) for _ in range(8)
            ]
            for result in await asyncio.gather(*asked):
                np.testing.assert_array_equal(result.as_numpy("y"), 2 * ROWS)
        for datatype, value in VALUES.items():
            given = module.InferInput("x", [1, 2], datatype)
            given.set_data_from_numpy(value)
            result = await client.infer(f"identity-{datatype.lower()}", [given], headers=dict(headers))
            np.testing.assert_array_equal(result.as_numpy("y"), value, err_msg=datatype)
        await refused_async(
            client.infer("nothing", doubling_input(module), headers=dict(headers)), "no model nothing", "404"
        )
        await refused_async(client.get_log_settings(headers=dict(headers)), "ERGONAUT_LOG_LEVEL", "400")
        assert await client.get_system_shared_memory_status(headers=dict(headers)) == []


def grpc(address, key):
    headers = {"authorization": f"Bearer {key}"}
    alive = tritonclient.grpc.KeepAliveOptions(keepalive_time_ms=10_000, keepalive_timeout_ms=5_000)
    with tritonclient.grpc.InferenceServerClient(address, keepalive_options=alive) as client:
        grpc_told(client, headers)
        grpc_predictions(client, headers)
        grpc_unoffered(client, headers)
        grpc_wrong(client, headers)
        grpc_given_up(client, headers)
        grpc_streams(client, headers)


def grpc_told(client, headers):
    told = client.get_server_metadata(headers=dict(headers), as_json=True)
    assert told["name"] == "ergonaut"
    assert client.is_model_ready("doubling", "1", headers=dict(headers), client_timeout=20)
    assert client.get_model_metadata("doubling", "1", headers=dict(headers), as_json=True)["versions"] == ["1"]
    assert client.get_model_config("doubling", headers=dict(headers), as_json=True)["config"]["name"] == "doubling"
    stats = client.get_inference_statistics("doubling", "1", headers=dict(headers), as_json=True)
    assert stats["model_stats"][0]["name"] == "doubling"
    assert client.get_model_repository_index(headers=dict(headers), as_json=True)["models"]


def grpc_predictions(client, headers):
    module = tritonclient.grpc
    for datatype, value in VALUES.items():
        given = module.InferInput("x", [1, 2], datatype)
        given.set_data_from_numpy(value)
        result = client.infer(f"identity-{datatype.lower()}", [given], model_version="1", headers=dict(headers))
        np.testing.assert_array_equal(result.as_numpy("y"), value, err_msg=datatype)
        assert result.get_output("y").datatype == datatype
    outputs = [module.InferRequestedOutput("z")]
    more = {"request_id": "id-1", "parameters": {"colour": "red", "n": 7, "b": True}}
    result = client.infer("doubling", doubling_input(module), outputs=outputs, headers=dict(headers), **more)
    assert (result.get_response().id, result.as_numpy("y")) == ("id-1", None)
    np.testing.assert_array_equal(result.as_numpy("z"), -ROWS)


def grpc_unoffered(client, headers):
    unknown = "there is no method /inference.GRPCInferenceService/"
    for call in (
        lambda: client.get_system_shared_memory_status(headers=dict(headers)),
        lambda: client.register_system_shared_memory("region", "/shm", 64, headers=dict(headers)),
        lambda: client.unregister_system_shared_memory(headers=dict(headers)),
        lambda: client.get_cuda_shared_memory_status(headers=dict(headers)),
        lambda: client.register_cuda_shared_memory("region", b"aGFuZA==", 0, 64, headers=dict(headers)),
        lambda: client.get_trace_settings(headers=dict(headers)),
        lambda: client.update_trace_settings(settings={"trace_level": "OFF"}, headers=dict(headers)),
        lambda: client.get_log_settings(headers=dict(headers)),
        lambda: client.update_log_settings({"log_info": False}, headers=dict(headers)),
    ):
        refused(call, unknown, "UNIMPLEMENTED")
    shared = tritonclient.grpc.InferInput("x", [2, 3], "FP32")
    shared.set_shared_memory("region", 24)
    words = "inputs.x.parameters.shared_memory_region: is not supported"
    refused(lambda: client.infer("doubling", [shared], headers=dict(headers)), words, "INVALID_ARGUMENT")
    classes = [tritonclient.grpc.InferRequestedOutput("y", class_count=2)]
    given = doubling_input(tritonclient.grpc)
    words = "outputs.y.parameters.classification: is not supported"
    refused(lambda: client.infer("doubling", given, outputs=classes, headers=dict(headers)), words, "INVALID_ARGUMENT")
    words = "come with a deployment"
    refused(lambda: client.load_model("doubling", headers=dict(headers), config="{}"), words, "INVALID_ARGUMENT")


def grpc_wrong(client, headers):
    given = doubling_input(tritonclient.grpc)
    refused(lambda: client.infer("nothing", given, headers=dict(headers)), "no model nothing is served", "NOT_FOUND")
    refused(lambda: client.infer("doubling", given), "key", "PERMISSION_DENIED")
    refused(lambda: client.get_model_metadata("nothing", headers=dict(headers)), "nothing", "NOT_FOUND")
    more = {"sequence_id": 7, "sequence_start": True}
    refused(lambda: client.infer("doubling", given, headers=dict(headers), **more), "sequence_id", "INVALID_ARGUMENT")
    wrong = tritonclient.grpc.InferInput("x", [2, 3], "INT32")
    wrong.set_data_from_numpy(ROWS.astype(np.int32))
    words = "inputs.x.datatype: is INT32, the model takes FP32"
    refused(lambda: client.infer("doubling", [wrong], headers=dict(headers)), words, "INVALID_ARGUMENT")


def slow_input(module):
    given = module.InferInput("rounds", [], "INT64")
    given.set_data_from_numpy(np.array(30_000_000, dtype=np.int64))
    return [given]


def grpc_given_up(client, headers):
    """A run of half a minute: who gives it up is told so at once, and it stops, so that others are served."""
    module, began = tritonclient.grpc, time.monotonic()
    call = lambda: client.infer("counting", slow_input(module), headers=dict(headers), client_timeout=0.3)
    refused(call, "eadline", "DEADLINE_EXCEEDED")
    answers = queue.Queue()
    asked = client.async_infer(
        "counting", slow_input(module), lambda result, error: answers.put((result, error)), headers=dict(headers)
    )
    time.sleep(0.1)
    asked.cancel()
    check_refusal(answers.get(timeout=20)[1], "ancelled", "CANCELLED")
    result = client.infer("doubling", doubling_input(module), headers=dict(headers), client_timeout=20)
    np.testing.assert_array_equal(result.as_numpy("y"), 2 * ROWS)
    assert time.monotonic() - began < 15


def grpc_streams(client, headers):
    module, answers = tritonclient.grpc, queue.Queue()
    client.start_stream(
        lambda result, error: answers.put((result, error)), headers=dict(headers), compression_algorithm="gzip"
    )
    for at in range(5):
        client.async_stream_infer("doubling", doubling_input(module), request_id=f"s-{at}", parameters={"n": at})
    for at in range(5):
        result, error = answers.get(timeout=20)
        assert error is None
        assert result.get_response().id == f"s-{at}"
    client.stop_stream()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=dict(headers))
    client.async_stream_infer("counting", slow_input(module))
    stopping = threading.Thread(target=lambda: client.stop_stream(cancel_requests=True))
    stopping.start()
    stopping.join(20)
    assert not stopping.is_alive()
    while not answers.empty():
        answers.get()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=dict(headers), stream_timeout=0.3)
    client.async_stream_infer("counting", slow_input(module))
    _, error = answers.get(timeout=20)
    check_refusal(error, "eadline", "DEADLINE_EXCEEDED")
    client.stop_stream()
    client.start_stream(lambda result, error: answers.put((result, error)))
    _, error = answers.get(timeout=20)
    check_refusal(error, "key", "PERMISSION_DENIED")
    client.stop_stream()


async def grpc_aio(address, key):
    headers = {"authorization": f"Bearer {key}"}
    module = tritonclient.grpc.aio
    async with module.InferenceServerClient(address) as client:
        assert await client.is_server_live(headers=dict(headers))
        assert await client.is_model_ready("doubling", headers=dict(headers))
        assert (await client.get_model_metadata("doubling", headers=dict(headers))).name == "doubling"
        assert (await client.get_model_config("doubling", headers=dict(headers))).config.name == "doubling"
        assert (await client.get_inference_statistics(headers=dict(headers))).model_stats
        assert (await client.get_model_repository_index(headers=dict(headers))).models
        asked = [
            client.infer("doubling", doubling_input(module), headers=dict(headers), request_id=str(at))
            for at in range(8)
        ]
        for at, result in enumerate(await asyncio.gather(*asked)):
            assert result.get_response().id == str(at)
            np.testing.assert_array_equal(result.as_numpy("y"), 2 * ROWS)
        await refused_async(
            client.infer("nothing", doubling_input(module), headers=dict(headers)), "no model", "NOT_FOUND"
        )
        slow = client.infer("counting", slow_input(module), headers=dict(headers), client_timeout=0.3)
        await refused_async(slow, "eadline", "DEADLINE_EXCEEDED")
        await grpc_aio_streams(client, headers)


async def grpc_aio_streams(client, headers):
    module = tritonclient.grpc.aio

    async def requests(models):
        for at, model in enumerate(models):
            yield {"model_name": model, "inputs": doubling_input(module), "request_id": str(at)}

    answers = [
        each async for each in client.stream_infer(requests(["doubling", "nothing", "doubling"]), headers=dict(headers))
    ]
    assert [error is None for _, error in answers] == [True, False, True]
    check_refusal(answers[1][1], "no model nothing", None)

    async def slow():
        yield {"model_name": "counting", "inputs": slow_input(module)}
        await asyncio.sleep(60)

    stream = client.stream_infer(slow(), headers=dict(headers))
    reading = asyncio.ensure_future(anext(aiter(stream)))
    await asyncio.sleep(0.2)
    stream.cancel()
    try:
        await reading
    except (asyncio.CancelledError, InferenceServerException):
        return
    raise AssertionError("a stream that was cancelled answered")


if __name__ == "__main__":
    name, address, key = sys.argv[1:]
    session = globals()[name](address, key)
    if name.endswith("aio"):
        asyncio.run(session)
