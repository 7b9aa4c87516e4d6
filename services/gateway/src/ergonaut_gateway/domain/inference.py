"""A request for a prediction, checked against what the model takes. Wire formats are in `protocol`."""

from collections.abc import Mapping

import msgspec

from ergonaut.errors import Refused, Unavailable
from ergonaut_gateway.domain.energy import Meter
from ergonaut_gateway.domain.models import Signature, TensorSpec
from ergonaut_gateway.domain.tensors import DTYPES, Tensor, datatype_of

# Structs, since one of each is made for every request: a frozen dataclass takes 0.4 us to make, these take a tenth of that.


class InferenceRequest(msgspec.Struct, frozen=True):
    """What somebody wants predicted; no outputs named means all."""

    id: str
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...] = ()
    meter: Meter | None = None
    """Counts what the request uses, where somebody asked for that."""


class InferenceAnswer(msgspec.Struct, frozen=True):
    """What a version of a model predicted, in the order in which it was asked for."""

    id: str
    model: str
    version: int
    outputs: Mapping[str, Tensor]


class Busy(Unavailable):
    """Too much waits already; `retry_after_seconds` is when there should be room again."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceeded(Unavailable):
    """The request's own deadline passed before its turn came."""


def check_inputs(inputs: Mapping[str, Tensor], signature: Signature) -> None:
    """Raise Refused, naming the tensor, unless these are exactly the inputs that the model takes."""
    specs = {spec.name: spec for spec in signature.inputs}
    for name in inputs:
        if name not in specs:
            raise Refused(f"the model has no such input; it takes {', '.join(specs)}", field=f"inputs.{name}")
    for name, spec in specs.items():
        if name not in inputs:
            raise Refused(f"is missing; the model takes {', '.join(specs)}", field=f"inputs.{name}")
        _check_tensor(inputs[name], spec)


class Fit:
    """What fits a signature, worked out once, so that the many requests that fit cost next to nothing to check."""

    def __init__(self, signature: Signature) -> None:
        self.all_outputs = tuple(spec.name for spec in signature.outputs)
        self._signature = signature
        self._count = len(signature.inputs)
        self._plan = [
            (spec.name, DTYPES[spec.datatype], len(spec.shape), [(i, n) for i, n in enumerate(spec.shape) if n != -1])
            for spec in signature.inputs
        ]

    def outputs(self, request: InferenceRequest) -> tuple[str, ...]:
        """The outputs to compute. Raises Refused for a request that does not fit."""
        inputs = request.inputs
        fits = len(inputs) == self._count
        for name, dtype, rank, lengths in self._plan:
            tensor = inputs.get(name)
            if tensor is None or tensor.dtype != dtype or tensor.ndim != rank:
                fits = False
                break
            shape = tensor.shape
            for axis, length in lengths:
                fits = fits and shape[axis] == length
        if not fits:
            check_inputs(inputs, self._signature)
        return outputs_wanted(request, self._signature) if request.outputs else self.all_outputs


def outputs_wanted(request: InferenceRequest, signature: Signature) -> tuple[str, ...]:
    """The outputs to compute. Raises Refused for one that the model does not give."""
    given = tuple(spec.name for spec in signature.outputs)
    for name in request.outputs:
        if name not in given:
            raise Refused(f"the model has no such output; it gives {', '.join(given)}", field=f"outputs.{name}")
    return request.outputs or given


def row_count(request: InferenceRequest, signature: Signature) -> int:
    """How many predictions a request asks for: the length of the batch axis, or one where the model has none."""
    first = signature.inputs[0] if signature.inputs else None
    if first is None or not first.shape or first.shape[0] != -1:
        return 1
    return int(request.inputs[first.name].shape[0])


def _check_tensor(tensor: Tensor, spec: TensorSpec) -> None:
    datatype = datatype_of(tensor)
    if datatype != spec.datatype:
        raise Refused(f"is {datatype}, the model takes {spec.datatype}", field=f"inputs.{spec.name}.datatype")
    fits = len(tensor.shape) == len(spec.shape) and all(
        wanted in (-1, length) for length, wanted in zip(tensor.shape, spec.shape, strict=True)
    )
    if not fits:
        raise Refused(
            f"is {list(tensor.shape)}, the model takes {list(spec.shape)} (-1 is any length)",
            field=f"inputs.{spec.name}.shape",
        )
