"""Small ONNX models for the tests of `create`, good ones and bad ones; and what runs the command."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ergonaut_common.testing_commands import ergonaut_command

FLOAT = TensorProto.FLOAT


def model(
    nodes: list[NodeProto], inputs: dict[str, Any], outputs: dict[str, Any], weights=None, domains=()
) -> ModelProto:
    """Nodes with inputs and outputs of `name: (type, shape)`, and weights as arrays."""
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def written(path: Path, made: ModelProto) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def linear(weights: np.ndarray | None = None, batch: int | str = "n") -> ModelProto:
    """y = x W; the batch axis is the caller's unless told otherwise."""
    w = np.arange(12, dtype=np.float32).reshape(4, 3) / 12 if weights is None else weights.astype(np.float32)
    rows, columns = w.shape
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return model(nodes, {"x": (FLOAT, [batch, rows])}, {"y": (FLOAT, [batch, columns])}, {"w": w})


def fixed_by_reshape() -> ModelProto:
    """One row a call, and the graph itself says so."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    shapes = {"shape": np.array([1, 4], dtype=np.int64)}
    return model(nodes, {"x": (FLOAT, [1, 2, 2])}, {"y": (FLOAT, [1, 4])}, shapes)


def mixing_rows() -> ModelProto:
    """One row a call; with more, each row would change the others."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["s"], keepdims=1),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    axes = {"axes": np.array([0], dtype=np.int64)}
    return model(nodes, {"x": (FLOAT, [1, 2])}, {"y": (FLOAT, [1, 2])}, axes)


def foreign() -> ModelProto:
    nodes = [helper.make_node("Sparkle", ["x"], ["y"], domain="acme.ops", name="first")]
    return model(nodes, {"x": (FLOAT, ["n"])}, {"y": (FLOAT, ["n"])}, domains=("acme.ops",))


def root() -> ModelProto:
    """NaN wherever the input is negative."""
    return model([helper.make_node("Sqrt", ["x"], ["y"])], {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 4])})


def dice() -> ModelProto:
    """Another answer each time."""
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["r"]), helper.make_node("Add", ["x", "r"], ["y"])]
    return model(nodes, {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 4])})


def hungry() -> ModelProto:
    """Asks for 400 GB."""
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["wide"]),
        helper.make_node("ReduceSum", ["wide"], ["y"], keepdims=0),
    ]
    shapes = {"shape": np.array([100_000_000_000], dtype=np.int64)}
    return model(nodes, {"x": (FLOAT, [1])}, {"y": (FLOAT, [])}, shapes)


def endless() -> ModelProto:
    """Counts to a number that is not reached within an hour."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Add", ["before", "one"], ["after"]), helper.make_node("Identity", ["go_in"], ["go_out"])],
        "body",
        [info("round", TensorProto.INT64, []), info("go_in", TensorProto.BOOL, []), info("before", FLOAT, [1])],
        [info("go_out", TensorProto.BOOL, []), info("after", FLOAT, [1])],
    )
    nodes = [helper.make_node("Loop", ["rounds", "go", "x"], ["y"], body=body)]
    weights = {
        "rounds": np.array(10**12, dtype=np.int64),
        "go": np.array(True),  # noqa: FBT003 - a tensor's value
        "one": np.ones(1, dtype=np.float32),
    }
    return model(nodes, {"x": (FLOAT, [1])}, {"y": (FLOAT, [1])}, weights)


def giving_maps() -> ModelProto:
    """What scikit-learn classifiers become unless told otherwise."""
    nodes = [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])]
    maps = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, []))
    graph = helper.make_graph(
        nodes,
        "maps",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 3])],
        [helper.make_value_info("y", helper.make_sequence_type_proto(maps))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)], ir_version=9)


def reading(location: str) -> ModelProto:
    """y = x + w, whose four weights are said to lie in another file."""
    made = model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": (FLOAT, ["n", 4])},
        {"y": (FLOAT, ["n", 4])},
        {"w": np.zeros(4, dtype=np.float32)},
    )
    weights = made.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    return made


def blind_to_one_feature(large: float) -> np.ndarray:
    """Weights of a classifier by three features; a fourth, which is always 0, has a weight of its own size."""
    weights = np.zeros((4, 3))
    weights[:3] = np.eye(3)
    weights[3, 0] = large
    return weights


def classified_rows(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Rows for that classifier, and the right answers."""
    rows = np.random.default_rng(7).uniform(0, 1, (count, 4)).astype(np.float32)
    rows[:, 3] = 0
    return rows, rows[:, :3].argmax(axis=1)


def ergonaut(*arguments: object, home: Path, cwd: Path | None = None) -> tuple[int, str, str]:
    """The command as a script meets it."""
    environment = {**os.environ, "ERGONAUT_HOME": str(home)}
    done = ergonaut_command(*map(str, arguments), cwd=cwd, env=environment, timeout=110)
    return done.returncode, done.stdout, done.stderr


def told(*arguments: object, home: Path, cwd: Path | None = None) -> dict[str, Any]:
    """What `ergonaut create --json` tells, its steps by name."""
    code, out, err = ergonaut("create", *arguments, "--json", "--no-serve", home=home, cwd=cwd)
    assert code == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer | {"steps": {step["step"]: step for step in answer["steps"]}}
