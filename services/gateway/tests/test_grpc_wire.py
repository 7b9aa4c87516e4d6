"""Messages over gRPC: every tensor survives raw and typed contents, and what does not add up is refused by name."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.api.openinference.v2 import open_inference_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_gateway.domain.inference import InferenceAnswer
from ergonaut_gateway.domain.tensors import Tensor, datatype_of, from_raw, to_raw
from ergonaut_gateway.protocol.grpc_wire import CONTENTS, GrpcTerms, decode_request, encode_answer

from .drawn_tensors import same, tensors


def as_request(response: pb.ModelInferResponse) -> pb.ModelInferRequest:
    """The same tensors going the other way."""
    request = pb.ModelInferRequest(id=response.id, raw_input_contents=response.raw_output_contents)
    for output in response.outputs:
        request.inputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        if not response.raw_output_contents:
            request.inputs[-1].contents.CopyFrom(output.contents)
    return request


@given(st.lists(tensors(), min_size=1, max_size=3))
def test_raw_tensors_arrive_as_they_were_and_are_answered_raw(sent: list[Tensor]) -> None:
    outputs = {f"t{at}": tensor for at, tensor in enumerate(sent)}
    message = as_request(encode_answer(InferenceAnswer("7", "m", 1, outputs), raw=True))
    request, terms = decode_request(pb.ModelInferRequest.FromString(message.SerializeToString()))
    assert (request.id, terms.raw, list(request.inputs)) == ("7", True, list(outputs))
    assert all(same(got, tensor) for got, tensor in zip(request.inputs.values(), sent, strict=True))


@given(st.lists(tensors(sorted(CONTENTS)), min_size=1, max_size=3))
def test_typed_tensors_arrive_as_they_were_and_are_answered_typed(sent: list[Tensor]) -> None:
    outputs = {f"t{at}": tensor for at, tensor in enumerate(sent)}
    message = as_request(encode_answer(InferenceAnswer("", "m", 1, outputs), raw=False))
    request, terms = decode_request(pb.ModelInferRequest.FromString(message.SerializeToString()))
    assert (terms.raw, list(request.inputs)) == (False, list(outputs))
    assert all(same(got, tensor) for got, tensor in zip(request.inputs.values(), sent, strict=True))


def test_an_answer_with_a_half_precision_output_is_raw_since_there_is_no_typed_form() -> None:
    outputs = {"h": np.ones(2, dtype="<f2"), "i": np.ones(1, dtype="<i8")}
    response = encode_answer(InferenceAnswer("", "m", 1, outputs), raw=False)
    assert list(response.raw_output_contents) == [to_raw(outputs["h"]), to_raw(outputs["i"])]


def test_a_typed_request_can_ask_for_a_raw_answer() -> None:
    request = pb.ModelInferRequest()
    request.parameters["binary_data_output"].bool_param = True
    assert decode_request(request)[1].raw


def test_parameters_ask_for_priority_and_for_an_answer_in_time() -> None:
    request = pb.ModelInferRequest()
    request.parameters["priority"].uint64_param = 2
    request.parameters["timeout"].int64_param = 250_000
    request.parameters["of_no_meaning"].string_param = "x"
    assert decode_request(request)[1] == GrpcTerms(raw=False, priority=2, timeout_seconds=0.25)
    request.parameters["sequence_id"].int64_param = 7
    with pytest.raises(Refused, match=r"parameters\.sequence_id: is not supported"):
        decode_request(request)


@given(
    st.sampled_from(["FP32", "BOOL", "BYTES", "FP16", "INT8", "", "X"]),
    st.lists(st.integers(-2, 4), max_size=3),
    st.lists(st.binary(max_size=9), max_size=2),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
)
def test_no_message_does_more_than_be_refused(
    datatype: str, shape: list[int], raw: list[bytes], elements: list[int]
) -> None:
    request = pb.ModelInferRequest(raw_input_contents=raw)
    request.inputs.add(name="x", datatype=datatype, shape=shape).contents.int_contents.extend(elements)
    try:
        decoded, _ = decode_request(request)
    except Refused:
        return
    assert datatype_of(decoded.inputs["x"]) == datatype


def _with(raw: list[bytes] | None = None, **inputs: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(raw_input_contents=raw or [])
    for name, (datatype, shape, contents) in inputs.items():
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        if contents is not None:
            request.inputs[-1].contents.CopyFrom(pb.InferTensorContents(**contents))
    return request


@pytest.mark.parametrize(
    ("request_message", "message"),
    [
        (_with([b""], x=("FP32", [0], None), w=("FP32", [0], None)), "raw_input_contents: has 1 entries for 2 inputs"),
        (
            _with([b""], x=("FP32", [0], {"fp32_contents": [1]})),
            "inputs.x.contents: must be absent where raw_input_contents is used",
        ),
        (
            _with(x=("FP32", [2], {"int_contents": [1, 2]})),
            "inputs.x.contents.fp32_contents: 0 elements were given, the shape [2] has 2",
        ),
        (_with(x=("UINT8", [1], {"uint_contents": [300]})), "inputs.x.contents.uint_contents: is not UINT8: Python"),
        (_with(x=("FP16", [1], None)), "inputs.x.datatype: has no typed contents; send it in raw_input_contents"),
        (_with([b"abc"], x=("FP32", [1], None)), "inputs.x: 3 bytes were given, FP32 of shape [1] has 4"),
    ],
)
def test_a_wrong_message_is_refused_with_the_field(request_message: pb.ModelInferRequest, message: str) -> None:
    with pytest.raises(Refused) as refused:
        decode_request(request_message)
    assert str(refused.value).startswith(message)


def test_an_input_given_twice_is_refused() -> None:
    request = _with(x=("FP32", [1], {"fp32_contents": [1]}))
    request.inputs.append(request.inputs[0])
    with pytest.raises(Refused, match=r"^inputs\.x: is given twice$"):
        decode_request(request)


def test_the_raw_form_is_that_of_the_other_wire() -> None:
    tensor = from_raw(b"\2\0\0\0ab", "BYTES", [1], field="x")
    assert encode_answer(InferenceAnswer("", "m", 1, {"y": tensor}), raw=True).raw_output_contents == [b"\2\0\0\0ab"]
