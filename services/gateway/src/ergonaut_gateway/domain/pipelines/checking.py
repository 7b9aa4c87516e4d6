"""Makes a graph of a pipeline, or says in one sentence which step does not fit and why. Types are found from what models take and
give; what no step gives is asked of the request."""

from collections.abc import Mapping
from dataclasses import replace

from ergonaut.errors import Refused
from ergonaut_gateway.domain.models import Signature, TensorSpec
from ergonaut_gateway.domain.pipelines.branches import branches_outputs, combined_outputs
from ergonaut_gateway.domain.pipelines.conditions import misfit_of
from ergonaut_gateway.domain.pipelines.forms import DEPTH_MAX, STEPS_MAX, check_form
from ergonaut_gateway.domain.pipelines.graph import Call, Graph, ModelCall, trimmed
from ergonaut_gateway.domain.pipelines.spec import Combine, Condition, Kind, Node, Pipeline, Step, place
from ergonaut_gateway.domain.pipelines.types import There, fits, merged, narrowed, told

Signatures = Mapping[tuple[str, str], Signature]
"""What models take and give, by name and version as steps name them."""


def checked(pipeline: Pipeline, signatures: Signatures) -> tuple[Graph, Signature]:
    """The pipeline as a graph, and what it takes and gives as a whole. Raises Refused for the first thing that is wrong."""
    check_form(pipeline)
    checker = _Checker(pipeline, signatures)
    graph = checker.whole()
    graph = trimmed(graph, frozenset(graph.names))
    return graph, Signature(checker.request_inputs(graph), graph.outputs)


class _Scope:
    """What is there at a place: what steps before it gave. What the request gives is with the checker."""

    def __init__(
        self, names: Mapping[str, There], last: tuple[str, ...], requested: Mapping[str, str] | None = None
    ) -> None:
        self.names = dict(names)
        self.last = last
        """What the step before gave."""
        self.requested = dict(requested or {})
        """How the request calls what has another name here."""
        self._own: set[str] = set()
        self.read: dict[str, TensorSpec] = {}

    def put(self, given: Mapping[str, There]) -> None:
        """A step gave these."""
        self.names |= given
        self._own |= set(given)
        self.last = tuple(given)

    def note(self, name: str, spec: TensorSpec) -> None:
        """A step reads this; what comes from outside the node is remembered."""
        if name not in self._own:
            self.read[name] = replace(spec, name=name)


class _Checker:
    def __init__(self, pipeline: Pipeline, signatures: Signatures) -> None:
        self._pipeline = pipeline
        self._signatures = signatures
        self._nodes = {node.name: node for node in pipeline.nodes}
        self._declared = {spec.name: spec for spec in pipeline.inputs}
        self._request = {spec.name: spec for spec in pipeline.inputs if spec.datatype}
        self._reached: set[str] = set()
        self._steps = 0

    def whole(self) -> Graph:
        """The graph of the first node, all others within."""
        first = self._pipeline.nodes[0]
        graph, _ = self._graph(first, _Scope({}, tuple(self._declared)), "", (first.name,))
        for name in self._nodes:
            if name not in self._reached:
                raise Refused(f"no step asks it; take it out, or ask it from {first.name}", field=f"node {name}")
        return graph

    def request_inputs(self, graph: Graph) -> tuple[TensorSpec, ...]:
        """What requests must give: as declared, else in the order in which steps take it. Raises Refused."""
        needed = {spec.name for spec in graph.inputs}
        for name in self._declared:
            if name not in needed:
                raise Refused("no step takes it; take it out, or let a step take it", field=f"inputs.{name}")
        return tuple(self._request[name] for name in (self._declared or self._request) if name in needed)

    def _graph(self, node: Node, scope: _Scope, path: str, trail: tuple[str, ...]) -> tuple[Graph, dict[str, There]]:
        if len(trail) > DEPTH_MAX:
            raise Refused(f"is {len(trail)} nodes deep, at most {DEPTH_MAX} are taken", field=f"node {node.name}")
        self._reached.add(node.name)
        calls, given = [], list[dict[str, There]]()
        for number, step in enumerate(node.steps, 1):
            at = place(node, number, step)
            if step.when is not None:
                self._check_condition(step.when, scope, at)
            inside = scope if node.kind is Kind.SEQUENCE else _Scope(scope.names, scope.last, scope.requested)
            call, gives = self._call(node, number, step, inside, (path, trail))
            calls.append(call)
            given.append(gives)
            if node.kind is Kind.SEQUENCE:
                scope.put(self._after_soft(gives, scope, at) if step.is_soft else gives)
            else:
                scope.read |= inside.read
        outputs = self._outputs(node, scope, given)
        if node.key_tensor:
            self._found(node.key_tensor, scope, None, f"node {node.name}")
        graph = Graph(
            path,
            node.name,
            node.kind,
            tuple(calls),
            tuple(scope.read.values()),
            tuple(replace(there.spec, name=name) for name, there in outputs.items()),
            node.combine,
            node.axis,
            node.key_parameter,
            node.key_tensor,
        )
        return graph, outputs

    def _call(
        self, node: Node, number: int, step: Step, scope: _Scope, way: tuple[str, tuple[str, ...]]
    ) -> tuple[Call, dict[str, There]]:
        """A step's call, and what it gives by the names here."""
        at = place(node, number, step)
        self._steps += 1
        index = self._steps - 1
        if self._steps > STEPS_MAX:
            raise Refused(
                f"is one too many: at most {STEPS_MAX} steps are taken, each counted where it is asked", field=at
            )
        asks: ModelCall | Graph | None = None
        takes: tuple[tuple[str, str], ...] = ()
        if step.model:
            asks, takes, own = self._model(step, scope, at)
        elif step.node:
            asks, takes, own = self._node(step, scope, at, way)
        else:
            own = {name: self._found(name, scope, None, at) for name in step.outputs}
        gives = self._gives(node, step, own, at)
        given = {here: own[name] for name, here in gives}
        call = Call(index, node.name, number, step.name, asks, takes, gives, step.is_soft, step.weight, step.when)
        return call, given

    def _model(
        self, step: Step, scope: _Scope, at: str
    ) -> tuple[ModelCall, tuple[tuple[str, str], ...], dict[str, There]]:
        signature = self._signatures[step.model, step.version]
        names = [spec.name for spec in signature.inputs]
        for name in step.inputs:
            if name not in names:
                raise Refused(f"model {step.model} has no input {name}; it takes {', '.join(names)}", field=at)
        left = [name for name in names if name not in step.inputs]
        takes = []
        for spec in signature.inputs:
            here = step.inputs.get(spec.name) or _default_source(spec.name, left, scope.last)
            there = self._found(here, scope, spec, at)
            if not fits(there.spec, spec):
                raise Refused(
                    f"model {step.model} takes {spec.name} as {told(spec)}, and {here} is {told(there.spec)}", field=at
                )
            takes.append((spec.name, here))
        outputs = tuple(spec.name for spec in signature.outputs)
        call = ModelCall(step.model, step.version, signature, outputs)
        return call, tuple(takes), {spec.name: There(spec, at) for spec in signature.outputs}

    def _node(
        self, step: Step, scope: _Scope, at: str, way: tuple[str, tuple[str, ...]]
    ) -> tuple[Graph, tuple[tuple[str, str], ...], dict[str, There]]:
        path, trail = way
        if step.node not in self._nodes:
            raise Refused(f"there is no node {step.node}; there are {', '.join(self._nodes)}", field=at)
        if step.node in trail:
            circle = " > ".join((*trail[trail.index(step.node) :], step.node))
            raise Refused(f"node {step.node} would ask itself: {circle}", field=at)
        renamed = {own: scope.names[here] for own, here in step.inputs.items() if here in scope.names}
        asked = {own: scope.requested.get(here, here) for own, here in step.inputs.items() if own not in renamed}
        inner = _Scope(scope.names | renamed, tuple(step.inputs) or scope.last, scope.requested | asked)
        for own in asked:
            inner.names.pop(own, None)
        inside = f"{path}/{step.name}" if path else step.name
        graph, given = self._graph(self._nodes[step.node], inner, inside, (*trail, step.node))
        read = {spec.name: spec for spec in graph.inputs}
        for own, here in step.inputs.items():
            if own not in read:
                raise Refused(f"node {step.node} takes no {own}", field=at)
            self._found(here, scope, None, at)
        for name, spec in read.items():
            if name not in step.inputs:
                scope.note(name, spec)
        return graph, tuple(step.inputs.items()), given

    def _gives(self, node: Node, step: Step, own: Mapping[str, There], at: str) -> tuple[tuple[str, str], ...]:
        """Pairs of what a step gives: its own name and the one here."""
        for name in step.outputs:
            if name not in own:
                raise Refused(f"it gives no {name}; it gives {', '.join(own)}", field=at)
        is_apart = node.kind is Kind.ENSEMBLE and node.combine is Combine.NAMES
        names = step.outputs if not (step.model or step.node) else own
        gives = tuple((name, step.outputs.get(name) or (f"{step.name}_{name}" if is_apart else name)) for name in names)
        heres = [here for _, here in gives]
        for here in heres:
            if heres.count(here) > 1:
                raise Refused(f"it gives two tensors the name {here}", field=at)
        return gives

    def _found(self, name: str, scope: _Scope, wanted: TensorSpec | None, at: str) -> There:
        """What is there under a name, else what the request gives. Raises Refused."""
        there = scope.names.get(name)
        if there is None:
            there = There(self._of_request(scope.requested.get(name, name), scope, wanted, at), "the request")
        if there.is_unsure:
            raise Refused(
                f"{name} comes from {there.whence}, which is soft and may give nothing; make that hard, "
                "or let it give a name that is there already",
                field=at,
            )
        scope.note(name, there.spec)
        return there

    def _of_request(self, name: str, scope: _Scope, wanted: TensorSpec | None, at: str) -> TensorSpec:
        spec = self._request.get(name)
        if spec is None and (wanted is None or (self._declared and name not in self._declared)):
            known = [*scope.names, *(self._declared or self._request)]
            advice = "declare it under inputs with its datatype and shape" if wanted is None else "say where it is from"
            there = f"there are {', '.join(dict.fromkeys(known))}" if known else "nothing is there yet"
            raise Refused(f"nothing gives {name}; {there}; {advice}", field=at)
        if spec is None:
            assert wanted is not None, "refused above"
            spec = replace(wanted, name=name)
        elif wanted is not None and fits(spec, wanted) and not self._is_declared_whole(name):
            spec = narrowed(spec, wanted)
        self._request[name] = spec
        return spec

    def _is_declared_whole(self, name: str) -> bool:
        declared = self._declared.get(name)
        return declared is not None and bool(declared.datatype)

    def _after_soft(self, gives: Mapping[str, There], scope: _Scope, at: str) -> dict[str, There]:
        """What is there after a soft step: where it fails, what was there before under the same name."""
        after = {}
        for name, there in gives.items():
            asked = self._request.get(scope.requested.get(name, name))
            before = scope.names.get(name) or (There(asked, "the request") if asked is not None else None)
            if before is None or before.is_unsure:
                after[name] = replace(there, is_unsure=True)
                continue
            spec = merged(before.spec, there.spec)
            if spec is None:
                raise Refused(
                    f"is soft and gives {name} as {told(there.spec)}, and where it fails {name} is {told(before.spec)}",
                    field=at,
                )
            # Read where it fails, so that it must not be dropped.
            scope.note(name, before.spec)
            after[name] = replace(there, spec=spec)
        return after

    def _outputs(self, node: Node, scope: _Scope, given: list[dict[str, There]]) -> dict[str, There]:
        """What a node gives. Raises Refused."""
        if node.kind is Kind.SEQUENCE:
            names = node.outputs or tuple(given[-1])
            return {name: self._found(name, scope, None, f"node {node.name}, outputs") for name in names}
        outputs = combined_outputs(node, given) if node.kind is Kind.ENSEMBLE else branches_outputs(node, given)
        for name in node.outputs:
            if name not in outputs:
                raise Refused(f"it gives no {name}; it gives {', '.join(outputs)}", field=f"node {node.name}, outputs")
        return {name: outputs[name] for name in node.outputs or outputs}

    def _check_condition(self, condition: Condition, scope: _Scope, at: str) -> None:
        if condition.tensor:
            spec = self._found(condition.tensor, scope, None, at).spec
            if why := misfit_of(condition, replace(spec, name=condition.tensor)):
                raise Refused(f"its condition {why}", field=at)


def _default_source(name: str, left: list[str], last: tuple[str, ...]) -> str:
    """Where an input comes from that nothing is said of: of what the step before gave the same name, or the one tensor for the
    one input; else whatever has the name."""
    return last[0] if name not in last and len(left) == 1 and len(last) == 1 else name
