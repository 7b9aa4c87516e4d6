"""A pipeline's file is read as its writer meant it, or refused with the field that is wrong; what is written reads the same."""

from pathlib import Path

import pytest
import typer

from ergonaut.api.inference.v1 import pipelines_pb2 as pb
from ergonaut.cli import pipelines as commands
from ergonaut.errors import NotFound, Refused
from ergonaut.pipelinefile import as_document, load_pipeline, read_pipeline

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "pipelines").glob("*.yaml"))
WHOLE = """\
name: checked
because: "it is better"
inputs: {image: "FP32 [-1, 64]", words: }
nodes:
  main:
    sequence:
      - {model: scaler, version: 3, inputs: {X: image}, outputs: {variable: scaled}}
      - {name: quick, model: small, dependency: soft}
      - {node: choose}
    outputs: [label]
  choose:
    switch:
      - {pass: {label: label}, when: {tensor: probabilities, take: max, op: ge, value: 0.9, over: any}}
      - {pass: [label], name: again, when: {parameter: user, op: in, value: [ann, bob]}}
      - {node: both}
  both:
    ensemble: [{model: small, weight: 2}, {model: large, weight: 1}]
    combine: concat
    axis: 1
  drawn:
    splitter: [{model: small, weight: 9}, {model: large, weight: 1}]
    key: {parameter: user}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "pipeline.yaml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read_and_written_again(tmp_path: Path) -> None:
    pipeline = load_pipeline(written(tmp_path, WHOLE))
    assert [(spec.name, spec.datatype, list(spec.shape)) for spec in pipeline.inputs] == [
        ("image", "FP32", [-1, 64]),
        ("words", "", []),
    ]
    main, choose, both, drawn = pipeline.nodes
    assert (main.kind, [*main.outputs]) == (pb.NODE_KIND_SEQUENCE, ["label"])
    assert (main.steps[0].version, dict(main.steps[0].inputs), main.steps[1].soft) == ("3", {"X": "image"}, True)
    sure, named, _ = choose.steps
    assert (sure.when.op, sure.when.take, sure.when.any) == (pb.COMPARISON_GE, pb.REDUCTION_MAX, True)
    assert [value.text for value in named.when.values] == ["ann", "bob"]
    assert (both.combine, both.axis, [step.weight for step in both.steps]) == (pb.COMBINATION_CONCAT, 1, [2, 1])
    assert drawn.key_parameter == "user"
    assert read_pipeline(as_document(pipeline), told="told") == pipeline


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_pipelines(path: Path) -> None:
    pipeline = load_pipeline(path)
    assert read_pipeline(as_document(pipeline), told="told") == pipeline


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nodes: {main: {sequence: [{model: a}]}}", "name: is missing; it must be given"),
        ("name: a\nnodes: {}", "nodes: Dictionary should have at least 1 item"),
        (
            "name: a\nnodes: {main: {}}",
            "nodes.main.sequence: a node has steps under one of sequence, ensemble, splitter",
        ),
        (
            "name: a\nnodes: {main: {sequence: [{}]}}",
            "nodes.main.sequence[0].model: a step names one of model, node and pass",
        ),
        ("name: a\nnodes: {main: {sequense: []}}", "nodes.main.sequense: is no field; did you mean sequence?"),
        ("name: a\nnodes: {main: {sequence: [{model: b, wait: 1}]}}", "nodes.main.sequence[0].wait: is no field"),
        (
            "name: a\nnodes: {main: {switch: [{model: b, when: {tensor: x, op: eq, value: [1]}}]}}",
            "nodes.main.switch[0].when.value: is a list for `in`, and one value for all other comparisons",
        ),
        (
            "name: a\ninputs: {x: FP32}\nnodes: {main: {sequence: [{model: b}]}}",
            "inputs.x: 'FP32' is not such as FP32 [-1, 64]",
        ),
        ("name: a\nname: b", "this is no YAML: name is given twice, line 2"),
        ("- a", "a pipeline has fields such as `name: digits-checked`, and this one does not"),
        ("a: [", "this is no YAML: "),
        ("a: &x [*x]", "a: is no field; known are name, nodes, inputs, because"),
        (b"\xff\xfe\x00", "this is no YAML: "),
    ],
)
def test_what_is_no_pipeline_is_refused_by_its_field(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Refused) as refused:
        load_pipeline(path)
    assert sentence in str(refused.value)


def test_a_file_that_is_not_there_or_is_some_other_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no pipeline file"):
        load_pipeline(tmp_path / "nothing.yaml")
    with pytest.raises(Refused, match="is larger than 1 MiB"):
        load_pipeline(written(tmp_path, "#" * 1_100_000))


app = typer.Typer()
commands.register(app)
GROUP = typer.main.get_command(app)


@pytest.mark.parametrize("name", commands.app.registered_commands, ids=lambda each: each.name)
def test_every_command_has_help_with_an_example_and_speaks_json(name: "typer.models.CommandInfo") -> None:
    group = GROUP.commands["pipelines"] if "pipelines" in getattr(GROUP, "commands", {}) else GROUP  # type: ignore[attr-defined]
    command = group.commands[name.name]  # type: ignore[attr-defined]
    assert f"ergonaut pipelines {name.name}" in command.help.partition("Example: ")[2]
    assert any("--json" in parameter.opts for parameter in command.params)
