"""onnxruntime behind the ports `ModelLoader` and `Runner`."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ergonaut.errors import Refused, Unavailable
from ergonaut.openapi import CLASSES, FEATURES
from ergonaut_common.observe import get_logger
from ergonaut_gateway.adapters import bf16
from ergonaut_gateway.adapters.probes import Probe, is_steady
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.models import Signature, TensorSpec
from ergonaut_gateway.domain.tensors import BF16, BYTES, Tensor, object_array
from ergonaut_gateway.ports import Stop

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

log = get_logger(__name__)


NOTE_CHARACTERS_MAX = 1 << 20
"""A list of names that is longer is not read."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """How models are run: on what, the preferred first, and with how many threads within one run."""

    providers: tuple[str, ...] = ("cpu",)
    intra_op_threads: int = 1


class OnnxLoader:
    """Fills `ModelLoader`."""

    def __init__(self, sessions: Sessions | None = None) -> None:
        self._sessions = sessions or Sessions()
        self._providers = _providers(self._sessions.providers)

    async def load(self, path: Path) -> "OnnxRunner":
        return await asyncio.to_thread(self._load, path)

    def _load(self, path: Path) -> "OnnxRunner":
        session = _session(path, self._providers, self._sessions.intra_op_threads)
        try:
            signature = Signature(_specs(session.get_inputs(), "input"), _specs(session.get_outputs(), "output"))
        except UnicodeDecodeError as error:
            raise Refused("is not an ONNX model: a name in it is no UTF-8 text", field="chunk") from error
        runner = OnnxRunner(session, signature, steady=is_steady(path), threads=self._sessions.intra_op_threads)
        runner.try_out()
        return runner


class OnnxRunner:
    """Fills `Runner`."""

    def __init__(self, session: Any, signature: Signature, *, steady: bool, threads: int = 1) -> None:
        self._session = session
        self._signature = signature
        providers = tuple(session.get_providers())
        accelerated = providers[:1] != (PROVIDERS["cpu"],)
        self._traits = Traits(
            steady=steady, providers=providers, threads=threads, accelerated=accelerated, notes=_notes(session)
        )
        self._texts = tuple(spec.name for spec in signature.inputs if spec.datatype == BYTES)
        has_bf16 = any(spec.datatype == BF16 for spec in (*signature.inputs, *signature.outputs))
        self._run = partial(bf16.run, session) if has_bf16 else session.run
        self._gives_texts = any(spec.datatype == BYTES for spec in signature.outputs)

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def traits(self) -> Traits:
        return self._traits

    def stop(self) -> Stop:
        options: Stop = onnxruntime.RunOptions()
        return options

    def compute(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], stop: Stop | None) -> dict[str, Tensor]:
        feed = inputs
        if self._texts:
            feed = {**inputs, **{name: _to_onnx(inputs[name], name) for name in self._texts}}
        try:
            results = self._run(outputs, feed, stop)
        except Exception as error:
            if stop is not None and stop.terminate:
                raise Unavailable("the run was stopped") from error
            # The inputs fit the signature, so this is a mismatch that only the graph knows, such as two axes that must agree.
            raise Refused(f"the model cannot compute this: {_first_line(error)}", field="inputs") from error
        if self._gives_texts:
            results = [_from_onnx(result) for result in results]
        return dict(zip(outputs, results, strict=True))

    def try_out(self) -> None:
        """Warm the model up, and find out what it is like."""
        stop = self.stop()
        probe = Probe(
            self._signature,
            lambda inputs, outputs: self.compute(inputs, outputs, stop),
            lambda: setattr(stop, "terminate", True),
            rows_agree=_rows_agree(self._session),
        ).run()
        self._traits = replace(
            self._traits,
            joinable=probe.joinable,
            # Where not even generated inputs can be computed, or rows are no rows, nothing is known of what drives the time.
            steady=self._traits.steady and bool(probe.runs),
            first_runs=tuple(probe.runs),
        )


def _providers(wanted: Sequence[str]) -> list[str]:
    """onnxruntime's names of what is wanted and there; the CPU is always the last resort."""
    available = onnxruntime.get_available_providers()
    chosen = [PROVIDERS[name] for name in wanted if PROVIDERS[name] in available]
    missing = [name for name in wanted if PROVIDERS[name] not in available]
    if missing:
        log.warning("execution providers missing", missing=missing, available=available, used=chosen or ["cpu"])
    return chosen if PROVIDERS["cpu"] in chosen else [*chosen, PROVIDERS["cpu"]]


def _session(path: Path, providers: Sequence[str], intra_op_threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = QUIET
    # The arena and its plans keep the memory of the largest batch for ever, and save nothing measurable for small models.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:
        # onnxruntime raises a dozen unrelated types here; whichever it is, the file is at fault.
        raise Refused(f"is not an ONNX model: {_first_line(error)}", field="chunk") from error


def _notes(session: Any) -> tuple[tuple[str, str], ...]:
    """What the file says of itself that doors tell people."""
    try:
        told = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError:
        # Some entry is no text; nothing else of the model hangs on these.
        return ()
    return tuple(
        (key, told[key]) for key in (FEATURES, CLASSES) if len(told.get(key, "")) in range(1, NOTE_CHARACTERS_MAX)
    )


def _rows_agree(session: Any) -> bool:
    """Whether no two first axes have different names, which would say that their lengths are unrelated."""
    names = {argument.shape[0] for argument in (*session.get_inputs(), *session.get_outputs()) if argument.shape}
    return len({name for name in names if isinstance(name, str)}) <= 1


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


def _to_onnx(tensor: Tensor, name: str) -> Tensor:
    if tensor.dtype != object:
        return tensor
    texts = np.empty(tensor.size, dtype=object)
    try:
        texts[:] = [element.decode() for element in tensor.reshape(-1)]
    except UnicodeDecodeError as error:
        raise Refused(f"is not UTF-8 text: {error}", field=f"inputs.{name}") from error
    return texts.reshape(tensor.shape)


def _from_onnx(result: Any) -> Tensor:
    tensor = np.asarray(result)
    if tensor.dtype != object:
        return tensor
    return object_array([element.encode() for element in tensor.reshape(-1)]).reshape(tensor.shape)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
