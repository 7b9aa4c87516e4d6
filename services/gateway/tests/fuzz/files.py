"""Model files and signatures made wrong. Each file is loaded in a process of its own, since what loads it is native."""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ergonaut.errors import ErgonautError, Refused
from ergonaut.signing import sign
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.adapters.signatures import TrustedKeys
from services.gateway.tests import onnx_models

from .drawing import Draw, changed, document_changed

SECONDS_MAX = 20
MEMORY_BYTES_MAX = 6 << 30
REFUSED = 1
FAULT = 2

SEEDS = (
    onnx_models.doubling(), onnx_models.identity("BYTES"), onnx_models.identity("BF16"), onnx_models.adding(),
    onnx_models.centring(),
    onnx_models.summing_up(), onnx_models.pairing(), onnx_models.drawing_lots(), onnx_models.counting(),
    onnx_models.giving_a_map(),
)  # fmt: skip
OPERATORS = [
    "Add",
    "Mul",
    "MatMul",
    "Gemm",
    "Conv",
    "Gather",
    "Reshape",
    "Slice",
    "Concat",
    "Split",
    "Transpose",
    "Loop",
    "Scan",
    "If",
    "TopK",
    "Resize",
    "ScatterND",
    "GatherND",
    "Pad",
    "Tile",
    "Expand",
    "OneHot",
    "LSTM",
    "GRU",
    "Einsum",
    "CumSum",
    "NonZero",
    "Where",
    "Range",
    "ConstantOfShape",
    "Softmax",
    "LayerNormalization",
    "MaxPool",
    "Squeeze",
    "Unsqueeze",
    "Shape",
    "Cast",
    "MatMulInteger",
    "DequantizeLinear",
    "StringNormalizer",
    "TfIdfVectorizer",
    "Compress",
    "Unique",
    "NonMaxSuppression",
    "RoiAlign",
    "EyeLike",
    "DFT",
    "GridSample",
    "Col2Im",
    "CenterCropPad",
    "Identity",
    "RandomNormalLike",
    "ReduceMean",
    "ArgMax",
    "TreeEnsembleClassifier",
    "LabelEncoder",
    "DictVectorizer",
]
ATTRIBUTES = [
    "axis",
    "axes",
    "perm",
    "to",
    "k",
    "pads",
    "kernel_shape",
    "strides",
    "group",
    "keepdims",
    "mode",
    "shape",
    "value",
    "epsilon",
    "hidden_size",
    "split",
    "blocksize",
    "alpha",
    "direction",
    "body",
]
LENGTHS = (-(2**63), -1, 0, 1, 5, 2**31, 2**40, 2**62)


def model_file(draw: Draw) -> bytes:
    """A model's file with some changes of its graph or of its bytes."""
    whole = SEEDS[draw.randrange(len(SEEDS))]
    if draw.randrange(2):
        whole = _graph_changed(draw, whole)
    return whole if not draw.randrange(5) and whole not in SEEDS else changed(draw, whole)


def outcome(content: bytes, folder: Path) -> str:
    """How the process that loaded a file ended: `served`, `refused`, or a fault in words."""
    path = folder / "model.onnx"
    path.write_bytes(content)
    child = os.fork()
    if child == 0:
        _load_and_leave(path)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"killed by signal {signal.Signals(os.WTERMSIG(status)).name}"
    return {0: "served", REFUSED: "refused"}.get(os.WEXITSTATUS(status), f"left with {os.WEXITSTATUS(status)}")


def signed(folder: Path) -> str:
    """A good signature of a small file by a new key."""
    key, file = folder / "key.pem", folder / "signed.onnx"
    private = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    file.write_bytes(SEEDS[0])
    return sign(file, key)


def signature_fault(draw: Draw, bundle: str) -> str:
    """What is wrong with how a malformed signature is read; empty where it is refused, or known to be by no trusted key."""
    text = changed(draw, bundle.encode()).decode("utf-8", "replace")
    if draw.randrange(2):
        text = document_changed(draw, json.loads(bundle)).decode("utf-8", "replace")
    try:
        TrustedKeys(()).check(text, "sha256-" + "0" * 64)
    except Refused:
        return ""
    except Exception as error:
        return f"{error!r} of {text[:300]!r}"
    return ""


def _load_and_leave(path: Path) -> None:
    """Load a file, and leave in a way that tells how that went."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    signal.alarm(SECONDS_MAX)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    try:
        OnnxLoader()._load(path)
    except ErgonautError:
        os._exit(REFUSED)
    except BaseException as error:
        sys.stderr.write(f"{error!r}\n"[:500])
        sys.stderr.flush()
        os._exit(FAULT)
    os._exit(0)


def _graph_changed(draw: Draw, whole: bytes) -> bytes:
    model = onnx.ModelProto.FromString(whole)
    for _ in range(draw.randint(1, 3)):
        draw.choice(_GRAPH_EDITS)(draw, model)
    return bytes(model.SerializeToString())


def _operator(draw: Draw, model: onnx.ModelProto) -> None:
    for node in model.graph.node[:1]:
        node.op_type = draw.choice(OPERATORS)


def _node_inputs(draw: Draw, model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if draw.randrange(2):
            node.input.append(draw.choice(("x", "a", "", "y", "nope")))
        elif node.input:
            del node.input[draw.randrange(len(node.input))]


def _attribute(draw: Draw, model: onnx.ModelProto) -> None:
    node = draw.choice(tuple(model.graph.node))
    attribute = node.attribute.add(name=draw.choice(ATTRIBUTES))
    kind = draw.randrange(4)
    if kind == 0:
        attribute.type, attribute.i = onnx.AttributeProto.INT, draw.choice(LENGTHS)
    elif kind == 1:
        attribute.type = onnx.AttributeProto.INTS
        attribute.ints.extend(draw.choice(LENGTHS) for _ in range(draw.randrange(6)))
    elif kind == 2:
        attribute.type, attribute.f = onnx.AttributeProto.FLOAT, draw.choice((0.0, -1.0, float("nan"), 1e38))
    else:
        attribute.type, attribute.s = onnx.AttributeProto.STRING, draw.choice((b"", b"x" * 100, b"linear", b"\xff"))


def _axis(draw: Draw, model: onnx.ModelProto) -> None:
    value = draw.choice((*model.graph.input, *model.graph.output))
    for axis in value.type.tensor_type.shape.dim:
        axis.dim_value = draw.choice(LENGTHS)


def _element(draw: Draw, model: onnx.ModelProto) -> None:
    draw.choice((*model.graph.input, *model.graph.output)).type.tensor_type.elem_type = draw.randrange(25)


def _weights(draw: Draw, model: onnx.ModelProto) -> None:
    for weights in model.graph.initializer:
        if weights.dims and draw.randrange(2):
            weights.dims[draw.randrange(len(weights.dims))] = draw.choice(LENGTHS)
        else:
            weights.data_type = draw.randrange(30)


def _version(draw: Draw, model: onnx.ModelProto) -> None:
    model.opset_import[0].version = draw.choice((0, 1, 7, 13, 22, 25, 100, -1))


_GRAPH_EDITS: tuple[Callable[[Draw, onnx.ModelProto], None], ...] = (
    _operator, _node_inputs, _attribute, _attribute, _axis, _element, _weights, _version,
)  # fmt: skip
