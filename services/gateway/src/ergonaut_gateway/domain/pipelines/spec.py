"""A pipeline as people write it: named nodes with steps, which ask models or other nodes. Whether it fits together is for
`checking`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from ergonaut_gateway.domain.models import TensorSpec

Value = bool | int | float | str
"""What a condition compares with."""


class Kind(StrEnum):
    """What a node does with its steps."""

    SEQUENCE = "sequence"
    """One after the other; each takes what those before it gave."""
    ENSEMBLE = "ensemble"
    """All of them, at the same time; their answers become one."""
    SPLITTER = "splitter"
    """One of them, drawn by weight or by the hash of a key."""
    SWITCH = "switch"
    """The first whose condition holds."""


class Combine(StrEnum):
    """How the answers of an ensemble become one."""

    NAMES = "names"
    """Side by side, under names of their own."""
    CONCAT = "concat"
    """Those of the same name one behind the other along an axis."""
    MEAN = "mean"
    WEIGHTED_MEAN = "weighted_mean"
    VOTE = "vote"
    """What most say, by weight; at a tie what the first of them says."""


class Op(StrEnum):
    """How a condition compares."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    IN = "in"


class Take(StrEnum):
    """What of each row of a tensor is compared."""

    EACH = ""
    """Each element."""
    MAX = "max"
    MIN = "min"
    ARGMAX = "argmax"


class Over(StrEnum):
    """Of how many elements a condition must hold."""

    ALL = "all"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether a tensor or a parameter of the request compares so with a value, or with one of several for `in`."""

    tensor: str = ""
    parameter: str = ""
    op: Op = Op.EQ
    values: tuple[Value, ...] = ()
    take: Take = Take.EACH
    over: Over = Over.ALL


@dataclass(frozen=True, slots=True)
class Step:
    """Asks a model or a node; one that asks neither hands on tensors that are there, under the names in `outputs`."""

    name: str
    model: str = ""
    version: str = ""
    """A number or an alias; empty is the version that the model serves by default."""
    node: str = ""
    inputs: dict[str, str] = field(default_factory=dict)
    """What it takes, by its own name for it: the name of that here. What is left out is found by its name."""
    outputs: dict[str, str] = field(default_factory=dict)
    """What it gives, by its own name for it: the name of that from here on. What is left out keeps its name."""
    is_soft: bool = False
    """Whether the request goes on without it where it fails."""
    weight: float = 1.0
    when: Condition | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """Steps, and what is done with them."""

    name: str
    kind: Kind
    steps: tuple[Step, ...]
    outputs: tuple[str, ...] = ()
    """What it gives; empty is what its last step gives, or in other kinds than a sequence all that there is."""
    combine: Combine = Combine.NAMES
    axis: int = -1
    """Along which answers are put behind one another by `concat`; negative counts from the last."""
    key_parameter: str = ""
    """The request's parameter whose hash chooses the branch of a splitter."""
    key_tensor: str = ""
    """The tensor whose first element's hash does."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Nodes under one name; the first one is asked."""

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[TensorSpec, ...] = ()
    """What requests give; a datatype that is empty is found by who takes it. None at all: whatever the steps need."""

    def numbered_steps(self) -> Iterator[tuple[Node, int, Step]]:
        """All steps with their nodes and their places, from 1, in the order in which they are written."""
        for node in self.nodes:
            for number, step in enumerate(node.steps, 1):
                yield node, number, step

    def uses(self) -> tuple[tuple[str, str], ...]:
        """The models and versions that it asks, each once, in the order in which they are written."""
        asked = ((step.model, step.version) for _, _, step in self.numbered_steps() if step.model)
        return tuple(dict.fromkeys(asked))


def place(node: Node, number: int, step: Step) -> str:
    """Where in a pipeline something is, for people."""
    return f"node {node.name}, step {number} ({step.name})"
