"""Rows as requests of the Open Inference Protocol, and its answers as arrays. Used by `gateway`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ergonaut.api.inference.v1 import inference_pb2
from ergonaut.api.openinference.v2 import open_inference_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_orchestrator.domain.trials import Question

REQUEST_BYTES_MAX = 1024 * 1024
"""Of one request's rows: far below what gRPC carries, and a batch that delays nobody else's predictions for long."""

ROWS_MAX = 1024
"""Of one request, however small its rows are."""

DTYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
"""The datatypes that are numbers to numpy; a model that takes or gives another cannot be held against anything here."""


def batches_of(model: inference_pb2.Model, question: Question) -> Iterator[pb.ModelInferRequest]:
    """The requests that ask a version all rows. Raises Refused where the model does not take or give what is wanted."""
    taken, given = _input_of(model, question.input), _output_of(model, question.output)
    if taken.datatype not in DTYPES:
        raise Refused(f"input {taken.name} takes {taken.datatype}, which is no number", field="judging.input")
    rows = np.ascontiguousarray(question.rows, dtype=np.dtype(DTYPES[taken.datatype]).newbyteorder("<"))
    row_bytes = max(rows.nbytes // max(len(rows), 1), 1)
    count = max(min(REQUEST_BYTES_MAX // row_bytes, ROWS_MAX), 1)
    if taken.shape and taken.shape[0] > 0:
        # A model that was exported for batches of one size takes no other.
        count = taken.shape[0]
    for start in range(0, len(rows), count):
        batch = rows[start : start + count]
        request = pb.ModelInferRequest(model_name=model.name, model_version=str(model.version))
        request.inputs.add(name=taken.name, datatype=taken.datatype, shape=batch.shape)
        request.outputs.add(name=given.name)
        request.raw_input_contents.append(batch.tobytes())
        yield request


def answer_of(answer: pb.ModelInferResponse, output: str) -> NDArray[Any]:
    """The output of an answer as an array. Raises Refused where it is no number."""
    for place, tensor in enumerate(answer.outputs):
        if tensor.name != output:
            continue
        if tensor.datatype not in DTYPES:
            raise Refused(f"output {output} gives {tensor.datatype}, which is no number", field="judging.output")
        if answer.raw_output_contents:
            dtype = np.dtype(DTYPES[tensor.datatype]).newbyteorder("<")
            flat: NDArray[Any] = np.frombuffer(answer.raw_output_contents[place], dtype=dtype)
        else:
            flat = np.array(_typed(tensor.contents))
        return flat.reshape(list(tensor.shape))
    raise Refused(f"the model gives no output {output}", field="judging.output")


def _typed(contents: pb.InferTensorContents) -> list[Any]:
    """The numbers of an answer that came without raw contents."""
    return [*next((values for field, values in contents.ListFields() if field.name != "bytes_contents"), [])]


def _input_of(model: inference_pb2.Model, name: str) -> inference_pb2.TensorSpec:
    if not name and len(model.inputs) != 1:
        names = ", ".join(each.name for each in model.inputs)
        raise Refused(f"the model takes {names}; say which takes x", field="judging.input")
    return _named(model.inputs, name, "input")


def _output_of(model: inference_pb2.Model, name: str) -> inference_pb2.TensorSpec:
    return _named(model.outputs, name, "output")


def _named(tensors: Any, name: str, side: str) -> inference_pb2.TensorSpec:
    found = next((each for each in tensors if name in {"", each.name}), None)
    if found is None:
        names = ", ".join(each.name for each in tensors)
        raise Refused(f"the model has no {side} {name}; it has {names}", field=f"judging.{side}")
    return found  # type: ignore[no-any-return]
