"""Requests that go on to another gateway and what comes back, in the messages of the Open Inference Protocol."""

from collections.abc import Mapping
from typing import Any

from ergonaut.api.openinference.v2 import open_inference_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_gateway.domain.inference import InferenceAnswer
from ergonaut_gateway.domain.peers import Errand, PeerAway
from ergonaut_gateway.domain.tensors import Tensor, datatype_of, from_raw, to_raw
from ergonaut_gateway.protocol.grpc_wire import parameter_value


def encode_request(errand: Errand) -> pb.ModelInferRequest:
    """Write a request, its tensors raw, so that not a bit of them changes."""
    asked = errand.request
    request = pb.ModelInferRequest(id=asked.id, model_name=errand.model, model_version=str(errand.version))
    for name, tensor in asked.inputs.items():
        request.inputs.add(name=name, datatype=datatype_of(tensor), shape=tensor.shape)
        request.raw_input_contents.append(to_raw(tensor))
    for name in asked.outputs:
        request.outputs.add(name=name)
    if not asked.inputs:
        # Answers are raw as requests are, and this one does not show it.
        request.parameters["binary_data_output"].bool_param = True
    if errand.priority:
        request.parameters["priority"].int64_param = errand.priority
    return request


def told_by(response: pb.ModelInferResponse) -> Mapping[str, Any]:
    """What an answer tells of what it used, as `tell` wrote it."""
    return {name: parameter_value(parameter) for name, parameter in response.parameters.items()}


def decode_answer(response: pb.ModelInferResponse, errand: Errand) -> InferenceAnswer:
    """Read an answer. Raises PeerAway where it is none to this request."""
    raw, outputs = response.raw_output_contents, response.outputs
    if response.model_version != str(errand.version) or len(raw) != len(outputs):
        raise PeerAway(f"the answer is of version {response.model_version or 'none'} and not as it was asked for")
    try:
        tensors: dict[str, Tensor] = {
            output.name: from_raw(content, output.datatype, output.shape, field=f"outputs.{output.name}")
            for content, output in zip(raw, outputs, strict=True)
        }
    except Refused as error:
        raise PeerAway(f"the answer cannot be read: {error}") from error
    return InferenceAnswer(errand.request.id, errand.model, errand.version, tensors)
