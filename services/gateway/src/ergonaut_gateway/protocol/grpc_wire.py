"""Messages of the Open Inference Protocol over gRPC, between protobuf and `domain`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ergonaut.api.openinference.v2 import open_inference_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.tensors import (
    BYTES,
    Tensor,
    check_texts,
    datatype_of,
    dtype_of,
    from_raw,
    object_array,
    shaped,
    to_raw,
)
from ergonaut_gateway.protocol.bounds import (
    ID_CHARACTERS_MAX,
    NAME_CHARACTERS_MAX,
    PARAMETERS_MAX,
    TENSORS_MAX,
    check_count,
    check_length,
)
from ergonaut_gateway.protocol.parameters import asked, refuse_unsupported

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""Which list of `InferTensorContents` holds which datatype; FP16 has none and travels raw only."""


TELLS_LAST = "triton_enable_empty_final_response"
IS_LAST = "triton_final_response"
"""Parameters of Triton's streams: with the first a caller wants to be told by the second which answer is a request's last."""


@dataclass(frozen=True, slots=True)
class GrpcTerms:
    """How the caller wants its answer: as raw contents, how soon, and whether it is told that an answer is the last."""

    raw: bool
    priority: int = 0
    timeout_seconds: float | None = None
    tells_last: bool = False
    parameters: Mapping[str, Any] | None = field(default=None, compare=False)
    """All that the request has, for plans that choose by them; of no meaning for the terms themselves."""
    energy: bool = False
    """Whether the answer shall tell what it used."""


RAW, TYPED = GrpcTerms(raw=True), GrpcTerms(raw=False)
"""What nearly all callers want."""


def decode_request(request: pb.ModelInferRequest) -> tuple[InferenceRequest, GrpcTerms]:
    """Read a request. Raises Refused, naming the field that is wrong."""
    raw = request.raw_input_contents
    check_length(request.id, ID_CHARACTERS_MAX, field="id")
    check_count(len(request.inputs), TENSORS_MAX, field="inputs")
    if raw and len(raw) != len(request.inputs):
        raise Refused(f"has {len(raw)} entries for {len(request.inputs)} inputs", field="raw_input_contents")
    inputs: dict[str, Tensor] = {}
    for at, given in enumerate(request.inputs):
        name = given.name
        if len(name) > NAME_CHARACTERS_MAX:
            check_length(name, NAME_CHARACTERS_MAX, field=f"inputs[{at}].name")
        field = f"inputs.{name}"
        if name in inputs:
            raise Refused("is given twice", field=field)
        if raw and given.HasField("contents"):
            raise Refused("must be absent where raw_input_contents is used", field=f"{field}.contents")
        if given.parameters:
            refuse_unsupported(given.parameters, field=field)
        inputs[name] = (
            from_raw(raw[at], given.datatype, given.shape, field=field) if raw else _typed(given, field=field)
        )
    outputs = _outputs(request) if request.outputs else ()
    terms = _terms(request, bool(raw)) if request.parameters else RAW if raw else TYPED
    return InferenceRequest(request.id, inputs, outputs), terms


def parameter_value(parameter: pb.InferParameter) -> object:
    """What a parameter holds, None where it holds nothing."""
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind is not None else None


def _outputs(request: pb.ModelInferRequest) -> tuple[str, ...]:
    check_count(len(request.outputs), TENSORS_MAX, field="outputs")
    for at, output in enumerate(request.outputs):
        check_length(output.name, NAME_CHARACTERS_MAX, field=f"outputs[{at}].name")
    for output in request.outputs:
        if output.parameters:
            refuse_unsupported(output.parameters, field=f"outputs.{output.name}")
    outputs = tuple(output.name for output in request.outputs)
    if len(set(outputs)) != len(outputs):
        raise Refused("an output is named twice", field="outputs")
    return outputs


def _terms(request: pb.ModelInferRequest, raw: bool) -> GrpcTerms:
    check_count(len(request.parameters), PARAMETERS_MAX, field="parameters")
    parameters = {name: parameter_value(parameter) for name, parameter in request.parameters.items()}
    wish = asked(parameters)
    tells_last = parameters.get(TELLS_LAST) is True
    return GrpcTerms(raw or wish.binary, wish.priority, wish.timeout_seconds, tells_last, parameters, wish.energy)


def tell(response: pb.ModelInferResponse, parameters: Mapping[str, Any]) -> None:
    """Put numbers and words among a response's parameters."""
    for name, value in parameters.items():
        if isinstance(value, str):
            response.parameters[name].string_param = value
        else:
            response.parameters[name].double_param = value


def encode_answer(answer: InferenceAnswer, *, raw: bool) -> pb.ModelInferResponse:
    """Write an answer; a raw one also where an output has no typed form."""
    response = pb.ModelInferResponse(id=answer.id, model_name=answer.model, model_version=str(answer.version))
    raw = raw or any(datatype_of(tensor) not in CONTENTS for tensor in answer.outputs.values())
    for name, tensor in answer.outputs.items():
        datatype = datatype_of(tensor)
        output = response.outputs.add(name=name, datatype=datatype, shape=tensor.shape)
        if raw:
            response.raw_output_contents.append(to_raw(tensor))
        else:
            getattr(output.contents, CONTENTS[datatype]).extend(tensor.reshape(-1).tolist())
    return response


def _typed(given: Any, *, field: str) -> Tensor:
    dtype = dtype_of(given.datatype, field=field)
    held_by = CONTENTS.get(given.datatype)
    if held_by is None:
        raise Refused("has no typed contents; send it in raw_input_contents", field=f"{field}.datatype")
    field = f"{field}.contents.{held_by}"
    elements: Sequence[Any] = getattr(given.contents, held_by)
    if given.datatype == BYTES:
        check_texts(len(elements), field=field)
    try:
        flat = object_array(list(elements)) if given.datatype == BYTES else np.array(elements, dtype=dtype)
    except OverflowError as error:
        raise Refused(f"is not {given.datatype}: {error}", field=field) from error
    return shaped(flat, given.shape, field=field)
