"""A pipeline that was checked: its nodes as they are asked, each place where one is asked by itself, with what goes where."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Union

from ergonaut.errors import Refused
from ergonaut_gateway.domain.models import Signature, TensorSpec
from ergonaut_gateway.domain.pipelines.spec import Combine, Condition, Kind


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A version of a model, and which of its outputs are of use."""

    model: str
    version: str
    signature: Signature
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A step at one place of the graph."""

    index: int
    """Counts all steps of the graph."""
    node: str
    number: int
    step: str
    asks: Union[ModelCall, "Graph", None]
    """None hands on what is there."""
    takes: tuple[tuple[str, str], ...]
    """Pairs: its own name for a tensor, and the name of that here."""
    gives: tuple[tuple[str, str], ...]
    is_soft: bool = False
    weight: float = 1.0
    when: Condition | None = None

    @property
    def place(self) -> str:
        """Where it is, for people; number 0 is no step of its node, but all of them as one model."""
        return (
            f"node {self.node}, step {self.number} ({self.step})" if self.number else f"node {self.node} ({self.step})"
        )


@dataclass(frozen=True, slots=True)
class Graph:
    """A node at one place of the graph. It finds all that is there where it is asked, beside what its call gives it."""

    path: str
    """The steps that lead to it; empty for the first node."""
    node: str
    kind: Kind
    calls: tuple[Call, ...]
    inputs: tuple[TensorSpec, ...]
    """What it reads of what is there."""
    outputs: tuple[TensorSpec, ...]
    combine: Combine = Combine.NAMES
    axis: int = -1
    key_parameter: str = ""
    key_tensor: str = ""
    fused: str = ""
    """A model that computes the whole node at once, where there is one."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its outputs."""
        return tuple(spec.name for spec in self.outputs)

    def walk(self) -> Iterator["Graph"]:
        """This and all graphs within, from the outside."""
        yield self
        for call in self.calls:
            if isinstance(call.asks, Graph):
                yield from call.asks.walk()

    def all_calls(self) -> Iterator[Call]:
        """All steps in the order of their indices."""
        for call in self.calls:
            yield call
            if isinstance(call.asks, Graph):
                yield from call.asks.all_calls()


def trimmed(graph: Graph, wanted: frozenset[str]) -> Graph:
    """The graph with no more computed than these outputs need. Raises Refused for a step that nothing needs."""
    outputs = tuple(spec for spec in graph.outputs if spec.name in wanted)
    needed: set[str] = {graph.key_tensor} if graph.key_tensor else set()
    calls = []
    live = set(wanted) if graph.kind is Kind.SEQUENCE else wanted
    for call in reversed(graph.calls):
        kept = _trimmed_call(call, frozenset(live))
        calls.append(kept)
        if graph.kind is not Kind.SEQUENCE:
            needed |= _needs(kept)
        else:
            # Where a soft step fails, what was there before under the same name is taken.
            live = (live if call.is_soft else live - {here for _, here in kept.gives}) | _needs(kept)
    if graph.kind is Kind.SEQUENCE:
        needed |= live
    inputs = tuple(spec for spec in graph.inputs if spec.name in needed)
    return replace(graph, calls=tuple(reversed(calls)), inputs=inputs, outputs=outputs)


def with_fused(graph: Graph, models: dict[str, str]) -> Graph:
    """The graph with the models that compute nodes at once, by the nodes' paths."""
    calls = tuple(
        replace(call, asks=with_fused(call.asks, models)) if isinstance(call.asks, Graph) else call
        for call in graph.calls
    )
    return replace(graph, calls=calls, fused=models.get(graph.path, ""))


def _trimmed_call(call: Call, live: frozenset[str]) -> Call:
    gives = tuple((own, here) for own, here in call.gives if here in live)
    if not gives:
        raise Refused("nothing that it gives is used; take it out, or name it under outputs", field=call.place)
    own_names = tuple(own for own, _ in gives)
    if isinstance(call.asks, ModelCall):
        return replace(call, gives=gives, asks=replace(call.asks, outputs=own_names))
    if isinstance(call.asks, Graph):
        inner = trimmed(call.asks, frozenset(own_names))
        read = {spec.name for spec in inner.inputs}
        return replace(call, gives=gives, asks=inner, takes=tuple(pair for pair in call.takes if pair[0] in read))
    return replace(call, gives=gives)


def _needs(call: Call) -> set[str]:
    """What a step reads of what is there."""
    needs = {here for _, here in call.takes}
    if call.when is not None and call.when.tensor:
        needs.add(call.when.tensor)
    if call.asks is None:
        needs |= {own for own, _ in call.gives}
    elif isinstance(call.asks, Graph):
        renamed = {own for own, _ in call.takes}
        needs |= {spec.name for spec in call.asks.inputs if spec.name not in renamed}
    return needs
