"""Messages of the Open Inference Protocol over gRPC, between protobuf and `domain`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ergonaut.api.openinference.v2 import open_inference_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.tensors import (
    BYTES,
    Tensor,
    datatype_of,
    dtype_of,
    from_raw,
    object_array,
    shaped,
    to_raw,
)

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


def decode_request(request: pb.ModelInferRequest) -> tuple[InferenceRequest, bool]:
    """Read a request, and whether the answer shall be raw. Raises Refused, naming the field that is wrong."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Refused(f"has {len(raw)} entries for {len(request.inputs)} inputs", field="raw_input_contents")
    inputs: dict[str, Tensor] = {}
    for at, given in enumerate(request.inputs):
        field = f"inputs.{given.name}"
        if given.name in inputs:
            raise Refused("is given twice", field=field)
        if raw and given.HasField("contents"):
            raise Refused("must be absent where raw_input_contents is used", field=f"{field}.contents")
        inputs[given.name] = (
            from_raw(raw[at], given.datatype, given.shape, field=field) if raw else _typed(given, field=field)
        )
    outputs = tuple(output.name for output in request.outputs)
    if len(set(outputs)) != len(outputs):
        raise Refused("an output is named twice", field="outputs")
    # Looking a message up in a protobuf map would put it there.
    asked_raw = "binary_data_output" in request.parameters and request.parameters["binary_data_output"].bool_param
    return InferenceRequest(request.id, inputs, outputs), bool(raw) or asked_raw


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
    try:
        flat = object_array(list(elements)) if given.datatype == BYTES else np.array(elements, dtype=dtype)
    except OverflowError as error:
        raise Refused(f"is not {given.datatype}: {error}", field=field) from error
    return shaped(flat, given.shape, field=field)
