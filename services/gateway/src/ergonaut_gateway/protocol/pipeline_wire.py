"""PipelineService's messages, and what they mean."""

from collections.abc import Iterable, Mapping
from typing import Any

from ergonaut.api.inference.v1 import inference_pb2
from ergonaut.api.inference.v1 import pipelines_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_gateway.domain.models import Signature, TensorSpec
from ergonaut_gateway.domain.pipelines.records import Fusion, PipelineRecord, Revision
from ergonaut_gateway.domain.pipelines.spec import (
    Combine,
    Condition,
    Kind,
    Node,
    Op,
    Over,
    Pipeline,
    Step,
    Take,
    Value,
)

HANDS_ON = "pass"
"""How a step is called that asks nothing and has no name."""

_KINDS: Mapping[Any, Any] = {kind: pb.NodeKind.Value(f"NODE_KIND_{kind.name}") for kind in Kind}
_COMBINE: Mapping[Any, Any] = {how: pb.Combination.Value(f"COMBINATION_{how.name}") for how in Combine}
_OPS: Mapping[Any, Any] = {op: pb.Comparison.Value(f"COMPARISON_{op.name}") for op in Op}
_TAKES: Mapping[Any, Any] = {
    take: pb.Reduction.Value(f"REDUCTION_{take.name}") for take in Take if take is not Take.EACH
}
_WHOLE_EXACT = 2**53
"""Larger whole numbers are no doubles."""


def pipeline_of(message: pb.Pipeline) -> Pipeline:
    """The pipeline that a message describes. Raises Refused, naming the node, for what says nothing."""
    return Pipeline(
        name=message.name,
        nodes=tuple(_node(node) for node in message.nodes),
        inputs=tuple(TensorSpec(spec.name, spec.datatype, tuple(spec.shape)) for spec in message.inputs),
    )


def told_served(record: PipelineRecord) -> pb.ServedPipeline:
    """A pipeline as it is served."""
    return told_checked(told_revision(record.now), record.signature, record.fusions)


def told_checked(pipeline: pb.Pipeline, signature: Signature, fusions: Iterable[Fusion]) -> pb.ServedPipeline:
    """A pipeline with what it takes and gives."""
    return pb.ServedPipeline(
        pipeline=pipeline,
        takes=[_told_spec(spec) for spec in signature.inputs],
        gives=[_told_spec(spec) for spec in signature.outputs],
        fusions=[
            pb.PipelineFusion(path=each.path, node=each.node, model=each.model, because=each.because)
            for each in fusions
        ],
    )


def told_revision(revision: Revision) -> pb.Pipeline:
    """A pipeline as somebody applied it."""
    message = told_pipeline(revision.pipeline)
    message.because = revision.because
    message.revision = revision.revision
    message.changed_by = revision.changed_by
    message.changed_at.FromDatetime(revision.changed_at)
    return message


def told_pipeline(pipeline: Pipeline) -> pb.Pipeline:
    """A pipeline as a message, which reads as the same pipeline again."""
    return pb.Pipeline(
        name=pipeline.name,
        nodes=[_told_node(node) for node in pipeline.nodes],
        inputs=[_told_spec(spec) for spec in pipeline.inputs],
    )


def _node(message: pb.PipelineNode) -> Node:
    at = f"node {message.name}"
    return Node(
        name=message.name,
        kind=_known(_KINDS, message.kind, at, "kind"),
        steps=tuple(_step(step, f"{at}, step {number}") for number, step in enumerate(message.steps, 1)),
        outputs=tuple(message.outputs),
        combine=_known(_COMBINE, message.combine, at, "combine") if message.combine else Combine.NAMES,
        axis=message.axis if message.HasField("axis") else -1,
        key_parameter=message.key_parameter,
        key_tensor=message.key_tensor,
    )


def _step(message: pb.PipelineStep, at: str) -> Step:
    return Step(
        name=message.name or message.model or message.node or HANDS_ON,
        model=message.model,
        version=message.version,
        node=message.node,
        inputs=dict(sorted(message.inputs.items())),
        outputs=dict(sorted(message.outputs.items())),
        is_soft=message.soft,
        weight=message.weight if message.HasField("weight") else 1.0,
        when=_condition(message.when, at) if message.HasField("when") else None,
    )


def _condition(message: pb.PipelineCondition, at: str) -> Condition:
    return Condition(
        tensor=message.tensor,
        parameter=message.parameter,
        op=_known(_OPS, message.op, at, "op"),
        values=tuple(_value(value, at) for value in message.values),
        take=_known(_TAKES, message.take, at, "take") if message.take else Take.EACH,
        over=Over.ANY if message.any else Over.ALL,
    )


def _value(message: pb.PipelineValue, at: str) -> Value:
    kind = message.WhichOneof("value")
    if kind is None:
        raise Refused("its condition has a value that is none; give text, number, whole or flag", field=at)
    value: Value = getattr(message, kind)
    # As people write it; a whole number has no fraction to be kept.
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= _WHOLE_EXACT else value


def _known(known: Mapping[Any, Any], number: int, at: str, field: str) -> Any:
    for value, its_number in known.items():
        if its_number == number:
            return value
    raise Refused(f"its {field} is {number or 'not said'}; it is one of {', '.join(known)}", field=at)


def _told_node(node: Node) -> pb.PipelineNode:
    return pb.PipelineNode(
        name=node.name,
        kind=_KINDS[node.kind],
        steps=[_told_step(step) for step in node.steps],
        outputs=node.outputs,
        combine=_COMBINE[node.combine] if node.kind is Kind.ENSEMBLE else pb.COMBINATION_UNSPECIFIED,
        axis=node.axis if node.combine is Combine.CONCAT else None,
        key_parameter=node.key_parameter,
        key_tensor=node.key_tensor,
    )


def _told_step(step: Step) -> pb.PipelineStep:
    return pb.PipelineStep(
        name=step.name,
        model=step.model,
        version=step.version,
        node=step.node,
        inputs=step.inputs,
        outputs=step.outputs,
        soft=step.is_soft,
        weight=step.weight if step.weight != 1.0 else None,
        when=_told_condition(step.when) if step.when is not None else None,
    )


def _told_condition(condition: Condition) -> pb.PipelineCondition:
    return pb.PipelineCondition(
        tensor=condition.tensor,
        parameter=condition.parameter,
        op=_OPS[condition.op],
        values=[_told_value(value) for value in condition.values],
        take=_TAKES.get(condition.take, pb.REDUCTION_UNSPECIFIED),
        any=condition.over is Over.ANY,
    )


def _told_value(value: Value) -> pb.PipelineValue:
    if isinstance(value, bool):
        return pb.PipelineValue(flag=value)
    if isinstance(value, str):
        return pb.PipelineValue(text=value)
    if isinstance(value, int) and abs(value) > _WHOLE_EXACT:
        return pb.PipelineValue(whole=value)
    return pb.PipelineValue(number=value)


def _told_spec(spec: TensorSpec) -> inference_pb2.TensorSpec:
    return inference_pb2.TensorSpec(name=spec.name, datatype=spec.datatype, shape=spec.shape)
