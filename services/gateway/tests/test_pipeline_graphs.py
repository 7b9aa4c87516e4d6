"""Random pipelines give what a plain reading of their text gives, whatever the order in which their models answer."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ergonaut.errors import Refused, Unavailable
from ergonaut_common.clock import FakeClock
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord, TensorSpec
from ergonaut_gateway.domain.pipelines.checking import checked
from ergonaut_gateway.domain.pipelines.recipes import Recipe, computed, recipe_of
from ergonaut_gateway.domain.pipelines.records import PipelineRecord, Revision, Use
from ergonaut_gateway.domain.pipelines.spec import Combine, Condition, Kind, Node, Op, Over, Pipeline, Step, Take
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.service.pipeline_runs import Engine, PipelinePlan
from ergonaut_gateway.service.predictions import Wish

from .pipeline_forms import FUNCTIONS, known

NAMES = ("a", "b", "c", "d")
VERSIONS = known("1")
REQUEST = {name: np.random.default_rng(at).standard_normal((2, 3)).astype("<f4") for at, name in enumerate(("r", "s"))}


@dataclass
class Drawing:
    """A pipeline as it is drawn: nodes, and how many steps are left."""

    draw: Callable[..., object]
    nodes: list[Node] = field(default_factory=list)
    steps_left: int = 20

    def one(self, *choices: object) -> object:
        return self.draw(st.sampled_from(choices))

    def node(self, there: tuple[str, ...], depth: int) -> tuple[str, tuple[str, ...]]:
        """The name of a new node and what it gives."""
        kind = self.one("sequence", "sequence", "ensemble", "splitter", "switch") if depth else "sequence"
        at = len(self.nodes)
        self.nodes.append(Node("later", Kind.SEQUENCE, ()))
        made, gives = self.sequence(there, depth) if kind == "sequence" else self.branches(str(kind), there, depth)
        self.nodes[at] = Node(f"n-{at}", *made)
        return f"n-{at}", gives

    def sequence(self, there: tuple[str, ...], depth: int) -> tuple[tuple[object, ...], tuple[str, ...]]:
        steps, names = [], dict.fromkeys(there)
        for number in range(self.draw(st.integers(1, 4))):  # type: ignore[arg-type]
            here = str(self.one(*NAMES))
            is_soft = here in names and self.draw(st.booleans())
            steps.append(self.step(f"s-{number}", tuple(names), here, depth, is_soft=bool(is_soft)))
            names[here] = None
        gives = tuple(sorted({here for step in steps for here in step.outputs.values()} & {*NAMES}))
        return (Kind.SEQUENCE, tuple(steps), gives), gives

    def branches(self, kind: str, there: tuple[str, ...], depth: int) -> tuple[tuple[object, ...], tuple[str, ...]]:
        count = int(self.draw(st.integers(1, 3)))  # type: ignore[call-overload]
        here = str(self.one(*NAMES))
        steps = [self.step(f"s-{number}", there, here, depth) for number in range(count)]
        if kind == "ensemble":
            # Names stand for themselves here; what they do is told by a table.
            how = self.one(Combine.MEAN, Combine.WEIGHTED_MEAN)
            soft = [self.draw(st.booleans()) for _ in steps]
            weights = [self.draw(st.integers(1, 4)) if how is Combine.WEIGHTED_MEAN else 1 for _ in steps]
            steps = [
                _with(step, weight=float(weight), is_soft=bool(is_soft))  # type: ignore[arg-type]
                for step, weight, is_soft in zip(steps, weights, soft, strict=True)
            ]
            return (Kind.ENSEMBLE, tuple(steps), (here,), how), (here,)
        if kind == "splitter":
            steps = [_with(step, weight=float(self.draw(st.integers(1, 4)))) for step in steps]  # type: ignore[arg-type]
            return (Kind.SPLITTER, tuple(steps), (here,), Combine.NAMES, -1, "user"), (here,)
        conditions = [self.condition(there) for _ in steps[:-1]]
        chosen = [_with(step, when=when) for step, when in zip(steps, [*conditions, None], strict=True)]
        return (Kind.SWITCH, tuple(chosen), (here,)), (here,)

    def step(self, name: str, there: tuple[str, ...], here: str, depth: int, *, is_soft: bool = False) -> Step:
        self.steps_left -= 1
        if depth < 3 and self.steps_left > 4 and self.one("model", "model", "node") == "node":
            inner, gives = self.node(there, depth + 1)
            return Step(name, node=inner, outputs=self.named(gives, here), is_soft=is_soft)
        model = str(self.one("double", "negate", "add", "both", "scaler"))
        signature = VERSIONS[model, "1"]
        inputs = {spec.name: str(self.one(*there)) for spec in signature.inputs}
        outputs = self.named(tuple(spec.name for spec in signature.outputs), here)
        return Step(name, model, "1", inputs=inputs, outputs=outputs, is_soft=is_soft)

    def named(self, gives: tuple[str, ...], here: str) -> dict[str, str]:
        """One of them under the name, the others under names that nobody asks for."""
        chosen = self.one(*gives)
        return {own: here if own == chosen else f"unused-{self.steps_left}-{own}" for own in gives}

    def condition(self, there: tuple[str, ...]) -> Condition:
        op, value = self.one(Op.LT, Op.GE, Op.NE), self.draw(st.sampled_from((-1.0, 0.0, 0.5)))
        take = self.one(Take.EACH, Take.MAX, Take.ARGMAX)
        over = self.one(Over.ALL, Over.ANY)
        return Condition(str(self.one(*there)), op=op, values=(value,), take=take, over=over)  # type: ignore[arg-type]


def _with(step: Step, **more: object) -> Step:
    values = {name: getattr(step, name) for name in step.__slots__}
    return Step(**{**values, **more})  # type: ignore[arg-type]


@st.composite
def pipelines(draw: Callable[..., object]) -> Pipeline:
    drawing = Drawing(draw)
    drawing.node(tuple(REQUEST), 0)
    inputs = {name: TensorSpec(name, "FP32", (-1, 3)) for name in REQUEST}
    while True:
        pipeline = Pipeline("random", tuple(drawing.nodes), tuple(inputs.values()))
        try:
            checked(pipeline, VERSIONS)
        except Refused as error:
            assume("nothing that it gives is used" not in str(error))
            if "no step takes it" not in str(error):
                raise
            del inputs[str(error).partition(":")[0].removeprefix("inputs.")]
            assume(inputs)
            continue
        return pipeline


class Failed(Exception):
    """A model failed."""


def plainly(
    pipeline: Pipeline, name: str, there: Mapping[str, Tensor], fails: Callable[[str], bool]
) -> dict[str, Tensor]:
    """What a node gives, read from the text alone."""
    node = next(each for each in pipeline.nodes if each.name == name)

    def ask(step: Step, there: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if step.node:
            given = plainly(pipeline, step.node, there, fails)
        elif fails(step.model):
            raise Failed
        else:
            given = FUNCTIONS[step.model]({own: there[here] for own, here in step.inputs.items()})
        return {step.outputs[own]: tensor for own, tensor in given.items() if own in step.outputs}

    if node.kind is Kind.SEQUENCE:
        now = dict(there)
        for step in node.steps:
            try:
                now |= ask(step, now)
            except Failed:
                if not step.is_soft:
                    raise
        return {name: now[name] for name in node.outputs}
    if node.kind is Kind.ENSEMBLE:
        answers = []
        for step in node.steps:
            try:
                answers.append((ask(step, there), step.weight))
            except Failed:
                if not step.is_soft:
                    raise
        if not answers:
            raise Failed
        total = sum(weight for _, weight in answers)
        return {
            name: sum(given[name].astype(float) * weight for given, weight in answers) / total  # type: ignore[misc]
            for name in node.outputs
        }
    if node.kind is Kind.SPLITTER:
        # The key is absent and chance is told to take the last branch.
        return ask(node.steps[-1], there)
    for step in node.steps:
        if step.when is None or _holds(step.when, there[step.when.tensor]):
            return ask(step, there)
    raise AssertionError("the last branch has no condition")


def _holds(condition: Condition, tensor: Tensor) -> bool:
    rows = [[float(value) for value in row] for row in tensor]
    taken = {
        Take.EACH: [value for row in rows for value in row],
        Take.MAX: [max(row) for row in rows],
        Take.ARGMAX: [float(row.index(max(row))) for row in rows],
    }[condition.take]
    value = condition.values[0]
    compare = {Op.LT: lambda it: it < value, Op.GE: lambda it: it >= value, Op.NE: lambda it: it != value}
    each = [compare[condition.op](it) for it in taken]
    return all(each) if condition.over is Over.ALL else any(each)


class Ask:
    """Answers models' requests when told to, in an order of its own."""

    def __init__(self, seed: int, fails: Callable[[str], bool]) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.random = random.Random(seed)
        self.fails = fails
        self.asked = 0
        self.cancelled = 0

    def submit_model(self, wish: Wish, request: InferenceRequest, done: Callable[[object], None]) -> "Ask":
        self.asked += 1

        def answer() -> None:
            if self.fails(wish.model):
                done(Unavailable(f"{wish.model} is away"))
                return
            given = FUNCTIONS[wish.model](request.inputs)
            done(InferenceAnswer(request.id, wish.model, 1, {name: given[name] for name in request.outputs or given}))

        self.waiting.append(answer)
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(self.random.randrange(len(self.waiting)))()


def find(tenant: str, model: str, version: str) -> ModelRecord:
    return ModelRecord(tenant, model, 1, "", 1, "file", VERSIONS[model, version], datetime(2026, 1, 1, tzinfo=UTC))


def plan_of(pipeline: Pipeline, ask: Ask) -> PipelinePlan:
    _, signature = checked(pipeline, VERSIONS)
    uses = tuple(Use(model, version, VERSIONS[model, version]) for model, version in pipeline.uses())
    now = Revision(3, pipeline, "", datetime(2026, 1, 1, tzinfo=UTC))
    record = PipelineRecord("default", pipeline.name, now, signature, uses)
    return PipelinePlan(record, Engine(ask.submit_model, find, FakeClock(), chance=lambda: 0.999999))


@settings(max_examples=150, deadline=None)
@given(
    pipelines(), st.integers(0, 9), st.sets(st.sampled_from(("double", "negate", "add", "both", "scaler")), max_size=2)
)
def test_a_pipeline_gives_what_its_text_says(pipeline: Pipeline, seed: int, away: set[str]) -> None:
    ask = Ask(seed, away.__contains__)
    plan = plan_of(pipeline, ask)
    answers: list[object] = []
    wanted = [spec.name for spec in plan.told.signature.inputs]
    request = InferenceRequest("7", {name: REQUEST[name] for name in wanted})
    plan.submit(Wish("default", "random"), request, answers.append)
    assert (plan.in_flight, len(answers)) in ((1, 0), (0, 1))
    ask.run()
    (answer,) = answers
    assert plan.in_flight == 0
    try:
        expected = plainly(pipeline, "n-0", REQUEST, away.__contains__)
    except Failed:
        assert isinstance(answer, Unavailable)
        assert "step" in str(answer)
        return
    assert isinstance(answer, InferenceAnswer), answer
    assert (answer.id, answer.model, answer.version) == ("7", "random", 3)
    assert list(answer.outputs) == [spec.name for spec in plan.told.signature.outputs]
    for name, tensor in answer.outputs.items():
        np.testing.assert_allclose(tensor, expected[name], rtol=1e-4, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(pipelines())
def test_what_can_be_one_model_is_put_together_as_its_text_says(pipeline: Pipeline) -> None:
    graph, signature = checked(pipeline, VERSIONS)
    recipe = recipe_of(graph)
    if not isinstance(recipe, Recipe):
        assert "node" in recipe.because
        return
    given = {spec.name: REQUEST[spec.name] for spec in signature.inputs}
    expected = plainly(pipeline, "n-0", REQUEST, set[str]().__contains__)
    for name, tensor in computed(recipe, given, lambda stage, inputs: FUNCTIONS[stage.model](inputs)).items():
        np.testing.assert_allclose(tensor, expected[name], rtol=1e-4, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(pipelines(), st.integers(0, 9), st.integers(0, 12))
def test_a_caller_that_goes_away_is_answered_once_and_nothing_is_asked_any_more(
    pipeline: Pipeline, seed: int, steps: int
) -> None:
    ask = Ask(seed, set[str]().__contains__)
    plan = plan_of(pipeline, ask)
    answers: list[object] = []
    request = InferenceRequest("7", {spec.name: REQUEST[spec.name] for spec in plan.told.signature.inputs})
    ticket = plan.submit(Wish("default", "random"), request, answers.append)
    for _ in range(min(steps, len(ask.waiting))):
        ask.waiting.pop()()
    under_way = len(ask.waiting)
    is_over = bool(answers)
    ticket.cancel()
    asked = ask.asked
    ask.run()
    ticket.cancel()
    assert (len(answers), plan.in_flight, ask.asked) == (1, 0, asked)
    assert ask.cancelled == (0 if is_over else under_way)
