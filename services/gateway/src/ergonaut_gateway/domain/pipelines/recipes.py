"""Which nodes of a pipeline could be one model, and how that is put together: stages and what becomes of their tensors, flat."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from ergonaut_gateway.domain.models import TensorSpec, is_number
from ergonaut_gateway.domain.pipelines.combining import combined
from ergonaut_gateway.domain.pipelines.graph import Call, Graph, ModelCall
from ergonaut_gateway.domain.pipelines.spec import Combine, Kind
from ergonaut_gateway.domain.tensors import Tensor

FORMAT = 1
"""Counts up when the same recipe would become another model."""

BLENDED = ("FP32", "FP64")
"""Datatypes in which a mean inside a model is the mean outside; half precision is added up otherwise."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A version of a model. Its tensors are named by numbers that the recipe gives out."""

    model: str
    version: str
    takes: tuple[tuple[str, int], ...]
    gives: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Blend:
    """Tensors that become one by mean or behind one another."""

    how: Combine
    parts: tuple[int, ...]
    weights: tuple[float, ...]
    axis: int
    datatype: str
    gives: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """A node as one model: what it takes, what is done in this order, and what it gives."""

    inputs: tuple[tuple[TensorSpec, int], ...]
    work: tuple[Stage | Blend, ...]
    outputs: tuple[tuple[TensorSpec, int], ...]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The models that it is made of; one may come more than once."""
        return tuple(each for each in self.work if isinstance(each, Stage))

    def name(self, digests: Mapping[tuple[str, str], str]) -> str:
        """The name of the model that it becomes: another where any of it or of its models' files differs."""
        told = {"format": FORMAT, "recipe": asdict(self), "files": [digests[_key(each)] for each in self.stages]}
        return f"fused-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True)
class Unfused:
    """Why a node stays as it is."""

    because: str


class _Not(Exception):
    """A node cannot be one model; the words say why."""


def candidates(graph: Graph) -> Iterator[tuple[Graph, Recipe | Unfused]]:
    """The outermost nodes that can be one model, and those around them, with why not. A node of one model is neither."""
    if sum(isinstance(call.asks, ModelCall) for call in graph.all_calls()) < 2:
        return
    found = recipe_of(graph)
    yield graph, found
    if isinstance(found, Unfused):
        for call in graph.calls:
            if isinstance(call.asks, Graph):
                yield from candidates(call.asks)


def recipe_of(graph: Graph) -> Recipe | Unfused:
    """How a node becomes one model, or why it cannot."""
    cook = _Cook()
    names = {spec.name: at for at, spec in enumerate(graph.inputs)}
    cook.count = len(names)
    try:
        given = cook.graph(graph, names)
    except _Not as error:
        return Unfused(str(error))
    inputs = tuple((spec, names[spec.name]) for spec in graph.inputs)
    outputs = tuple((spec, given[spec.name]) for spec in graph.outputs)
    return Recipe(inputs, tuple(cook.work), outputs)


Ask = Callable[[Stage, dict[str, Tensor]], Mapping[str, Tensor]]
"""Computes a stage's outputs."""


def computed(recipe: Recipe, inputs: Mapping[str, Tensor], ask: Ask) -> dict[str, Tensor]:
    """What the recipe's stages give one by one, with which the one model is compared."""
    tensors = {at: inputs[spec.name] for spec, at in recipe.inputs}
    for each in recipe.work:
        if isinstance(each, Blend):
            parts = [tensors[at] for at in each.parts]
            tensors[each.gives] = combined(parts, each.how, each.weights, each.axis)
        else:
            given = ask(each, {own: tensors[at] for own, at in each.takes})
            tensors |= {at: given[own] for own, at in each.gives}
    return {spec.name: tensors[at] for spec, at in recipe.outputs}


@dataclass(slots=True)
class _Cook:
    """Runs a graph with numbers in the place of tensors."""

    work: list[Stage | Blend] = field(default_factory=list)
    count: int = 0

    def graph(self, graph: Graph, there: Mapping[str, int]) -> dict[str, int]:
        if graph.kind is Kind.SEQUENCE:
            after = dict(there)
            for call in graph.calls:
                after |= self._call(call, after)
            return {name: after[name] for name in graph.names}
        if graph.kind is not Kind.ENSEMBLE or graph.combine is Combine.VOTE:
            told = "a vote" if graph.kind is Kind.ENSEMBLE else f"a {graph.kind}"
            raise _Not(f"node {graph.node} is {told}")
        given = [self._call(call, there) for call in graph.calls]
        if graph.combine is Combine.NAMES:
            together = {name: at for branch in given for name, at in branch.items()}
            return {name: together[name] for name in graph.names}
        weights = tuple(call.weight for call in graph.calls)
        return {
            spec.name: self._blend(graph, spec, tuple(branch[spec.name] for branch in given), weights)
            for spec in graph.outputs
        }

    def _call(self, call: Call, there: Mapping[str, int]) -> dict[str, int]:
        if call.is_soft:
            raise _Not(f"{call.place} is soft")
        if call.asks is None:
            return {here: there[own] for own, here in call.gives}
        if isinstance(call.asks, Graph):
            given = self.graph(call.asks, {**there, **{own: there[here] for own, here in call.takes}})
            return {here: given[own] for own, here in call.gives}
        if not is_number(call.asks.version):
            told = f"the alias {call.asks.version}" if call.asks.version else "whichever version is served"
            raise _Not(f"{call.place} asks for {told} of {call.asks.model}, and no version by its number")
        takes = tuple((own, there[here]) for own, here in call.takes)
        gives = tuple((own, self._number()) for own, _ in call.gives)
        self.work.append(Stage(call.asks.model, call.asks.version, takes, gives))
        return {here: at for (_, here), (_, at) in zip(call.gives, gives, strict=True)}

    def _blend(self, graph: Graph, spec: TensorSpec, parts: tuple[int, ...], weights: tuple[float, ...]) -> int:
        if graph.combine is not Combine.CONCAT and spec.datatype not in BLENDED:
            raise _Not(f"node {graph.node} takes a mean of {spec.datatype}")
        at = self._number()
        self.work.append(Blend(graph.combine, parts, weights, graph.axis, spec.datatype, at))
        return at

    def _number(self) -> int:
        self.count += 1
        return self.count - 1


def _key(stage: Stage) -> tuple[str, str]:
    return stage.model, stage.version
