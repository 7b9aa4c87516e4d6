"""Asks a pipeline with tritonclient, given the HTTP and gRPC addresses, a key and a file of images and expected answers. It is a
program of its own, as `triton_script` is. Any failure ends it with a traceback. Not imported by tests."""

import sys

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

NAME = "digits-plain"


def inputs_of(module, images, **more):
    given = module.InferInput("image", list(images.shape), "FP32")
    given.set_data_from_numpy(images, **more)
    return [given]


def refusal(client, inputs, headers, **more):
    try:
        client.infer(NAME, inputs, headers=dict(headers), **more)
    except InferenceServerException as error:
        return error
    raise AssertionError("it was answered")


def check_answer(answer, expected):
    np.testing.assert_array_equal(answer.as_numpy("label"), expected["label"])
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected["probabilities"], rtol=1e-4, atol=1e-6)


def check_http(address, headers, images, expected):
    client = tritonclient.http.InferenceServerClient(address)
    assert client.is_model_ready(NAME, headers=dict(headers))
    told = client.get_model_metadata(NAME, headers=dict(headers))
    assert (told["platform"], told["versions"]) == ("ergonaut_pipeline", ["1"]), told
    assert told["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}], told
    index = {each["name"]: each for each in client.get_model_repository_index(headers=dict(headers))}
    assert (index[NAME]["version"], index[NAME]["state"]) == ("1", "READY"), index
    for is_binary in (True, False):
        inputs = inputs_of(tritonclient.http, images, binary_data=is_binary)
        outputs = [tritonclient.http.InferRequestedOutput(name, binary_data=is_binary) for name in expected]
        for version in ("", "1"):
            answer = client.infer(NAME, inputs, model_version=version, outputs=outputs, headers=dict(headers))
            check_answer(answer, expected)
            assert answer.get_response()["model_version"] == "1"
    statistics = client.get_inference_statistics(NAME, headers=dict(headers))["model_stats"][0]
    assert statistics["inference_stats"]["success"]["count"] == 4, statistics
    message = refusal(client, inputs_of(tritonclient.http, images[:, :3].copy()), headers).message()
    assert "inputs.image.shape: is" in message, message


def check_grpc(address, headers, images, expected):
    client = tritonclient.grpc.InferenceServerClient(address)
    assert client.is_model_ready(NAME, headers=dict(headers))
    told = client.get_model_metadata(NAME, headers=dict(headers))
    assert (told.platform, [each.name for each in told.outputs]) == ("ergonaut_pipeline", ["label", "probabilities"])
    assert client.get_model_config(NAME, headers=dict(headers)).config.platform == "ergonaut_pipeline"
    assert NAME in [each.name for each in client.get_model_repository_index(headers=dict(headers)).models]
    check_answer(client.infer(NAME, inputs_of(tritonclient.grpc, images), headers=dict(headers)), expected)
    error = refusal(client, inputs_of(tritonclient.grpc, images), headers, model_version="9")
    assert error.status() == "StatusCode.NOT_FOUND", error


def main():
    http, grpc, key, file = sys.argv[1:]
    held_out = np.load(file)
    expected = {name: held_out[name] for name in ("label", "probabilities")}
    headers = {"authorization": f"Bearer {key}"}
    check_http(http, headers, held_out["images"], expected)
    for address in (grpc, http):
        check_grpc(address, headers, held_out["images"], expected)


if __name__ == "__main__":
    main()
