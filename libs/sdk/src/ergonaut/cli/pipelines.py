"""`ergonaut pipelines`: graphs of models that are asked as one: applied, checked, shown, removed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.text import Text
from rich.tree import Tree

from ergonaut.api.inference.v1 import inference_pb2  # fmt: skip
from ergonaut.api.inference.v1 import pipelines_pb2 as pb
from ergonaut.cli.output import JSON_OPTION, ask, out, print_json, print_table, telling_errors
from ergonaut.pipelinefile import as_document, condition_document, load_pipeline

JsonFlag = Annotated[bool, JSON_OPTION]
Name = Annotated[str, typer.Argument(help="The pipeline's name.")]
File = Annotated[Path, typer.Argument(help="A YAML or JSON file.")]

DEPTH_MAX = 8
"""As deep as the gateway takes; a file that nobody checked may be a circle."""

app = typer.Typer(
    help="Pipelines: graphs of models that are asked as one. Predictions are asked by the pipeline's name.\n\n"
    "Example: ergonaut pipelines list",
    no_args_is_help=True,
)


def register(parent: typer.Typer) -> None:
    """Add these commands to the CLI."""
    parent.add_typer(app, name="pipelines", rich_help_panel="Models")


@app.command("apply")
def apply(
    file: File,
    expected: Annotated[
        int | None, typer.Option("--expected", metavar="REVISION", help="Only if it has this revision now; 0 for none.")
    ] = None,
    because: Annotated[str, typer.Option("--because", help="Why, for people.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Serve a pipeline from now on, after its models are loaded; requests follow at once.

    Example: ergonaut pipelines apply examples/pipelines/digits.yaml
    """
    with telling_errors():
        pipeline = load_pipeline(file)
        if because:
            pipeline.because = because
        served = ask(lambda client: client.pipelines.apply(pipeline, expected=expected))
        if as_json:
            print_json(served)
            return
        out.print(f"{served.pipeline.name} is served as revision {served.pipeline.revision}", markup=False)
        _print_sides(served)
        _print_fusions(served.fusions)


@app.command("check")
def check(file: File, as_json: JsonFlag = False) -> None:
    """Tell whether a pipeline fits together with the models that are there; keeps nothing.

    Example: ergonaut pipelines check examples/pipelines/digits.yaml
    """
    with telling_errors():
        served = ask(lambda client: client.pipelines.check(load_pipeline(file)))
        if as_json:
            print_json(served)
            return
        out.print(f"{served.pipeline.name} fits together", markup=False)
        _print_sides(served)
        _print_fusions(served.fusions)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the pipelines.

    Example: ergonaut pipelines list
    """
    with telling_errors():
        found = ask(lambda client: client.pipelines.all())
        if as_json:
            print_json(found)
            return
        rows = [
            (
                each.pipeline.name,
                str(each.pipeline.revision),
                _names(each.takes),
                _names(each.gives),
                str(sum(bool(fusion.model) for fusion in each.fusions)),
                each.pipeline.changed_by or "-",
            )
            for each in found
        ]
        columns = ("pipeline", "revision", "takes", "gives", "fused nodes", "changed by")
        print_table("", columns, rows, right=("revision", "fused nodes"))


@app.command("get")
def get(name: Name, as_json: JsonFlag = False) -> None:
    """Print a pipeline as a file that can be applied; as JSON with what it was before.

    Example: ergonaut pipelines get digits-checked > digits-checked.yaml
    """
    with telling_errors():
        told = ask(lambda client: client.pipelines.get(name))
        if as_json:
            print_json(told)
            return
        text = yaml.safe_dump(as_document(told.pipeline.pipeline), sort_keys=False, width=110)
        out.print(text, markup=False, soft_wrap=True, end="")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="The pipeline's name, or a file.")],
    as_json: JsonFlag = False,
) -> None:
    """Draw a pipeline as a tree: what each step asks, takes and gives, and which nodes are one model.

    Example: ergonaut pipelines show digits-checked
    """
    with telling_errors():
        if Path(name).is_file():
            served = pb.ServedPipeline(pipeline=load_pipeline(Path(name)))
        else:
            served = ask(lambda client: client.pipelines.get(name)).pipeline
        if as_json:
            print_json(served)
            return
        title = f"{served.pipeline.name}" + (f", revision {served.pipeline.revision}" if served.takes else "")
        out.print(title, markup=False)
        _print_sides(served)
        out.print(_tree(served))


@app.command("remove")
def remove(name: Name, as_json: JsonFlag = False) -> None:
    """Serve a pipeline no longer; its models are still served.

    Example: ergonaut pipelines remove digits-checked
    """
    with telling_errors():
        ask(lambda client: client.pipelines.remove(name))
        if as_json:
            print_json({"name": name, "removed": True})
        else:
            out.print(f"{name} is served no longer; its models are", markup=False)


def _print_sides(served: pb.ServedPipeline) -> None:
    for kind, tensors in (("takes", served.takes), ("gives", served.gives)):
        for tensor in tensors:
            out.print(f"  {kind} {tensor.name} {tensor.datatype} {list(tensor.shape)}", markup=False)


def _print_fusions(fusions: Iterable[pb.PipelineFusion]) -> None:
    for fusion in fusions:
        out.print(f"  node {fusion.node} {_fused(fusion)}", markup=False, soft_wrap=True)


def _fused(fusion: pb.PipelineFusion) -> str:
    if fusion.model:
        return f"is one model, {fusion.model}: {fusion.because}"
    return f"is asked step by step: {fusion.because}" if fusion.because else "might be one model"


def _names(tensors: Iterable[inference_pb2.TensorSpec]) -> str:
    return ", ".join(tensor.name for tensor in tensors)


def _tree(served: pb.ServedPipeline) -> Tree:
    nodes = {node.name: node for node in served.pipeline.nodes}
    fusions = {fusion.path: fusion for fusion in served.fusions}
    first = served.pipeline.nodes[0]
    tree = Tree(Text(_node_line(first, fusions.get(""))))
    _grow(tree, first, nodes, fusions, ("",))
    return tree


def _grow(
    tree: Tree,
    node: pb.PipelineNode,
    nodes: dict[str, pb.PipelineNode],
    fusions: dict[str, pb.PipelineFusion],
    way: tuple[str, ...],
) -> None:
    for number, step in enumerate(node.steps, 1):
        branch = tree.add(Text(_step_line(node, number, step)))
        inner = nodes.get(step.node)
        if inner is not None and len(way) < DEPTH_MAX:
            path = f"{way[-1]}/{_name(step)}".lstrip("/")
            branch.add(Text(_node_line(inner, fusions.get(path))))
            _grow(branch.children[-1], inner, nodes, fusions, (*way, path))


def _node_line(node: pb.PipelineNode, fusion: pb.PipelineFusion | None) -> str:
    kind = pb.NodeKind.Name(node.kind).removeprefix("NODE_KIND_").lower()
    how = f" by {pb.Combination.Name(node.combine).removeprefix('COMBINATION_').lower()}" if node.combine else ""
    key = node.key_parameter and f"parameter {node.key_parameter}"
    key = key or (node.key_tensor and f"tensor {node.key_tensor}")
    gives = f" -> {', '.join(node.outputs)}" if node.outputs else ""
    told = f"  ({_fused(fusion)})" if fusion is not None else ""
    return f"{node.name}: {kind}{how}{f' by the hash of {key}' if key else ''}{gives}{told}"


def _step_line(node: pb.PipelineNode, number: int, step: pb.PipelineStep) -> str:
    if step.model:
        version = f" {step.version}" if step.version else ""
        told = f"{number} {_name(step)}: model {step.model}{version}"
    elif step.node:
        told = f"{number} {_name(step)}: node {step.node}"
    else:
        told = f"{number} {_name(step)}: hands on"
    if step.HasField("when"):
        condition = condition_document(step.when)
        what = condition.get("tensor") or f"parameter {condition.get('parameter')}"
        taken = f"{condition['take']} of " if "take" in condition else ""
        over = " for any" if condition.get("over") == "any" else ""
        told += f"  when {taken}{what} {condition['op']} {condition['value']}{over}"
    elif node.kind == pb.NODE_KIND_SWITCH:
        told += "  else"
    if step.HasField("weight"):
        told += f"  weight {step.weight:g}"
    names = [f"{own} <- {here}" for own, here in sorted(step.inputs.items())]
    names += [own if own == here else f"{own} -> {here}" for own, here in sorted(step.outputs.items())]
    return told + (f"  [{', '.join(names)}]" if names else "") + ("  soft" if step.soft else "")


def _name(step: pb.PipelineStep) -> str:
    return step.name or step.model or step.node or "pass"
