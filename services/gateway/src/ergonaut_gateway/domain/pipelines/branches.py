"""What nodes give that have branches: the answers of all combined, or those of one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ergonaut.errors import Refused
from ergonaut_gateway.domain.models import TensorSpec
from ergonaut_gateway.domain.pipelines.combining import MEANT, VOTED
from ergonaut_gateway.domain.pipelines.spec import Combine, Node, place
from ergonaut_gateway.domain.pipelines.types import There, fits, merged, narrowed, told

Given = Mapping[str, There]

_TAKEN = {Combine.MEAN: MEANT, Combine.WEIGHTED_MEAN: MEANT, Combine.VOTE: VOTED}


def branches_outputs(node: Node, given: Sequence[Given]) -> dict[str, There]:
    """What a node gives that asks one of its branches: what each of them gives. Raises Refused."""
    outputs = {}
    for name, there in _common(node, given).items():
        found = there.spec
        for number, branch in enumerate(given, 1):
            spec = merged(found, branch[name].spec)
            if spec is None:
                raise _unlike(node, number, name, branch[name].spec, found)
            found = spec
        outputs[name] = replace(there, spec=found)
    return outputs


def combined_outputs(node: Node, given: Sequence[Given]) -> dict[str, There]:
    """What an ensemble gives. Raises Refused."""
    if node.combine is Combine.NAMES:
        outputs: dict[str, There] = {}
        for number, (branch, step) in enumerate(zip(given, node.steps, strict=True), 1):
            for name, there in branch.items():
                if name in outputs:
                    raise Refused(f"gives {name}, as a step before it does", field=place(node, number, step))
                outputs[name] = there
        return outputs
    return {name: _combined(node, name, [branch[name] for branch in given]) for name in _common(node, given)}


def _common(node: Node, given: Sequence[Given]) -> Given:
    """What the first branch gives of what the node gives; all others give it too. Raises Refused."""
    wanted = node.outputs or tuple(given[0])
    for number, (branch, step) in enumerate(zip(given, node.steps, strict=True), 1):
        at = place(node, number, step)
        for name in wanted:
            if name not in branch:
                raise Refused(
                    f"gives no {name}, which the node gives; it gives {', '.join(branch)}; rename it under outputs",
                    field=at,
                )
        extra = [name for name in branch if name not in wanted]
        if extra and not node.outputs:
            raise Refused(
                f"gives {', '.join(extra)}, which the first branch does not; name under the node's outputs what it gives",
                field=at,
            )
    return {name: given[0][name] for name in wanted}


def _combined(node: Node, name: str, theres: Sequence[There]) -> There:
    first = theres[0]
    taken = _TAKEN.get(node.combine)
    if taken is not None and first.spec.datatype not in taken:
        raise Refused(
            f"{node.combine} of {name} cannot be taken: it is {first.spec.datatype}, and not one of {', '.join(taken)}",
            field=f"node {node.name}",
        )
    spec = first.spec
    for number, there in enumerate(theres[1:], 2):
        found = _concatenated(node, spec, there.spec) if node.combine is Combine.CONCAT else _same(spec, there.spec)
        if found is None:
            raise _unlike(node, number, name, there.spec, spec)
        spec = found
    return replace(first, spec=spec)


def _same(one: TensorSpec, other: TensorSpec) -> TensorSpec | None:
    return narrowed(one, other) if fits(one, other) else None


def _concatenated(node: Node, one: TensorSpec, other: TensorSpec) -> TensorSpec | None:
    rank = len(one.shape)
    axis = node.axis + rank if node.axis < 0 else node.axis
    if not 0 < axis < rank:
        raise Refused(
            f"answers are put behind one another along an axis after the first, and {told(one)} has no axis {node.axis} "
            "that is",
            field=f"node {node.name}",
        )
    if len(other.shape) != rank:
        return None
    lengths = one.shape[axis], other.shape[axis]
    free = tuple(-1 if at == axis else length for at, length in enumerate(one.shape))
    found = _same(replace(one, shape=free), other)
    if found is None:
        return None
    length = -1 if -1 in lengths else sum(lengths)
    return replace(found, shape=tuple(length if at == axis else each for at, each in enumerate(found.shape)))


def _unlike(node: Node, number: int, name: str, given: TensorSpec, before: TensorSpec) -> Refused:
    return Refused(
        f"gives {name} as {told(given)}, and those before it as {told(before)}",
        field=place(node, number, node.steps[number - 1]),
    )
