"""Whatever somebody writes as a pipeline is checked within its bounds, or refused in one sentence; nothing else comes of it."""

import contextlib
from dataclasses import replace

import msgspec
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.api.inference.v1 import pipelines_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_gateway.domain.models import TensorSpec
from ergonaut_gateway.domain.pipelines.checking import checked
from ergonaut_gateway.domain.pipelines.forms import DEPTH_MAX, STEPS_MAX
from ergonaut_gateway.domain.pipelines.recipes import candidates
from ergonaut_gateway.domain.pipelines.spec import Combine, Condition, Kind, Node, Op, Over, Pipeline, Step, Take
from ergonaut_gateway.protocol.pipeline_wire import pipeline_of, told_pipeline

from .pipeline_forms import SIGNATURES, known

NAMES = st.sampled_from(("a", "b", "c", "x", "y", "label", "probabilities", "", "\n", "é" * 300))
GOOD = st.sampled_from(("a", "b", "c", "x", "y", "label", "probabilities"))
NODES = st.sampled_from(("n-0", "n-1", "n-2", ""))
MAPS = st.dictionaries(GOOD, GOOD, max_size=2)
VALUES = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=True), st.text(max_size=3))
CONDITIONS = st.builds(
    Condition,
    tensor=st.one_of(GOOD, NAMES),
    parameter=st.sampled_from(("", "", "user")),
    op=st.sampled_from(Op),
    values=st.lists(VALUES, max_size=2).map(tuple),
    take=st.sampled_from(Take),
    over=st.sampled_from(Over),
)
STEPS = st.builds(
    Step,
    name=st.sampled_from(("s-0", "s-1", "s-2", "s-3")),
    model=st.sampled_from(("", *SIGNATURES)),
    version=st.sampled_from(("", "", "1")),
    node=st.one_of(st.just(""), NODES),
    inputs=MAPS,
    outputs=MAPS,
    is_soft=st.booleans(),
    weight=st.sampled_from((1.0, 1.0, 0.0, 2.0, -1.0, float("nan"), float("inf"))),
    when=st.one_of(st.none(), CONDITIONS),
)
PIPELINES = st.builds(
    Pipeline,
    name=st.sampled_from(("p", "", "P!")),
    nodes=st.lists(
        st.builds(
            Node,
            name=NODES,
            kind=st.sampled_from(Kind),
            steps=st.lists(STEPS, max_size=4).map(tuple),
            outputs=st.lists(GOOD, max_size=2).map(tuple),
            combine=st.sampled_from(Combine),
            axis=st.sampled_from((-1, -1, 0, 1, 9)),
            key_parameter=st.sampled_from(("", "", "user")),
            key_tensor=st.sampled_from(("", "", "x", "label")),
        ),
        max_size=3,
    ).map(tuple),
    inputs=st.lists(
        st.builds(
            TensorSpec,
            name=NAMES,
            datatype=st.sampled_from(("", "FP32", "BYTES", "FP99")),
            shape=st.lists(st.integers(-2, 4), max_size=3).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
)


@st.composite
def nearly_right(draw: st.DrawFn) -> Pipeline:
    """Well formed, so that what is wrong, if anything, is how it fits together."""
    nodes = []
    for at in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(Kind))
        combine = draw(st.sampled_from(Combine)) if kind is Kind.ENSEMBLE else Combine.NAMES
        is_weighted = kind is Kind.SPLITTER or combine in (Combine.WEIGHTED_MEAN, Combine.VOTE)
        count = draw(st.integers(1, 3))
        steps = []
        for number in range(count):
            step = draw(fitting_steps(at))
            if kind is Kind.SWITCH and number < count - 1:
                step = replace(step, when=draw(CONDITIONS))
            if is_weighted:
                step = replace(step, weight=float(draw(st.integers(1, 3))))
            can_be_soft = kind is Kind.SEQUENCE or combine in (Combine.MEAN, Combine.WEIGHTED_MEAN, Combine.VOTE)
            if can_be_soft and (step.model or step.node):
                step = replace(step, is_soft=draw(st.booleans()))
            steps.append(replace(step, name=f"s-{number}"))
        outputs = tuple(draw(st.lists(GOOD, max_size=2, unique=True)))
        key = draw(st.sampled_from(("", "x"))) if kind is Kind.SPLITTER else ""
        nodes.append(Node(f"n-{at}", kind, tuple(steps), outputs, combine, -1, "", key))
    inputs = draw(st.sampled_from(((), (TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("x", "", ()),))))
    return Pipeline("p", tuple(nodes), inputs)


@st.composite
def fitting_steps(draw: st.DrawFn, node: int) -> Step:
    """A step that asks a model by its own names, a later node, or nothing."""
    what = draw(st.sampled_from(("model", "model", "model", "node", "pass")))
    if what == "pass":
        return Step("s", outputs=draw(st.dictionaries(GOOD, GOOD, min_size=1, max_size=2)))
    if what == "node" and node < 2:
        return Step("s", node=f"n-{node + 1}", outputs=draw(MAPS))
    model = draw(st.sampled_from([*SIGNATURES]))
    takes, gives = ([spec.name for spec in side] for side in (SIGNATURES[model].inputs, SIGNATURES[model].outputs))
    inputs = draw(st.dictionaries(st.sampled_from(takes), GOOD, max_size=2))
    outputs = draw(st.dictionaries(st.sampled_from(gives), GOOD, max_size=2))
    return Step("s", model, draw(st.sampled_from(("", "1"))), inputs=inputs, outputs=outputs)


@settings(max_examples=300, deadline=None)
@given(st.one_of(nearly_right(), nearly_right(), PIPELINES))
def test_any_pipeline_is_checked_or_refused(pipeline: Pipeline) -> None:
    try:
        graph, signature = checked(pipeline, known("1"))
    except Refused:
        return
    # Whatever is let in can be recorded and is read as it was.
    assert msgspec.json.decode(msgspec.json.encode(pipeline), type=Pipeline) == pipeline
    calls = [*graph.all_calls()]
    assert [call.index for call in calls] == [*range(len(calls))]
    assert len(calls) <= STEPS_MAX
    assert max(each.path.count("/") for each in graph.walk()) < DEPTH_MAX
    assert signature.outputs
    for _, recipe in candidates(graph):
        assert recipe is not None


@settings(max_examples=150, deadline=None)
@given(st.one_of(nearly_right(), PIPELINES), st.binary(max_size=40))
def test_any_message_is_a_pipeline_or_refused(pipeline: Pipeline, noise: bytes) -> None:
    try:
        message = told_pipeline(pipeline)
    except UnicodeEncodeError:
        return
    try:
        message.MergeFromString(noise)
    except DecodeError:
        message = pb.Pipeline()
    with contextlib.suppress(Refused):
        read = pipeline_of(message)
        # The service asks the registry for each model before; the noise may have made some up.
        checked(read, {use: SIGNATURES.get(use[0], SIGNATURES["double"]) for use in read.uses()})
