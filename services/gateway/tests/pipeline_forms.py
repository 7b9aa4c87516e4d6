"""Pipelines that tests are about, written shortly, and models that are functions of numpy."""

from collections.abc import Callable, Mapping

import numpy as np

from ergonaut_gateway.domain.models import Signature, TensorSpec
from ergonaut_gateway.domain.pipelines.checking import Signatures
from ergonaut_gateway.domain.pipelines.spec import Kind, Node, Pipeline, Step
from ergonaut_gateway.domain.tensors import Tensor

Function = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def spec(name: str, datatype: str = "FP32", *shape: int) -> TensorSpec:
    return TensorSpec(name, datatype, shape or (-1, 3))


def signature(takes: str, gives: str) -> Signature:
    """`a b:INT64` are a as FP32 and b as INT64, rows of three; INT64 is one a row."""
    sides = []
    for side in (takes, gives):
        named = [part.partition(":") for part in side.split()]
        sides.append(
            tuple(spec(name, kind or "FP32", *((-1,) if kind == "INT64" else (-1, 3))) for name, _, kind in named)
        )
    return Signature(*sides)


SIGNATURES = {
    "scaler": signature("x", "scaled"),
    "double": signature("x", "y"),
    "negate": signature("x", "y"),
    "add": signature("a b", "y"),
    "both": signature("x", "p q"),
    "classify": signature("x", "probabilities label:INT64"),
    "other": signature("x", "probabilities label:INT64"),
    "texts": Signature((spec("words", "BYTES", -1),), (spec("y"),)),
    "wide": Signature((spec("x", "FP32", -1, 7),), (spec("y", "FP32", -1, 7),)),
}


def known(*versions: str) -> Signatures:
    """What the models take and give, under no version and under these."""
    return {(model, version): each for model, each in SIGNATURES.items() for version in ("", *versions)}


FUNCTIONS: dict[str, Function] = {
    "scaler": lambda given: {"scaled": given["x"] / np.float32(16)},
    "double": lambda given: {"y": given["x"] * np.float32(2)},
    "negate": lambda given: {"y": -given["x"]},
    "add": lambda given: {"y": given["a"] + given["b"]},
    "both": lambda given: {"p": given["x"] + np.float32(1), "q": given["x"] - np.float32(1)},
    "classify": lambda given: {"probabilities": given["x"], "label": np.argmax(given["x"], axis=-1)},
    "other": lambda given: {"probabilities": -given["x"], "label": np.argmin(given["x"], axis=-1)},
}


def step(model: str, **more: object) -> Step:
    return Step(name=str(more.pop("name", model)), model=model, **more)  # type: ignore[arg-type]


def to(node: str, **more: object) -> Step:
    return Step(name=str(more.pop("name", node)), node=node, **more)  # type: ignore[arg-type]


def hand_on(*names: str, **more: object) -> Step:
    outputs = more.pop("outputs", None) or {name: name for name in names}
    return Step(name=str(more.pop("name", "pass")), outputs=outputs, **more)  # type: ignore[arg-type]


def node(kind: str, *steps: Step, name: str = "main", **more: object) -> Node:
    return Node(name, Kind(kind), steps, **more)  # type: ignore[arg-type]


def pipeline(*nodes: Node, **more: object) -> Pipeline:
    return Pipeline("checked", nodes, **more)  # type: ignore[arg-type]
