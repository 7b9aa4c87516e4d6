"""A program: reads on stdin how several ONNX files become one, writes that file, and says on stdout what kept it from doing so.

Each stage's names get a prefix of its own; Identity nodes lead tensors from one to the next, which onnxruntime takes out again.
"""

import json
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, compose, helper, version_converter

from ergonaut_gateway.domain.pipelines.spec import Combine

KINDS = {
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
"""The protocol's datatypes as ONNX has them."""

ROWS = "rows"
"""The name of the first axis where it is that of the rows everywhere."""

OPSET_OF_OWN = 17
"""Where no stage says which version of the plain operators it uses; ours are in all of them."""


MEMORY_BYTES_MAX = 8 * 1024**3
"""Addresses that the program may use, libraries included: far more than the largest stages need, and an end for hostile ones."""


class Unmergeable(Exception):
    """The files cannot become one; the words say why."""


def main() -> None:
    """Be the program."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    request = json.load(sys.stdin)
    refused = ""
    try:
        model = merged(request)
        onnx.checker.check_model(model)
        Path(request["target"]).write_bytes(model.SerializeToString())
    except (Unmergeable, onnx.checker.ValidationError, ValueError) as error:
        refused = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    json.dump({"refused": refused}, sys.stdout)


@dataclass(slots=True)
class _Merged:
    """What was gathered of the stages until now."""

    names: dict[int, str]
    """Of tensors, by the recipe's numbers."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    sparse: list[onnx.SparseTensorProto] = field(default_factory=list)
    functions: list[onnx.FunctionProto] = field(default_factory=list)

    def lead(self, whence: str, where: str) -> None:
        """The same tensor under another name."""
        self.nodes.append(helper.make_node("Identity", [whence], [where], name=f"lead/{where}"))

    def stage(self, number: int, stage: Mapping[str, Any], model: onnx.ModelProto) -> None:
        """Do what a model does."""
        prefix = f"stage{number}/"
        # What is inferred again anyway, and may contradict the axes' new names.
        del model.graph.value_info[:]
        compose.add_prefix(model, prefix, inplace=True)
        for own, at in stage["takes"]:
            self.lead(self.names[at], prefix + own)
        for own, at in stage["gives"]:
            self.names[at] = prefix + own
        self.nodes += model.graph.node
        self.constants += model.graph.initializer
        self.sparse += model.graph.sparse_initializer
        self.functions += model.functions

    def blend(self, number: int, blend: Mapping[str, Any]) -> None:
        """Make one tensor of several."""
        prefix, parts = f"blend{number}/", [self.names[at] for at in blend["parts"]]
        result = self.names[blend["gives"]] = f"{prefix}result"
        if blend["how"] == Combine.CONCAT:
            self.nodes.append(helper.make_node("Concat", parts, [result], name=result, axis=blend["axis"]))
            return
        weighted = []
        for at, (part, weight) in enumerate(zip(parts, blend["weights"], strict=True)):
            constant = f"{prefix}weight{at}"
            self.constants.append(helper.make_tensor(constant, KINDS[blend["datatype"]], [], [weight]))
            weighted.append(f"{prefix}part{at}")
            self.nodes.append(helper.make_node("Mul", [part, constant], weighted[-1:], name=weighted[-1]))
        self.nodes.append(helper.make_node("Sum", weighted, [result], name=result))


def merged(request: Mapping[str, Any]) -> onnx.ModelProto:
    """The one model. Raises Unmergeable."""
    stages = [work for work in request["work"] if "file" in work]
    models = [_loaded(stage) for stage in stages]
    opsets = _opsets(stages, models)
    models = [_converted(stage, model, opsets[""]) for stage, model in zip(stages, models, strict=True)]
    inputs, outputs = request["inputs"], request["outputs"]
    if shared := {each["name"] for each in inputs} & {each["name"] for each in outputs}:
        raise Unmergeable(f"{min(shared)} is what the node takes and what it gives, and one model cannot call both so")
    whole, left = _Merged({each["at"]: each["name"] for each in inputs}), iter(models)
    for number, work in enumerate(request["work"]):
        if "file" in work:
            whole.stage(number, work, next(left))
        else:
            whole.blend(number, work)
    for each in outputs:
        whole.lead(whole.names[each["at"]], each["name"])
    rows_alike = request["rows_alike"] and all(each["shape"][:1] == [-1] for each in (*inputs, *outputs))
    graph = helper.make_graph(
        whole.nodes,
        "fused",
        _infos(inputs, rows_alike=rows_alike),
        _infos(outputs, rows_alike=rows_alike),
        whole.constants,
        sparse_initializer=whole.sparse,
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        functions=whole.functions,
        ir_version=max(model.ir_version for model in models),
        producer_name="ergonaut",
    )


def _loaded(stage: Mapping[str, Any]) -> onnx.ModelProto:
    model = onnx.load(stage["file"], load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                # Names within may be those around them, which only a run would show.
                raise Unmergeable(f"{stage['told']} has an operator {node.op_type}, which holds a graph of its own")
    if any(each.data_location == TensorProto.EXTERNAL for each in model.graph.initializer):
        raise Unmergeable(f"{stage['told']} has weights in another file")
    return model


def _opsets(stages: Sequence[Mapping[str, Any]], models: Sequence[onnx.ModelProto]) -> dict[str, int]:
    """The version of each set of operators; the newest of the plain ones, to which the others are converted."""
    opsets: dict[str, int] = {}
    for stage, model in zip(stages, models, strict=True):
        for each in model.opset_import:
            domain = "" if each.domain == "ai.onnx" else each.domain
            known = opsets.setdefault(domain, each.version)
            if not domain:
                opsets[domain] = max(known, each.version)
            elif known != each.version:
                raise Unmergeable(
                    f"{stage['told']} uses version {each.version} of the operators {domain}, and others use {known}"
                )
    opsets.setdefault("", OPSET_OF_OWN)
    return opsets


def _converted(stage: Mapping[str, Any], model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    own = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    if not own or own[0] == opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:
        # The converter is C++ and raises what it likes; whatever it is, the stage stays apart.
        raise Unmergeable(f"{stage['told']} cannot be converted from opset {own[0]} to {opset}: {error}") from error


def _infos(tensors: Iterable[Mapping[str, Any]], *, rows_alike: bool) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(
            each["name"], KINDS[each["datatype"]], _axes(each["name"], each["shape"], rows_alike=rows_alike)
        )
        for each in tensors
    ]


def _axes(name: str, shape: Sequence[int], *, rows_alike: bool) -> list[int | str]:
    """Lengths, and names where the caller chooses: each axis another, since nobody knows which are alike."""
    names = [ROWS if rows_alike and axis == 0 else f"{name}/{axis}" for axis in range(len(shape))]
    return [named if length == -1 else length for named, length in zip(names, shape, strict=True)]


if __name__ == "__main__":
    main()
