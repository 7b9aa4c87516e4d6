"""Runs of models with BF16 tensors. onnxruntime's numpy interface has no such type, so all tensors pass as values of its own."""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from ergonaut_gateway.domain.tensors import BF16, DTYPES, Tensor

_ONNX_BF16 = 16
"""`TensorProto.BFLOAT16`."""


def run(session: Any, outputs: Sequence[str], inputs: Mapping[str, Tensor], stop: Any) -> list[Tensor]:
    """As `InferenceSession.run`, with BF16."""
    values = {name: _value(tensor) for name, tensor in inputs.items()}
    return [_tensor(value) for value in session.run_with_ort_values(list(outputs), values, stop)]


def _value(tensor: Tensor) -> Any:
    if tensor.dtype != DTYPES[BF16]:
        return onnxruntime.OrtValue.ortvalue_from_numpy(tensor)
    bits = np.ascontiguousarray(tensor).view("<u2")
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _ONNX_BF16)


def _tensor(value: Any) -> Tensor:
    if value.element_type() != _ONNX_BF16:
        return np.asarray(value.numpy())
    # The memory is the value's own, so it is copied while the value lives.
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(raw, dtype=DTYPES[BF16]).reshape(value.shape())
