"""Reads a pipeline's file as a person writes it, and writes one, for the CLI and the client. Whether it fits together is the
gateway's to say.

    name: digits-checked
    nodes:
      main:
        sequence:
          - {model: digits-scaler, version: 1}
          - {node: sure-enough}
      sure-enough:
        switch:
          - {pass: [label], when: {tensor: probabilities, take: max, op: ge, value: 0.9}}
          - {model: digits-large}
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ergonaut.api.inference.v1 import inference_pb2  # fmt: skip
from ergonaut.api.inference.v1 import pipelines_pb2 as pb
from ergonaut.errors import NotFound, Refused
from ergonaut.faults import field_errors

FILE_BYTES_MAX = 1024 * 1024
"""A pipeline is written by hand; a larger file is some other file."""

KINDS = ("sequence", "ensemble", "splitter", "switch")
_TENSOR = re.compile(r"(\w+)\s*\[([\s\d,-]*)\]")
_WHOLE_EXACT = 2**53
"""Larger whole numbers are no doubles."""

Scalar = bool | int | float | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Condition(_Strict):
    tensor: str = ""
    parameter: str = ""
    op: Literal["eq", "ne", "lt", "le", "gt", "ge", "in"]
    value: Scalar | list[Scalar]
    take: Literal["", "max", "min", "argmax"] = ""
    over: Literal["all", "any"] = "all"

    @model_validator(mode="after")
    def _listed(self) -> "_Condition":
        if isinstance(self.value, list) != (self.op == "in"):
            raise ValueError("value: is a list for `in`, and one value for all other comparisons")
        return self


class _Step(_Strict):
    name: str = ""
    model: str = ""
    version: str | int = ""
    node: str = ""
    hands_on: dict[str, str] | list[str] = Field(default=[], alias="pass")
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    dependency: Literal["hard", "soft"] = "hard"
    weight: float | None = None
    when: _Condition | None = None

    @model_validator(mode="after")
    def _one(self) -> "_Step":
        asked = [bool(self.model), bool(self.node), bool(self.hands_on)]
        if sum(asked) != 1:
            raise ValueError("model: a step names one of model, node and pass")
        if self.hands_on and self.outputs:
            raise ValueError("outputs: a step that passes tensors names them under pass")
        return self


class _Key(_Strict):
    parameter: str = ""
    tensor: str = ""


class _Node(_Strict):
    sequence: list[_Step] = []
    ensemble: list[_Step] = []
    splitter: list[_Step] = []
    switch: list[_Step] = []
    outputs: list[str] = []
    combine: Literal["names", "concat", "mean", "weighted_mean", "vote", ""] = ""
    axis: int | None = None
    key: _Key = _Key()

    @property
    def kind(self) -> str:
        """What it does."""
        return next(kind for kind in KINDS if getattr(self, kind))

    @model_validator(mode="after")
    def _one(self) -> "_Node":
        if sum(bool(getattr(self, kind)) for kind in KINDS) != 1:
            raise ValueError(f"sequence: a node has steps under one of {', '.join(KINDS)}")
        return self


class _File(_Strict):
    name: str
    nodes: Annotated[dict[str, _Node], Field(min_length=1)]
    inputs: dict[str, str | None] | list[str] = {}
    because: str = ""


def load_pipeline(path: Path) -> pb.Pipeline:
    """The pipeline that a file describes, YAML or JSON. Raises NotFound, or Refused for what is no pipeline."""
    try:
        text = path.read_bytes()[: FILE_BYTES_MAX + 1]
    except FileNotFoundError as error:
        raise NotFound(f"there is no pipeline file {path}") from error
    except OSError as error:
        raise Refused(f"the pipeline file {path} cannot be read: {error.strerror}") from error
    if len(text) > FILE_BYTES_MAX:
        raise Refused(f"{path} is larger than 1 MiB, so it is no pipeline file")
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader that also refuses a key given twice
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Refused(f"{path}: this is no YAML: {getattr(error, 'problem', None) or error}") from error
    return read_pipeline(document, told=str(path))


def read_pipeline(document: Any, *, told: str) -> pb.Pipeline:
    """The pipeline that a document describes; `told` names it in errors. Raises Refused."""
    if not isinstance(document, dict):
        raise Refused(f"{told}: a pipeline has fields such as `name: digits-checked`, and this one does not")
    try:
        file = _File.model_validate(document)
        inputs = [_input(name, spec) for name, spec in _inputs(file)]
        nodes = [_node(name, node) for name, node in file.nodes.items()]
        return pb.Pipeline(name=file.name, nodes=nodes, inputs=inputs, because=file.because)
    except ValidationError as error:
        first, *others = [
            field_errors(error, _part_at(details["loc"]))[at] for at, details in enumerate(error.errors())
        ]
        sentences = [first.message, *(f"{other.field}: {other.message}" for other in others)]
        raise Refused(f"{'; '.join(sentences)} ({told})", field=first.field) from error


def _part_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    """Which part of a file a field belongs to, so that it is told what that part may have."""
    inner = location[:-1]
    if "when" in inner:
        return _Condition
    if "key" in inner:
        return _Key
    return _Step if len(inner) >= 4 else _Node if len(inner) == 2 else _File


def as_document(pipeline: pb.Pipeline) -> dict[str, Any]:
    """A pipeline as a file has it."""
    document: dict[str, Any] = {"name": pipeline.name}
    if pipeline.because:
        document["because"] = pipeline.because
    if pipeline.inputs:
        document["inputs"] = {
            spec.name: f"{spec.datatype} {list(spec.shape)}" if spec.datatype else None for spec in pipeline.inputs
        }
    document["nodes"] = {node.name: _node_document(node) for node in pipeline.nodes}
    return document


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML readers keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} is given twice, line {key.start_mark.line + 1}", key.start_mark
                )
            seen.add(key.value if isinstance(key.value, str) else str(key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _inputs(file: _File) -> list[tuple[str, str | None]]:
    return [(name, None) for name in file.inputs] if isinstance(file.inputs, list) else [*file.inputs.items()]


def _input(name: str, told: str | None) -> inference_pb2.TensorSpec:
    if not told:
        return inference_pb2.TensorSpec(name=name)
    match = _TENSOR.fullmatch(told.strip())
    if match is None:
        raise Refused(f"{told!r} is not such as FP32 [-1, 64]", field=f"inputs.{name}")
    lengths = [part.strip() for part in match[2].split(",") if part.strip()]
    try:
        shape = [int(length) for length in lengths]
    except ValueError as error:
        raise Refused(f"{told!r} is not such as FP32 [-1, 64]", field=f"inputs.{name}") from error
    return inference_pb2.TensorSpec(name=name, datatype=match[1], shape=shape)


def _node(name: str, node: _Node) -> pb.PipelineNode:
    return pb.PipelineNode(
        name=name,
        kind=pb.NodeKind.Value(f"NODE_KIND_{node.kind.upper()}"),
        steps=[_step(step) for step in getattr(node, node.kind)],
        outputs=node.outputs,
        combine=pb.Combination.Value(f"COMBINATION_{(node.combine or 'unspecified').upper()}"),
        axis=node.axis,
        key_parameter=node.key.parameter,
        key_tensor=node.key.tensor,
    )


def _step(step: _Step) -> pb.PipelineStep:
    hands_on = step.hands_on if isinstance(step.hands_on, dict) else {name: name for name in step.hands_on}
    return pb.PipelineStep(
        name=step.name,
        model=step.model,
        version=str(step.version),
        node=step.node,
        inputs=step.inputs,
        outputs=hands_on or step.outputs,
        soft=step.dependency == "soft",
        weight=step.weight,
        when=_condition(step.when) if step.when is not None else None,
    )


def _condition(condition: _Condition) -> pb.PipelineCondition:
    values = condition.value if isinstance(condition.value, list) else [condition.value]
    return pb.PipelineCondition(
        tensor=condition.tensor,
        parameter=condition.parameter,
        op=pb.Comparison.Value(f"COMPARISON_{condition.op.upper()}"),
        values=[_value(value) for value in values],
        take=pb.Reduction.Value(f"REDUCTION_{(condition.take or 'unspecified').upper()}"),
        any=condition.over == "any",
    )


def _value(value: Scalar) -> pb.PipelineValue:
    if isinstance(value, bool):
        return pb.PipelineValue(flag=value)
    if isinstance(value, str):
        return pb.PipelineValue(text=value)
    if isinstance(value, int) and abs(value) > _WHOLE_EXACT:
        if abs(value) >= 2**63:
            raise Refused(f"{value} is larger than 64 bits", field="value")
        return pb.PipelineValue(whole=value)
    return pb.PipelineValue(number=value)


def _node_document(node: pb.PipelineNode) -> dict[str, Any]:
    kind = pb.NodeKind.Name(node.kind).removeprefix("NODE_KIND_").lower()
    document: dict[str, Any] = {kind: [_step_document(step) for step in node.steps]}
    if node.combine:
        document["combine"] = pb.Combination.Name(node.combine).removeprefix("COMBINATION_").lower()
    if node.HasField("axis"):
        document["axis"] = node.axis
    if node.key_parameter or node.key_tensor:
        document["key"] = {"parameter": node.key_parameter} if node.key_parameter else {"tensor": node.key_tensor}
    if node.outputs:
        document["outputs"] = [*node.outputs]
    return document


def _step_document(step: pb.PipelineStep) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if step.name not in ("", step.model or step.node or "pass"):
        document["name"] = step.name
    for field in ("model", "version", "node"):
        if getattr(step, field):
            document[field] = getattr(step, field)
    if step.inputs:
        document["inputs"] = dict(step.inputs)
    if step.outputs:
        document["outputs" if step.model or step.node else "pass"] = dict(step.outputs)
    if step.soft:
        document["dependency"] = "soft"
    if step.HasField("weight"):
        document["weight"] = step.weight
    if step.HasField("when"):
        document["when"] = condition_document(step.when)
    return document


def condition_document(condition: pb.PipelineCondition) -> dict[str, Any]:
    """A condition as a file has it."""
    values = [getattr(value, value.WhichOneof("value") or "text") for value in condition.values]
    op = pb.Comparison.Name(condition.op).removeprefix("COMPARISON_").lower()
    told: dict[str, Any] = {"tensor": condition.tensor} if condition.tensor else {"parameter": condition.parameter}
    if condition.take:
        told["take"] = pb.Reduction.Name(condition.take).removeprefix("REDUCTION_").lower()
    told |= {"op": op, "value": values if op == "in" else values[0]}
    return told | {"over": "any"} if condition.any else told
