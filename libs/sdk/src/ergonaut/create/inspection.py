"""What an ONNX file is: its inputs and outputs, opsets, outside files, foreign operators. Reads only; runs nothing."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from ergonaut.create.tensors import Spec
from ergonaut.errors import NotFound, Refused

FILE_BYTES_MAX = (1 << 31) - 1
"""Protobuf's own bound on one message, and so on an ONNX file with its weights inside."""

SERVED_BYTES_MAX = 512 << 20
"""What the gateway takes unless ERGONAUT_GATEWAY_MODEL_BYTES_MAX is raised."""

OPSET_MIN = 7
"""onnxruntime promises nothing below it."""

DEPTH_MAX = 32
"""Graphs within graphs (loops, branches); real models are three deep."""

EXTERNAL_KEYS = ("location", "offset", "length", "checksum", "basepath")
"""What a model may tell of weights in another file."""

KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
"""Operators that onnxruntime itself brings."""

DATATYPE_OF: dict[int, str] = {
    TensorProto.BOOL: "BOOL",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}
"""ONNX's types of tensors that the gateway serves."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model takes and gives, and what stands in the way of serving it."""

    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    opsets: dict[str, int]
    producer: str
    maps: tuple[str, ...]
    """Outputs that are maps made by ZipMap, which can be dropped."""
    size_bytes: int
    notes: dict[str, str] = field(default_factory=dict)
    """What the file says of itself, by key."""

    @property
    def is_batch_fixed(self) -> bool:
        """Whether every input and output has a first axis of exactly 1, so that only one row can be asked at once."""
        return bool(self.inputs) and all(spec.axes[:1] == (1,) for spec in (*self.inputs, *self.outputs))

    @property
    def is_batch_free(self) -> bool:
        """Whether every input takes as many rows as a caller likes."""
        return bool(self.inputs) and all(spec.axes and not isinstance(spec.axes[0], int) for spec in self.inputs)


@contextmanager
def telling_damage() -> Iterator[None]:
    """Refuse a model within which a library stumbles: over a text that is none, a list that is too short."""
    try:
        yield
    except (UnicodeDecodeError, TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise Refused(f"the model is damaged: {error}; export it again") from error


@telling_damage()
def read_model(path: Path) -> ModelProto:
    """The model of a file, its outside weights taken in. Raises NotFound, Refused where it is none or reaches out."""
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise Refused(f"{path} is larger than 2 GiB; no ONNX file is, keep the weights in a file beside it")
        model = onnx.ModelProto.FromString(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}; give the path of a model") from error
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise Refused(f"{path} is no ONNX file: it does not decode; export the model again") from error
    if not model.graph.node or not model.opset_import:
        raise Refused(f"{path} is no ONNX model: it has no operators; export the model again")
    _take_in(model, path)
    return model


def _take_in(model: ModelProto, path: Path) -> None:
    folder = Path(os.path.realpath(path.parent))
    outside = [tensor for tensor in tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    files = {_outside_file(tensor, folder, path) for tensor in outside}
    if sum(file.stat().st_size for file in files) > FILE_BYTES_MAX:
        raise Refused(f"the weights beside {path} are more than 2 GiB; make the model smaller first")
    for tensor in outside:
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except Exception as error:
            # Offsets beyond the file's end, links and the like, each with an error of its own.
            raise Refused(f"the weights {tensor.name} beside {path} cannot be read: {error}") from error
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every constant of a model, wherever it lies."""
    yield from model.graph.initializer
    for sparse in model.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in nodes(model):
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from inner.initializer


def nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Every operator, in graphs within graphs and in the model's own functions too. Raises Refused where it nests too deep."""
    yield from _nodes(model.graph.node, 0)
    for function in model.functions:
        yield from _nodes(function.node, 0)


def _nodes(level: Iterable[NodeProto], depth: int) -> Iterator[NodeProto]:
    if depth > DEPTH_MAX:
        raise Refused(f"the model nests graphs more than {DEPTH_MAX} deep; no real model does")
    for node in level:
        yield node
        for attribute in node.attribute:
            for inner in _graphs(attribute):
                yield from _nodes(inner.node, depth + 1)


def _graphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    if attribute.type == AttributeProto.GRAPH:
        yield attribute.g
    yield from attribute.graphs


@telling_damage()
def inspect(model: ModelProto, *, dropping_maps: bool = False) -> Inspection:
    """What a model is. Raises Refused for what cannot be served, naming it and saying what to do."""
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    _check_opset(opsets)
    _check_operators(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_spec(value, "input") for value in model.graph.input if value.name not in weights)
    maps = tuple(value.name for value in model.graph.output if _is_droppable(model, value))
    outputs = tuple(
        _spec(value, "output") for value in model.graph.output if not (dropping_maps and value.name in maps)
    )
    if not outputs:
        raise Refused("the model gives no outputs; export it again")
    notes = {entry.key: entry.value for entry in model.metadata_props}
    return Inspection(inputs, outputs, opsets, _producer(model), maps, model.ByteSize(), notes)


@telling_damage()
def map_outputs(model: ModelProto) -> tuple[str, ...]:
    """The outputs that are lists of maps made by ZipMap, as scikit-learn classifiers give them."""
    return tuple(value.name for value in model.graph.output if _is_droppable(model, value))


def _producer(model: ModelProto) -> str:
    return f"{model.producer_name} {model.producer_version}".strip() or "unknown"


def _check_opset(opsets: dict[str, int]) -> None:
    newest = onnx.defs.onnx_opset_version()
    opset = opsets.get("ai.onnx")
    if opset is not None and not OPSET_MIN <= opset <= newest:
        raise Refused(
            f"the model is of opset {opset}, and {OPSET_MIN} to {newest} can be run; "
            "convert it by onnx.version_converter, or export it again"
        )


def _check_operators(model: ModelProto) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    foreign = sorted(
        {
            f"{node.domain}.{node.op_type}" + (f" (node {node.name})" if node.name else "")
            for node in nodes(model)
            if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in own
        }
    )
    if foreign:
        shown = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise Refused(
            f"the model uses operators that onnxruntime does not have: {shown}; "
            "export it with standard operators, or with these as functions within the model"
        )


def _is_droppable(model: ModelProto, value: ValueInfoProto) -> bool:
    made_by = [node for node in model.graph.node if value.name in node.output]
    return len(made_by) == 1 and made_by[0].op_type == "ZipMap"


def _spec(value: ValueInfoProto, role: str) -> Spec:
    if not isinstance(value.name, str):
        # protobuf gives bytes where a text is not UTF-8.
        raise Refused(f"the name {value.name!r} of an {role} is no text; export the model again")
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        what = {"sequence_type": "a sequence", "map_type": "a map", "optional_type": "optional"}.get(
            kind or "", "untyped"
        )
        advice = "export the model so that it gives tensors"
        if kind == "sequence_type" and value.type.sequence_type.elem_type.HasField("map_type"):
            advice = "convert with the option zipmap=False, or give --drop-maps"
        raise Refused(f"the {role} {value.name} is {what}, and only tensors can be served; {advice}")
    tensor = value.type.tensor_type
    datatype = DATATYPE_OF.get(tensor.elem_type)
    if datatype is None:
        named = next((name for name, number in TensorProto.DataType.items() if number == tensor.elem_type), "?")
        served = ", ".join(DATATYPE_OF.values())
        raise Refused(f"the {role} {value.name} is of type {named}; served are {served}; cast it within the model")
    if not tensor.HasField("shape"):
        raise Refused(
            f"the {role} {value.name} tells no shape; run onnx.shape_inference, or export the model with shapes"
        )
    # A zero or negative length is what some exporters write for an axis that callers choose.
    axes = tuple(axis.dim_value if axis.dim_value > 0 else axis.dim_param for axis in tensor.shape.dim)
    return Spec(value.name, datatype, axes)


def _outside_file(tensor: TensorProto, folder: Path, model: Path) -> Path:
    strange = [entry.key for entry in tensor.external_data if entry.key not in EXTERNAL_KEYS]
    if strange:
        raise Refused(f"{model} tells of the weights {tensor.name} something that nobody knows: {strange[0]!r}")
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    file = Path(os.path.realpath(folder / location))
    if not location or Path(location).is_absolute() or not file.is_relative_to(folder):
        raise Refused(
            f"{model} wants the weights {tensor.name} from {location or 'nowhere'}, outside of its folder; "
            "keep all weights beside the model"
        )
    if not file.is_file():
        raise NotFound(f"{model} wants its weights from {location}, which is not beside it; copy it there")
    return file
