"""What is small on the wire and large in memory is refused by one clear error, over HTTP as over gRPC, whatever the door."""

import json
from typing import Any

import numpy as np
import pytest

from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut.errors import Refused
from ergonaut_gateway.domain import tensors
from ergonaut_gateway.protocol import bounds, grpc_wire, http_wire
from ergonaut_gateway.protocol.bounds import (
    ID_CHARACTERS_MAX,
    NAME_CHARACTERS_MAX,
    PARAMETERS_MAX,
    TENSORS_MAX,
)


def of_http(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]} | changes


def of_grpc(**changes: Any) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(**changes)
    if not request.inputs:
        request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1.0)
    return request


def many_inputs(count: int) -> list[dict[str, Any]]:
    return [{"name": f"x{at}", "datatype": "FP32", "shape": [0], "data": []} for at in range(count)]


HTTP = {
    "id": (of_http(id="i" * (ID_CHARACTERS_MAX + 1)), "id"),
    "inputs": (of_http(inputs=many_inputs(TENSORS_MAX + 1)), "inputs"),
    "outputs": (of_http(outputs=[{"name": f"y{at}"} for at in range(TENSORS_MAX + 1)]), "outputs"),
    "input's name": (
        of_http(inputs=[{**many_inputs(1)[0], "name": "n" * 300}]),
        "inputs[0].name",
    ),
    "output's name": (of_http(outputs=[{"name": "n" * (NAME_CHARACTERS_MAX + 1)}]), "outputs[0].name"),
    "parameters": (of_http(parameters={f"p{at}": at for at in range(PARAMETERS_MAX + 1)}), "parameters"),
}


@pytest.mark.parametrize("what", HTTP)
def test_over_http_each_bound_has_an_error_that_names_its_field(what: str) -> None:
    document, field = HTTP[what]
    body = json.dumps(document).encode()
    for given in ((body, None), (body, str(len(body)))):
        with pytest.raises(Refused) as refused:
            http_wire.decode_request(*given)
        assert refused.value.field == field
        assert len(str(refused.value)) < 200


GRPC = {
    "id": (of_grpc(id="i" * (ID_CHARACTERS_MAX + 1)), "id"),
    "inputs": (of_grpc(inputs=[oip.ModelInferRequest.InferInputTensor(name="x")] * (TENSORS_MAX + 1)), "inputs"),
    "outputs": (
        of_grpc(outputs=[oip.ModelInferRequest.InferRequestedOutputTensor(name="y")] * (TENSORS_MAX + 1)),
        "outputs",
    ),
    "input's name": (of_grpc(inputs=[oip.ModelInferRequest.InferInputTensor(name="n" * 300)]), "inputs[0].name"),
    "output's name": (
        of_grpc(outputs=[oip.ModelInferRequest.InferRequestedOutputTensor(name="n" * 300)]),
        "outputs[0].name",
    ),
    "parameters": (
        of_grpc(parameters={f"p{at}": oip.InferParameter(int64_param=at) for at in range(PARAMETERS_MAX + 1)}),
        "parameters",
    ),
}


@pytest.mark.parametrize("what", GRPC)
def test_over_grpc_each_bound_has_the_same_error(what: str) -> None:
    request, field = GRPC[what]
    with pytest.raises(Refused) as refused:
        grpc_wire.decode_request(request)
    assert refused.value.field == field
    assert len(str(refused.value)) < 200


def test_what_just_fits_is_taken() -> None:
    document = of_http(
        id="i" * ID_CHARACTERS_MAX,
        inputs=[{**each, "name": each["name"].ljust(NAME_CHARACTERS_MAX, "n")} for each in many_inputs(TENSORS_MAX)],
    )
    wanted, _ = http_wire.decode_request(json.dumps(document).encode())

    assert len(wanted.inputs) == TENSORS_MAX


def test_more_numbers_than_memory_is_for_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "JSON_NUMBERS_MAX", 100)
    monkeypatch.setattr(bounds, "JSON_FREE_BYTES", 100)
    monkeypatch.setattr(http_wire, "JSON_FREE_BYTES", 100)
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [200], "data": [1.0] * 200}]}).encode()

    for given in ((body, None), (body, str(len(body)))):
        with pytest.raises(Refused, match="send binary tensors"):
            http_wire.decode_request(*given)


@pytest.mark.parametrize("way", ["raw", "typed"])
def test_texts_are_bounded_by_their_number_on_every_way_in(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(tensors, "TEXTS_MAX", 3)
    request = oip.ModelInferRequest()
    given = request.inputs.add(name="x", datatype="BYTES", shape=[4])
    if way == "raw":
        request.raw_input_contents.append(b"\0\0\0\0" * 4)
    else:
        given.contents.bytes_contents.extend([b""] * 4)

    with pytest.raises(Refused, match="at most 3 of BYTES"):
        grpc_wire.decode_request(request)


def test_no_more_texts_are_read_than_a_shape_has() -> None:
    with pytest.raises(Refused, match="more elements were given than the 2 of its shape"):
        tensors.from_raw(b"\0\0\0\0" * 100_000, "BYTES", [2], field="x")


@pytest.mark.parametrize("depth", [20, 1_000, 100_000])
def test_data_is_refused_however_deep_it_is_nested(depth: int) -> None:
    data = "[" * depth + "]" * depth
    body = f'{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [1], "data": {data}}}]}}'

    with pytest.raises(Refused) as refused:
        http_wire.decode_request(body.encode())
    assert len(str(refused.value)) < 300


def test_parameters_that_nobody_could_read_through_are_refused() -> None:
    body = f'{{"inputs": [], "parameters": {{"p": {"[" * 100_000 + "]" * 100_000}}}}}'

    with pytest.raises(Refused):
        http_wire.decode_request(body.encode())


def test_dimensions_are_bounded_on_every_way_in() -> None:
    shape = [1] * (tensors.RANK_MAX + 1)
    request = oip.ModelInferRequest()
    request.inputs.add(name="x", datatype="FP32", shape=shape)
    request.raw_input_contents.append(np.ones(1, "<f4").tobytes())
    document = {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": [1.0]}]}

    for read in (
        lambda: grpc_wire.decode_request(request),
        lambda: http_wire.decode_request(json.dumps(document).encode()),
    ):
        with pytest.raises(Refused, match="at most 16 are taken"):
            read()
