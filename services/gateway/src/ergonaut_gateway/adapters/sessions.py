"""Sessions of onnxruntime: how a file becomes one, what it takes and gives in the protocol's words, how texts pass.

Nothing here needs more than numpy and onnxruntime, since a program that tries a file imports it at each deployment.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ergonaut.errors import Refused
from ergonaut_gateway.domain.models import Signature, TensorSpec
from ergonaut_gateway.domain.tensors import BF16, BYTES, Tensor, object_array

DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": BF16,
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": BYTES,
}
"""onnxruntime's names of types, and the protocol's."""

QUIET = 4
"""onnxruntime's log level for fatal errors only; all others come as exceptions, and are told to the caller."""


PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""What a model may run on, as settings and as onnxruntime name it."""


class Arena:
    """One heap for the runs of all models that may ask for any amount, with a bound on all of it. Weights are not in it, and it
    keeps nothing between runs. onnxruntime has one a process."""

    _made = threading.Lock()
    bytes_max = 0
    """Of the process's; 0 until it is made."""

    @classmethod
    def make(cls, bytes_max: int) -> None:
        """Make it, where there is none yet."""
        with cls._made:
            if not cls.bytes_max:
                kind, memory = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
                info = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, memory)
                # Each time by as much as is asked for: with doubled steps half of the bound could lie idle.
                wish = {"max_mem": bytes_max, "arena_extend_strategy": 1}
                onnxruntime.create_and_register_allocator(info, onnxruntime.OrtArenaCfg(wish))
                cls.bytes_max = bytes_max

    @staticmethod
    def run_options() -> Any:
        """Options of a run after which the heap gives back what is free."""
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options


def opened(path: Path, providers: Sequence[str], intra_op_threads: int, *, in_arena: bool = False) -> Any:
    """A session of a file, whose runs may be held to the memory of `Arena`. Raises Refused where it cannot be loaded."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = QUIET
    # The arena and its plans keep the memory of the largest batch for ever, and save nothing measurable for small models.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    if in_arena:
        options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:
        # onnxruntime raises a dozen unrelated types here; whichever it is, the file is at fault.
        raise Refused(f"is not an ONNX model: {first_line(error)}", field="chunk") from error


def signature_of(session: Any) -> Signature:
    """What a session takes and gives. Raises Refused where that is no tensor that the protocol has."""
    try:
        return Signature(_specs(session.get_inputs(), "input"), _specs(session.get_outputs(), "output"))
    except UnicodeDecodeError as error:
        raise Refused("is not an ONNX model: a name in it is no UTF-8 text", field="chunk") from error


def _specs(arguments: Sequence[Any], role: str) -> tuple[TensorSpec, ...]:
    return tuple(_spec(argument, role) for argument in arguments)


def _spec(argument: Any, role: str) -> TensorSpec:
    datatype = DATATYPES.get(argument.type)
    if datatype is None:
        advice = "; for scikit-learn, convert with the option zipmap=False" if argument.type.startswith("seq(") else ""
        raise Refused(
            f"the model's {role} {argument.name} is {argument.type}, "
            f"only tensors of {', '.join(DATATYPES.values())} can be served{advice}",
            field="chunk",
        )
    # A named or unknown axis is the caller's to choose.
    shape = tuple(length if isinstance(length, int) and length >= 0 else -1 for length in argument.shape)
    return TensorSpec(argument.name, datatype, shape)


def to_onnx(tensor: Tensor, name: str) -> Tensor:
    """A tensor as onnxruntime takes it: texts as such. Raises Refused, with the input's name, where bytes are no UTF-8."""
    if tensor.dtype != object:
        return tensor
    texts = np.empty(tensor.size, dtype=object)
    try:
        texts[:] = [element.decode() for element in tensor.reshape(-1)]
    except UnicodeDecodeError as error:
        raise Refused(f"is not UTF-8 text: {error}", field=f"inputs.{name}") from error
    return texts.reshape(tensor.shape)


def from_onnx(result: Any) -> Tensor:
    """What onnxruntime gives as the protocol has it: texts as bytes."""
    tensor = np.asarray(result)
    if tensor.dtype != object:
        return tensor
    return object_array([element.encode() for element in tensor.reshape(-1)]).reshape(tensor.shape)


def first_line(error: Exception) -> str:
    """An error of onnxruntime in short: it adds its innards below."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
