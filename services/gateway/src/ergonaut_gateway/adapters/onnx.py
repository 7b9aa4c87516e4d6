"""onnxruntime behind the ports `ModelLoader` and `Runner`: sessions of one thread each, in a small pool with a bounded queue."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ergonaut.errors import Refused, Unavailable
from ergonaut_gateway.domain.models import Signature, TensorSpec
from ergonaut_gateway.domain.tensors import BYTES, Tensor, object_array

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
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": BYTES,
}
"""onnxruntime's names of types, and the protocol's."""

QUIET = 4
"""onnxruntime's log level for fatal errors only; all others come as exceptions, and are told to the caller."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How much runs and waits at once."""

    threads: int
    waiting: int
    run_timeout_seconds: float


class RunPool:
    """Threads for all models together; refuses work at once where too much waits already."""

    def __init__(self, limits: PoolLimits) -> None:
        self.limits = limits
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="onnx")
        self._taken = 0
        self._running: set[Any] = set()

    async def run(self, session: Any, names: Sequence[str], feed: Mapping[str, Any]) -> list[Any]:
        """Run a session off the event loop. Raises Unavailable where too many wait or it takes too long."""
        if self._taken >= self.limits.threads + self.limits.waiting:
            raise Unavailable(f"{self._taken} requests are at work or waiting, which is the most; ask again")
        options = onnxruntime.RunOptions()
        self._taken += 1
        self._running.add(options)
        work = asyncio.get_running_loop().run_in_executor(self._threads, session.run, names, feed, options)
        work.add_done_callback(self._given_back)
        try:
            async with asyncio.timeout(self.limits.run_timeout_seconds):
                # Shielded, so that the place in the queue is held until the thread is free and not only until we look away.
                results: list[Any] = await asyncio.shield(work)
                return results
        except TimeoutError as error:
            raise Unavailable(f"the model took longer than {self.limits.run_timeout_seconds:g} s") from error
        finally:
            options.terminate = True
            self._running.discard(options)

    def close(self) -> None:
        """Take no more work, drop what waits and stop what runs."""
        for options in self._running:
            options.terminate = True
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _given_back(self, work: "asyncio.Future[Any]") -> None:
        self._taken -= 1
        if not work.cancelled():
            # Marks the error as seen where nobody waits any more.
            work.exception()


class OnnxLoader:
    """Fills `ModelLoader`."""

    def __init__(self, pool: RunPool) -> None:
        self._pool = pool

    async def load(self, path: Path) -> "OnnxRunner":
        session = await asyncio.to_thread(_session, path)
        signature = Signature(_specs(session.get_inputs(), "input"), _specs(session.get_outputs(), "output"))
        return OnnxRunner(session, signature, self._pool)


class OnnxRunner:
    """Fills `Runner`."""

    def __init__(self, session: Any, signature: Signature, pool: RunPool) -> None:
        self._session = session
        self._signature = signature
        self._pool = pool

    @property
    def signature(self) -> Signature:
        return self._signature

    async def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
        feed = {name: _to_onnx(tensor, name) for name, tensor in inputs.items()}
        try:
            results = await self._pool.run(self._session, list(outputs), feed)
        except (Unavailable, asyncio.CancelledError):
            raise
        except Exception as error:
            # The inputs fit the signature, so this is a mismatch that only the graph knows, such as two axes that must agree.
            raise Refused(f"the model cannot compute this: {_first_line(error)}", field="inputs") from error
        return {name: _from_onnx(result) for name, result in zip(outputs, results, strict=True)}


@contextlib.contextmanager
def run_pool(limits: PoolLimits) -> Iterator[RunPool]:
    """A pool that is closed when the block ends."""
    pool = RunPool(limits)
    try:
        yield pool
    finally:
        pool.close()


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = QUIET
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime raises a dozen unrelated types here; whichever it is, the file is at fault.
        raise Refused(f"is not an ONNX model: {_first_line(error)}", field="chunk") from error


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
