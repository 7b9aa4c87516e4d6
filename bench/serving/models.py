"""Makes the two models that every server serves, the same each time: a perceptron that reads digits, and a CNN of 26 MFLOP.

Both read scikit-learn's digits; `Model.rows` are some that were not learned from, and `Model.answers` what onnxruntime says of
each by itself, which is what every server must say too.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper, save
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from subjects import Model, Rows, session

ROWS = 64
LEARNED_ROWS = 1_400
PIXEL_MAX = 16
OPSET = 17
# So many channels of 3x3 filters, and by how much each layer shrinks the picture: 26.2 million operations from 32x32 pixels.
LAYERS = ((16, 1), (32, 2), (64, 1), (64, 2), (128, 1))
CNN_SIDE, CNN_FEATURES = 32, 512
# The answers of the linear head are between 0 and 1; this makes its softmax sure of itself, as a trained one is.
SHARPNESS = 10.0


def made_models(folder: Path) -> dict[str, Model]:
    """Write `digits.onnx` and `cnn.onnx`, and ask both every row."""
    pixels, classes = load_digits(return_X_y=True)
    pixels = (pixels / PIXEL_MAX).astype(np.float32)
    save(_perceptron(pixels[:LEARNED_ROWS], classes[:LEARNED_ROWS]), folder / "digits.onnx")
    save(_cnn(pixels[:LEARNED_ROWS], classes[:LEARNED_ROWS]), folder / "cnn.onnx")
    held_out = pixels[LEARNED_ROWS : LEARNED_ROWS + ROWS]
    return {
        "digits": _asked("digits", folder / "digits.onnx", held_out),
        "cnn": _asked("cnn", folder / "cnn.onnx", _pictures(held_out)),
    }


def _asked(name: str, path: Path, rows: Rows) -> Model:
    alone = session(path)
    answers = [alone.run(["probabilities"], {"X": row[np.newaxis]})[0][0] for row in rows]
    return Model(name, path, rows, np.stack(answers))


def _perceptron(pixels: Rows, classes: NDArray[np.int64]) -> Any:
    classifier = MLPClassifier(hidden_layer_sizes=(64,), max_iter=1_000, random_state=0).fit(pixels, classes)
    inputs = [("X", FloatTensorType([None, pixels.shape[1]]))]
    return to_onnx(classifier, initial_types=inputs, options={id(classifier): {"zipmap": False}}, target_opset=OPSET)


def _pictures(pixels: Rows) -> Rows:
    """Digits of 8x8 pixels at four times the size."""
    squares = pixels.reshape(-1, 1, 8, 8)
    return np.ascontiguousarray(squares.repeat(4, axis=2).repeat(4, axis=3))


def _cnn(pixels: Rows, classes: NDArray[np.int64]) -> Any:
    """Filters drawn by chance, always the same, and a head fitted by least squares."""
    filters = _filters()
    drawn = onnxruntime.InferenceSession(_graph(filters, None).SerializeToString())
    features = drawn.run(None, {"X": _pictures(pixels)})[0].astype(np.float64)
    scale = features.std()
    with_one = np.hstack([features / scale, np.ones((len(features), 1))])
    wanted = np.eye(10)[classes]
    ridge = np.eye(with_one.shape[1])
    fitted = np.linalg.solve(with_one.T @ with_one + ridge, with_one.T @ wanted) * SHARPNESS
    head = ((fitted[:-1] / scale).astype(np.float32), fitted[-1].astype(np.float32))
    return _graph(filters, head)


def _filters() -> list[Rows]:
    chance, filters, channels_in = np.random.default_rng(7), [], 1
    for channels, _ in LAYERS:
        spread = np.sqrt(2 / (channels_in * 9))
        filters.append((chance.standard_normal((channels, channels_in, 3, 3)) * spread).astype(np.float32))
        channels_in = channels
    return filters


def _graph(filters: list[Rows], head: tuple[Rows, Rows] | None) -> Any:
    """The network up to its features, and with a head up to its probabilities."""
    nodes, constants, last = [], [], "X"
    for number, (weights, (_, stride)) in enumerate(zip(filters, LAYERS, strict=True)):
        constants.append(numpy_helper.from_array(weights, f"filters_{number}"))
        shape = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [stride, stride]}
        nodes.append(helper.make_node("Conv", [last, f"filters_{number}"], [f"sums_{number}"], **shape))
        nodes.append(helper.make_node("Relu", [f"sums_{number}"], [f"layer_{number}"]))
        last = f"layer_{number}"
    nodes.append(helper.make_node("AveragePool", [last], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["features"]))
    output, width = "features", CNN_FEATURES
    if head is not None:
        constants += [numpy_helper.from_array(part, name) for part, name in zip(head, ("head", "bias"), strict=True)]
        nodes.append(helper.make_node("Gemm", ["features", "head", "bias"], ["scores"]))
        nodes.append(helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1))
        output, width = "probabilities", 10
    takes = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["rows", 1, CNN_SIDE, CNN_SIDE])
    gives = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["rows", width])
    graph = helper.make_graph(nodes, "cnn", [takes], [gives], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    checker.check_model(model)
    return model
