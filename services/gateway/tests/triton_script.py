"""Predicts with tritonclient, given the HTTP and gRPC addresses, a key, and whom to trust where they speak TLS; a program of its
own, since tritonclient and our generated module register the same protobuf names. Any failure ends it with a traceback. Not
imported by tests.

Each call gets headers of its own: tritonclient writes the lengths and encodings of one request into the dictionary it is given.
"""

import queue
import sys

import ml_dtypes
import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

DTYPES = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}


def tensor_of(datatype):
    if datatype == "BYTES":
        return np.array([[b"ab", "é".encode()]], dtype=np.object_)
    return np.array([[1, 0]], dtype=DTYPES[datatype])


def refusal(client, model, inputs, headers, **more):
    try:
        client.infer(model, inputs, headers=dict(headers), **more)
    except InferenceServerException as error:
        return error.message()
    raise AssertionError(f"{model} answered")


def check_doubling(module, client, headers):
    tensor = np.arange(6, dtype=np.float32).reshape(2, 3)
    given = module.InferInput("x", [2, 3], "FP32")
    given.set_data_from_numpy(tensor)
    result = client.infer("doubling", [given], request_id="id-7", headers=dict(headers))
    np.testing.assert_array_equal(result.as_numpy("y"), 2 * tensor)
    np.testing.assert_array_equal(result.as_numpy("z"), -tensor)
    told = result.get_response()
    assert (told["id"] if isinstance(told, dict) else told.id) == "id-7"
    only = client.infer("doubling", [given], outputs=[module.InferRequestedOutput("z")], headers=dict(headers))
    np.testing.assert_array_equal(only.as_numpy("z"), -tensor)
    assert only.as_numpy("y") is None
    wrong = module.InferInput("x", [2], "FP32")
    wrong.set_data_from_numpy(np.zeros(2, dtype=np.float32))
    for model, inputs, words in (("doubling", [wrong], "inputs.x.shape"), ("nothing", [given], "no model nothing")):
        assert words in refusal(client, model, inputs, headers)


def check_datatypes(module, client, headers):
    for datatype in DTYPES:
        tensor = tensor_of(datatype)
        given = module.InferInput("x", [1, 2], datatype)
        given.set_data_from_numpy(tensor)
        result = client.infer(f"identity-{datatype.lower()}", [given], headers=dict(headers))
        np.testing.assert_array_equal(result.as_numpy("y"), tensor, err_msg=datatype)


def check_http(address, headers, **security):
    client = tritonclient.http.InferenceServerClient(address, **security)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("doubling", headers=dict(headers))
    assert client.is_model_ready("doubling", "1", headers=dict(headers))
    assert not client.is_model_ready("doubling", "2", headers=dict(headers))
    assert client.get_server_metadata(headers=dict(headers))["name"] == "ergonaut"
    assert client.get_model_metadata("doubling", headers=dict(headers))["inputs"][0]["name"] == "x"
    assert {"doubling", "identity-fp16"} <= {
        model["name"] for model in client.get_model_repository_index(headers=dict(headers))
    }
    check_doubling(tritonclient.http, client, headers)
    check_datatypes(tritonclient.http, client, headers)
    check_repository(client, headers)
    # BF16 has no numbers in this client's JSON.
    for datatype in DTYPES.keys() - {"BF16"}:
        given = tritonclient.http.InferInput("x", [1, 2], datatype)
        given.set_data_from_numpy(tensor_of(datatype), binary_data=False)
        wanted = [tritonclient.http.InferRequestedOutput("y", binary_data=False)]
        for packed in (None, "gzip", "deflate"):
            result = client.infer(
                f"identity-{datatype.lower()}",
                [given],
                outputs=wanted,
                headers=dict(headers),
                request_compression_algorithm=packed,
                response_compression_algorithm=packed,
            )
            texts = [["ab", "é"]]
            expected = texts if datatype == "BYTES" else tensor_of(datatype).tolist()
            assert result.as_numpy("y").tolist() == expected, datatype


def check_repository(client, headers):
    assert client.get_model_config("doubling", headers=dict(headers))["input"][0]["data_type"] == "TYPE_FP32"
    (counted,) = client.get_inference_statistics("doubling", headers=dict(headers))["model_stats"]
    assert counted["inference_stats"]["success"]["count"] >= 2
    client.unload_model("doubling", headers=dict(headers))
    assert not client.is_model_ready("doubling", headers=dict(headers))
    client.load_model("doubling", headers=dict(headers))
    given = tritonclient.http.InferInput("x", [1, 3], "FP32")
    given.set_data_from_numpy(np.zeros((1, 3), dtype=np.float32))
    client.infer("doubling", [given], headers=dict(headers), priority=1, timeout=60_000_000)
    words = refusal(client, "doubling", [given], headers, sequence_id=7, sequence_start=True)
    assert "parameters.sequence_id: is not supported" in words


def check_grpc(address, headers, **security):
    client = tritonclient.grpc.InferenceServerClient(address, **security)
    assert client.is_server_live(headers=dict(headers))
    assert client.is_server_ready(headers=dict(headers))
    assert client.is_model_ready("doubling", headers=dict(headers))
    assert not client.is_model_ready("nothing", headers=dict(headers))
    assert client.get_server_metadata(headers=dict(headers)).name == "ergonaut"
    assert client.get_model_metadata("doubling", headers=dict(headers)).inputs[0].name == "x"
    check_doubling(tritonclient.grpc, client, headers)
    check_datatypes(tritonclient.grpc, client, headers)
    check_grpc_repository(client, headers)
    check_waiting(client, headers)
    check_stream(client, headers)


def check_grpc_repository(client, headers):
    config = client.get_model_config("doubling", headers=dict(headers)).config
    assert (config.name, config.platform, config.backend) == ("doubling", "onnxruntime_onnx", "onnxruntime")
    assert [(each.name, each.data_type, list(each.dims)) for each in config.input] == [("x", 11, [-1, 3])]
    counted = client.get_inference_statistics("doubling", headers=dict(headers)).model_stats
    assert counted[0].inference_count >= 2
    assert counted[0].inference_stats.success.count >= 1
    assert len(client.get_inference_statistics(headers=dict(headers)).model_stats) > len(counted)
    state = {each.name: each.state for each in client.get_model_repository_index(headers=dict(headers)).models}
    assert state["identity-fp32"] == "READY"
    client.unload_model("identity-fp32", headers=dict(headers))
    assert not client.is_model_ready("identity-fp32", headers=dict(headers))
    client.load_model("identity-fp32", headers=dict(headers))
    assert client.is_model_ready("identity-fp32", headers=dict(headers))


def check_waiting(client, headers):
    tensor = np.arange(3000, dtype=np.float32).reshape(1000, 3)
    given = tritonclient.grpc.InferInput("x", [1000, 3], "FP32")
    given.set_data_from_numpy(tensor)
    for packed in (None, "gzip", "deflate"):
        result = client.infer("doubling", [given], headers=dict(headers), compression_algorithm=packed)
        np.testing.assert_array_equal(result.as_numpy("y"), 2 * tensor)
    result = client.infer("doubling", [given], headers=dict(headers), priority=1, timeout=9_000_000, client_timeout=9.0)
    np.testing.assert_array_equal(result.as_numpy("y"), 2 * tensor)
    answers = queue.Queue()
    client.async_infer("doubling", [given], lambda result, error: answers.put((result, error)), headers=dict(headers))
    result, error = answers.get(timeout=20)
    assert error is None
    np.testing.assert_array_equal(result.as_numpy("y"), 2 * tensor)


def check_stream(client, headers):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=dict(headers))
    for at in range(100):
        given = tritonclient.grpc.InferInput("x", [1, 3], "FP32")
        given.set_data_from_numpy(np.full((1, 3), at, dtype=np.float32))
        model = "nothing" if at == 50 else "doubling"
        client.async_stream_infer(model, [given], request_id=str(at), enable_empty_final_response=at == 3)
    for at in range(100):
        result, error = answers.get(timeout=20)
        if at == 50:
            assert "no model nothing" in error.message()
            continue
        assert result.get_response().id == str(at)
        assert result.as_numpy("y").tolist() == [[2.0 * at] * 3]
        assert ("triton_final_response" in result.get_response().parameters) == (at == 3)
    client.stop_stream()


if __name__ == "__main__":
    http_address, grpc_address, key, *authority = sys.argv[1:]
    over_http = {"ssl": True, "ssl_options": {"ca_certs": authority[0]}} if authority else {}
    over_grpc = {"ssl": True, "root_certificates": authority[0]} if authority else {}
    check_http(http_address, {"authorization": f"Bearer {key}"}, **over_http)
    # The HTTP address speaks gRPC as well.
    for address in (grpc_address, http_address):
        check_grpc(address, {"authorization": f"Bearer {key}"}, **over_grpc)
