"""A pipeline fits together, or is refused with one sentence that names node and step."""

import pytest

from ergonaut.errors import Refused
from ergonaut_gateway.domain.models import TensorSpec
from ergonaut_gateway.domain.pipelines.checking import checked
from ergonaut_gateway.domain.pipelines.graph import Graph, ModelCall
from ergonaut_gateway.domain.pipelines.spec import Combine, Condition, Op, Over, Pipeline, Take

from .pipeline_forms import hand_on, known, node, pipeline, spec, step, to

SURE = Condition("probabilities", op=Op.GE, values=(0.9,), take=Take.MAX)


def told(specs: tuple[TensorSpec, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {each.name: (each.datatype, each.shape) for each in specs}


def test_outputs_lead_to_inputs_by_name_or_where_there_is_one_for_one() -> None:
    graph, signature = checked(pipeline(node("sequence", step("scaler"), step("classify"))), known())
    assert told(signature.inputs) == {"x": ("FP32", (-1, 3))}
    assert told(signature.outputs) == {"probabilities": ("FP32", (-1, 3)), "label": ("INT64", (-1,))}
    # The classifier's input is called x as the request's is, and takes what the step before gave all the same.
    assert graph.calls[1].takes == (("x", "scaled"),)


def test_names_can_be_given_to_what_a_step_takes_and_gives() -> None:
    steps = (step("both", inputs={"x": "image"}), step("add", inputs={"a": "p", "b": "image"}, outputs={"y": "sum"}))
    graph, signature = checked(pipeline(node("sequence", *steps)), known())
    assert [*told(signature.inputs)] == ["image"]
    assert [*told(signature.outputs)] == ["sum"]
    # Only what is used is asked for.
    assert isinstance(graph.calls[0].asks, ModelCall)
    assert graph.calls[0].asks.outputs == ("p",)


def test_a_pipeline_may_say_what_requests_give_and_for_conditions_must() -> None:
    language = Condition("language", op=Op.IN, values=("de", "fr"), over=Over.ANY)
    nodes = (node("switch", step("double", when=language), step("negate")),)
    with pytest.raises(Refused, match="nothing gives language; nothing is there yet; declare it under inputs"):
        checked(pipeline(*nodes), known())
    inputs = (spec("x", ""), spec("language", "BYTES", -1))
    _, signature = checked(pipeline(*nodes, inputs=inputs), known())
    assert told(signature.inputs) == {"x": ("FP32", (-1, 3)), "language": ("BYTES", (-1,))}


def test_a_name_that_nobody_declared_is_a_slip_of_the_pen_where_inputs_are_declared() -> None:
    with pytest.raises(Refused) as refused:
        checked(pipeline(node("sequence", step("double", inputs={"x": "imgae"})), inputs=(spec("image", ""),)), known())
    assert str(refused.value) == (
        "node main, step 1 (double): nothing gives imgae; there are image; say where it is from"
    )


def test_the_one_declared_input_leads_to_the_one_input_of_the_first_steps() -> None:
    first = node("ensemble", step("double"), step("negate"), combine=Combine.MEAN)
    _, signature = checked(pipeline(first, inputs=(spec("image", ""),)), known())
    assert [*told(signature.inputs)] == ["image"]


@pytest.mark.parametrize(
    ("how", "outputs"),
    [
        (Combine.NAMES, {"double_y": ("FP32", (-1, 3)), "negate_y": ("FP32", (-1, 3))}),
        (Combine.MEAN, {"y": ("FP32", (-1, 3))}),
        (Combine.CONCAT, {"y": ("FP32", (-1, 6))}),
    ],
)
def test_an_ensemble_gives_what_its_branches_give_combined(
    how: Combine, outputs: dict[str, tuple[str, tuple[int, ...]]]
) -> None:
    _, signature = checked(pipeline(node("ensemble", step("double"), step("negate"), combine=how)), known())
    assert told(signature.outputs) == outputs


def test_branches_of_other_lengths_give_a_free_axis() -> None:
    first = node("splitter", step("double"), step("wide", inputs={"x": "w"}))
    _, signature = checked(pipeline(first), known())
    assert told(signature.outputs) == {"y": ("FP32", (-1, -1))}


def test_nodes_lie_within_nodes_and_see_what_is_there() -> None:
    nodes = (
        node("sequence", step("classify"), to("sure-enough")),
        node("switch", hand_on("label", when=SURE), to("again"), name="sure-enough"),
        node("sequence", step("other", inputs={"x": "x"}), name="again", outputs=("label",)),
    )
    graph, signature = checked(pipeline(*nodes), known())
    assert told(signature.outputs) == {"label": ("INT64", (-1,))}
    paths = {each.path: [spec.name for spec in each.inputs] for each in graph.walk()}
    assert paths == {"": ["x"], "sure-enough": ["label", "probabilities", "x"], "sure-enough/again": ["x"]} or {
        path: sorted(names) for path, names in paths.items()
    } == {"": ["x"], "sure-enough": ["label", "probabilities", "x"], "sure-enough/again": ["x"]}


def test_a_node_may_be_asked_at_several_places_by_other_names() -> None:
    nodes = (
        node(
            "sequence",
            to("twice", name="first", inputs={"x": "image"}, outputs={"y": "z"}),
            to("twice", name="second", inputs={"x": "z"}),
        ),
        node("sequence", step("double"), step("double", name="again", inputs={"x": "y"}), name="twice"),
    )
    graph, signature = checked(pipeline(*nodes), known())
    assert [*told(signature.inputs)] == ["image"]
    assert [call.index for call in graph.all_calls()] == [0, 1, 2, 3, 4, 5]


def test_a_soft_step_may_replace_what_is_there_and_is_then_as_sure_as_that() -> None:
    first = node("sequence", step("double", is_soft=True, outputs={"y": "x"}), step("classify"), outputs=("label",))
    graph, signature = checked(pipeline(first), known())
    assert [*told(signature.inputs)] == ["x"]
    assert graph.calls[0].is_soft


def test_the_first_axis_stays_free_as_far_as_the_models_leave_it_free() -> None:
    fixed = {("rows", ""): known()["double", ""].__class__((spec("x", "FP32", 1, 3),), (spec("y", "FP32", 1, 3),))}
    _, signature = checked(pipeline(node("sequence", step("rows"))), {**known(), **fixed})
    assert told(signature.inputs) == {"x": ("FP32", (1, 3))}


def one(*steps: object, kind: str = "sequence", **more: object) -> Pipeline:
    return pipeline(node(kind, *steps, **more))  # type: ignore[arg-type]


def chain(depth: int) -> Pipeline:
    nodes = [node("sequence", to(f"n-{at + 1}"), name=f"n-{at}") for at in range(depth - 1)]
    return pipeline(*nodes, node("sequence", step("double"), name=f"n-{depth - 1}"))


def crowd(count: int) -> Pipeline:
    steps = [step("double", name=f"s-{at}", inputs={"x": "y" if at else "x"}) for at in range(count)]
    return one(*steps)


def eights() -> Pipeline:
    steps = [step("double", name=f"s-{at}", inputs={"x": "y" if at else "x"}) for at in range(8)]
    times = [to("eight", name=f"e-{at}", inputs={"x": "y" if at else "x"}) for at in range(4)]
    return pipeline(node("sequence", *times), node("sequence", *steps, name="eight"))


IS_SWITCH = Condition("x", op=Op.GT, values=(0,))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            one(step("double"), step("texts")),
            "node main, step 2 (texts): model texts takes words as BYTES [-1], and y is ",
        ),
        (
            one(step("double"), step("wide")),
            "node main, step 2 (wide): model wide takes x as FP32 [-1, 7], and y is FP32 [",
        ),
        (one(step("double", inputs={"z": "x"})), "node main, step 1 (double): model double has no input z; it takes x"),
        (one(step("double", outputs={"z": "y"})), "node main, step 1 (double): it gives no z; it gives y"),
        (one(step("double"), outputs=("label",)), "node main, outputs: nothing gives label; there are y, x; declare "),
        (
            one(step("double"), step("negate", inputs={"x": "x"})),
            "node main, step 1 (double): nothing that it gives is used",
        ),
        (one(to("nowhere")), "node main, step 1 (nowhere): there is no node nowhere; there are main"),
        (one(to("main")), "node main, step 1 (main): node main would ask itself: main > main"),
        (
            pipeline(node("sequence", to("b"), name="a"), node("sequence", to("a"), name="b")),
            "node b, step 1 (a): node a would ask itself: a > b > a",
        ),
        (
            pipeline(node("sequence", step("double")), node("sequence", step("add"), name="lone")),
            "node lone: no step asks it",
        ),
        (chain(9), "node n-8: is 9 nodes deep, at most 8 are taken"),
        (
            eights(),
            "node eight, step 5 (s-4): is one too many: at most 32 steps are taken, each counted where it is asked",
        ),
        (crowd(33), "node main: a node has 1 to 32 steps, this has 33"),
        (one(step("double"), step("double")), "node main: two steps are called double"),
        (one(step("Double!")), "node main: 'Double!' cannot be a step's name; use 1 to 63"),
        (
            one(step("double", is_soft=True), step("negate")),
            "node main, step 2 (negate): y comes from node main, step 1 (double), which is soft and may give nothing; make",
        ),
        (
            one(step("classify", is_soft=True, outputs={"label": "x"}), step("double")),
            "node main, step 1 (classify): is soft and gives x as INT64 [-1], and where it fails x is FP32 [-1, 3]",
        ),
        (
            one(step("double", is_soft=True), step("negate"), kind="splitter"),
            "node main, step 1 (double): a branch of a splitter cannot be soft; make the step soft that asks this node",
        ),
        (
            one(step("double", is_soft=True), step("negate"), kind="ensemble"),
            "node main, step 1 (double): an ensemble by names needs all its branches; take out soft",
        ),
        (
            one(step("double", weight=2.0)),
            "node main, step 1 (double): a weight means nothing in a sequence; take it out",
        ),
        (
            one(step("double", weight=-1.0), kind="splitter"),
            "node main, step 1 (double): its weight is -1; it must be a number of at least 0",
        ),
        (one(step("double", weight=0.0), kind="splitter"), "node main: no branch has a weight above 0"),
        (
            one(step("double", weight=2.0), kind="ensemble", combine=Combine.MEAN),
            "node main, step 1 (double): a weight means nothing in an ensemble by mean; take it out",
        ),
        (
            one(step("double"), step("classify"), kind="ensemble", combine=Combine.MEAN),
            "node main, step 2 (classify): gives no y, which the node gives; it gives probabilities, label; rename it",
        ),
        (
            one(step("double"), step("other", outputs={"label": "y"}), kind="splitter", outputs=("y",)),
            "node main, step 2 (other): gives y as INT64 [-1], and those before it as FP32 [-1, 3]",
        ),
        (
            one(step("classify"), step("other"), kind="ensemble", combine=Combine.MEAN),
            "node main: mean of label cannot be taken: it is INT64, and not one of FP16, FP32, FP64",
        ),
        (
            one(step("double"), step("negate"), kind="ensemble", combine=Combine.VOTE),
            "node main: vote of y cannot be taken: it is FP32, and not one of BOOL, INT8,",
        ),
        (
            one(step("double"), step("negate"), kind="ensemble", combine=Combine.CONCAT, axis=0),
            "node main: answers are put behind one another along an axis after the first, and FP32 [-1, 3] has no axis 0",
        ),
        (one(step("double"), axis=1), "node main: a sequence combines no answers; take out combine and axis"),
        (
            one(step("double"), key_parameter="user"),
            "node main: a key chooses the branch of a splitter, and this is a sequence",
        ),
        (
            one(step("double"), step("negate"), kind="switch"),
            "node main, step 1 (double): is never left for the branches behind it; give it a condition under when",
        ),
        (
            one(step("double", when=IS_SWITCH), kind="switch"),
            "node main, step 1 (double): the last branch of a switch is for when no condition holds; take out when",
        ),
        (
            one(step("double", when=IS_SWITCH)),
            "node main, step 1 (double): a condition chooses a branch of a switch, and",
        ),
        (
            one(step("double", when=Condition("x", "p", values=(1,))), step("negate"), kind="switch"),
            "node main, step 1 (double): its condition names a tensor or a parameter, and not both",
        ),
        (
            one(hand_on()),
            "node main, step 1 (pass): asks no model and no node, so it names under outputs what it hands on",
        ),
        (one(hand_on("x")), "node main, step 1 (pass): nothing gives x; nothing is there yet; declare it under inputs"),
        (
            pipeline(
                *(
                    node("sequence", *(step("double", name=f"s-{at}") for at in range(17)), name=f"n-{n}")
                    for n in (1, 2)
                )
            ),
            "nodes: a pipeline has at most 32 steps, this has 34",
        ),
        (
            one(step("double", outputs={f"{at}" + "n" * 190: "m" * 200 for at in range(64)})),
            "nodes: it takes 25",
        ),
        (pipeline(), "nodes: a pipeline has 1 to 32 nodes, this has 0"),
        (Pipeline("A b", (node("sequence", step("double")),)), "name: 'A b' cannot be a pipeline's name; use 1 to 63"),
        (
            pipeline(node("sequence", step("double")), inputs=(spec("x", ""), spec("z", "FP99"))),
            "inputs.z: 'FP99' is not one of BOOL, INT8",
        ),
        (
            pipeline(node("sequence", step("double")), inputs=(spec("x", ""), spec("z"))),
            "inputs.z: no step takes it; take it out, or let a step take it",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(wrong: Pipeline, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        checked(wrong, known())
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        (Condition("probabilities", op=Op.GE, values=("much",)), "compares probabilities, which is FP32, with texts"),
        (Condition("label", op=Op.EQ, values=(True,)), "compares label, which is INT64, with true or false"),
        (Condition("words", op=Op.LT, values=("a",)), "lt is of numbers, and words is BYTES"),
        (Condition("words", op=Op.EQ, values=("a",), take=Take.MAX), "max is of numbers, and words is BYTES"),
        (Condition("label", op=Op.IN), "in compares with one value; `in` takes several"),
        (Condition("label", op=Op.EQ, values=(1, 2)), "eq compares with one value; `in` takes several"),
        (Condition("label", op=Op.IN, values=(1, "a")), "has values of different kinds; give numbers, or texts, or"),
        (Condition("probabilities", op=Op.LT, values=(float("nan"),)), "has a value that is no finite number"),
        (Condition("probabilities", op=Op.LT, values=(float("inf"),)), "has a value that is no finite number"),
        (Condition("label", op=Op.IN, values=tuple(range(65))), "has 65 values, at most 64 are taken"),
        (Condition("", "flag", Op.LT, (True,)), "lt compares numbers or texts, not true and false"),
        (Condition("", "user", Op.EQ, ("a",), Take.MAX), "take and over are for tensors; a parameter has one value"),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(condition: Condition, why: str) -> None:
    nodes = (
        node("sequence", step("classify"), to("choose")),
        node("switch", hand_on("label", when=condition), hand_on("label", name="else"), name="choose"),
    )
    with pytest.raises(Refused) as refused:
        checked(pipeline(*nodes, inputs=(spec("x", ""), spec("words", "BYTES", -1))), known())
    assert str(refused.value).startswith(f"node choose, step 1 (pass): its condition {why}")


def test_eight_nodes_deep_and_thirty_two_steps_are_taken() -> None:
    graph, _ = checked(chain(8), known())
    assert len([*graph.walk()]) == 8
    graph, _ = checked(crowd(32), known())
    assert isinstance(graph, Graph)
    assert len([*graph.all_calls()]) == 32
