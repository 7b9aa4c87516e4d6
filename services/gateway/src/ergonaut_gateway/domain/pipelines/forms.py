"""Whether a pipeline is well formed, before it is asked what its models take and give."""

import math
from collections.abc import Iterable

import msgspec

from ergonaut.errors import Refused
from ergonaut.ids import NAME_RULE, is_name
from ergonaut_gateway.domain.pipelines.conditions import fault_of
from ergonaut_gateway.domain.pipelines.spec import Combine, Kind, Node, Pipeline, Step, place
from ergonaut_gateway.domain.tensors import DTYPES, RANK_MAX

STEPS_MAX = 32
"""Steps of a pipeline, each counted at each place where it is asked: as many requests may one request become."""

DEPTH_MAX = 8
"""Nodes within nodes; what people draw is rarely deeper than three."""

TENSORS_MAX = 64
"""Names in one list of a pipeline; records must stay small."""

BYTES_MAX = 24 * 1024
"""What may be written down of a pipeline: many times what people draw, and 20 earlier ones fit beside it in a record."""

NAME_CHARACTERS_MAX = 200
"""A tensor's name is no longer."""

_WEIGHTED = (Combine.WEIGHTED_MEAN, Combine.VOTE)
_ANY_FAIL = (Combine.MEAN, Combine.WEIGHTED_MEAN, Combine.VOTE)


def check_form(pipeline: Pipeline) -> None:
    """Raise Refused, naming node and step, for what cannot be meant."""
    if not is_name(pipeline.name):
        raise Refused(f"{pipeline.name!r} cannot be a pipeline's name; use {NAME_RULE}", field="name")
    if not 0 < len(pipeline.nodes) <= STEPS_MAX:
        raise Refused(f"a pipeline has 1 to {STEPS_MAX} nodes, this has {len(pipeline.nodes)}", field="nodes")
    _check_size(pipeline)
    _check_inputs(pipeline)
    _check_unique([node.name for node in pipeline.nodes], "node", field="nodes")
    for node in pipeline.nodes:
        _check_node(node)
    count = sum(len(node.steps) for node in pipeline.nodes)
    if count > STEPS_MAX:
        raise Refused(f"a pipeline has at most {STEPS_MAX} steps, this has {count}", field="nodes")


def _check_size(pipeline: Pipeline) -> None:
    size_bytes = len(msgspec.json.encode(pipeline))
    if size_bytes > BYTES_MAX:
        raise Refused(f"it takes {size_bytes} bytes to write down, at most {BYTES_MAX} are taken", field="nodes")


def _check_inputs(pipeline: Pipeline) -> None:
    _check_tensor_names([spec.name for spec in pipeline.inputs], field="inputs")
    for spec in pipeline.inputs:
        if spec.datatype and spec.datatype not in DTYPES:
            raise Refused(f"{spec.datatype!r} is not one of {', '.join(DTYPES)}", field=f"inputs.{spec.name}")
        if len(spec.shape) > RANK_MAX or any(length < -1 for length in spec.shape):
            raise Refused(
                f"{list(spec.shape)} is no shape of at most {RANK_MAX} axes; -1 is any length",
                field=f"inputs.{spec.name}",
            )


def _check_node(node: Node) -> None:
    at = f"node {node.name}"
    if not 0 < len(node.steps) <= STEPS_MAX:
        raise Refused(f"a node has 1 to {STEPS_MAX} steps, this has {len(node.steps)}", field=at)
    _check_unique([step.name for step in node.steps], "step", field=at)
    _check_tensor_names(node.outputs, field=f"{at}, outputs")
    if node.kind is not Kind.ENSEMBLE and (node.combine is not Combine.NAMES or node.axis != -1):
        raise Refused(f"a {node.kind} combines no answers; take out combine and axis", field=at)
    if node.kind is Kind.ENSEMBLE and node.axis != -1 and node.combine is not Combine.CONCAT:
        raise Refused(f"axis is for concat, and this is {node.combine}", field=at)
    if (node.key_parameter or node.key_tensor) and node.kind is not Kind.SPLITTER:
        raise Refused(f"a key chooses the branch of a splitter, and this is a {node.kind}", field=at)
    if node.key_parameter and node.key_tensor:
        raise Refused("its key is a parameter or a tensor, and not both", field=at)
    for number, step in enumerate(node.steps, 1):
        _check_step(node, number, step)
    if node.kind is Kind.SPLITTER and not any(step.weight > 0 for step in node.steps):
        raise Refused("no branch has a weight above 0", field=at)


def _check_step(node: Node, number: int, step: Step) -> None:
    at = place(node, number, step)
    if step.model and step.node:
        raise Refused("asks a model or a node, and not both", field=at)
    for name in (step.model, step.version, step.node):
        if name and not is_name(name):
            raise Refused(f"{name!r} cannot be a name; use {NAME_RULE}", field=at)
    if step.version and not step.model:
        raise Refused("has a version and no model", field=at)
    if not (step.model or step.node):
        if step.inputs or not step.outputs:
            raise Refused("asks no model and no node, so it names under outputs what it hands on", field=at)
        if step.is_soft:
            raise Refused("hands on what is there, which cannot fail; take out soft", field=at)
    for names in (step.inputs, step.outputs):
        if len(names) > TENSORS_MAX:
            raise Refused(f"has more than {TENSORS_MAX} names in one list", field=at)
        for name in (*names, *names.values()):
            _check_tensor_name(name, field=at)
    _check_weight(node, step, at)
    _check_soft(node, step, at)
    _check_when(node, number, step, at)


def _check_weight(node: Node, step: Step, at: str) -> None:
    if not (0 <= step.weight < math.inf):
        raise Refused(f"its weight is {step.weight:g}; it must be a number of at least 0", field=at)
    is_weighted = node.kind is Kind.SPLITTER or (node.kind is Kind.ENSEMBLE and node.combine in _WEIGHTED)
    if not is_weighted and step.weight != 1.0:
        told = f"an ensemble by {node.combine}" if node.kind is Kind.ENSEMBLE else f"a {node.kind}"
        raise Refused(f"a weight means nothing in {told}; take it out", field=at)
    if node.kind is Kind.ENSEMBLE and step.weight == 0:
        raise Refused("its weight is 0; take the step out", field=at)


def _check_soft(node: Node, step: Step, at: str) -> None:
    if not step.is_soft or node.kind is Kind.SEQUENCE:
        return
    if node.kind is not Kind.ENSEMBLE:
        raise Refused(f"a branch of a {node.kind} cannot be soft; make the step soft that asks this node", field=at)
    if node.combine not in _ANY_FAIL:
        raise Refused(f"an ensemble by {node.combine} needs all its branches; take out soft", field=at)


def _check_when(node: Node, number: int, step: Step, at: str) -> None:
    is_last = number == len(node.steps)
    if node.kind is not Kind.SWITCH:
        if step.when is not None:
            raise Refused(f"a condition chooses a branch of a switch, and this is a {node.kind}", field=at)
        return
    if is_last and step.when is not None:
        raise Refused("the last branch of a switch is for when no condition holds; take out when, or add one", field=at)
    if not is_last:
        if step.when is None:
            raise Refused("is never left for the branches behind it; give it a condition under when", field=at)
        if why := fault_of(step.when):
            raise Refused(f"its condition {why}", field=at)


def _check_unique(names: Iterable[str], what: str, *, field: str) -> None:
    seen: set[str] = set()
    for name in names:
        if not is_name(name):
            raise Refused(f"{name!r} cannot be a {what}'s name; use {NAME_RULE}", field=field)
        if name in seen:
            raise Refused(f"two {what}s are called {name}; give one of them another name", field=field)
        seen.add(name)


def _check_tensor_names(names: Iterable[str], *, field: str) -> None:
    seen: set[str] = set()
    for name in names:
        _check_tensor_name(name, field=field)
        if name in seen:
            raise Refused(f"{name} is named twice", field=field)
        seen.add(name)
    if len(seen) > TENSORS_MAX:
        raise Refused(f"has more than {TENSORS_MAX} names", field=field)


def _check_tensor_name(name: str, *, field: str) -> None:
    if not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
        raise Refused(f"a tensor's name has 1 to {NAME_CHARACTERS_MAX} printable characters", field=field)
