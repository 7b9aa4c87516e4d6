"""`ergonaut create`: a model becomes a service."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from ergonaut.cli.output import JSON_OPTION, err, out, print_json, telling_errors

if TYPE_CHECKING:
    from ergonaut.create.flow import Outcome, Step, Telling

JsonFlag = Annotated[bool, JSON_OPTION]

_MARKS = {"done": "[green]done[/]   ", "skipped": "[dim]skipped[/]", "warned": "[yellow]warned[/] "}


def register(app: typer.Typer) -> None:
    """Add this command to the CLI."""
    app.command("create", rich_help_panel="Models")(create)


def create(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A file, module:attribute, or hf:ID for a Hugging Face model.")] = "",
    name: Annotated[str, typer.Option("--name", help="The name to serve it under; else the file's own.")] = "",
    run: Annotated[str, typer.Option("--run", help="The run that trained it.")] = "",
    config: Annotated[Path | None, typer.Option("--config", help="A yaml or json file of these options.")] = None,
    example: Annotated[Path | None, typer.Option("--example", help="Inputs to try: .json, .npz or .csv.")] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="The right answers for the examples.")] = None,
    calibration: Annotated[Path | None, typer.Option("--calibration", help="Inputs that tell int8 ranges.")] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Open .pkl and .joblib, which run code of their maker.")
    ] = False,
    free_batch: Annotated[
        bool | None,
        typer.Option("--free-batch/--keep-batch", help="Let callers send many rows, where a run proves it."),
    ] = None,
    drop_maps: Annotated[
        bool | None, typer.Option("--drop-maps/--keep-maps", help="Give tensors where the model gives maps (ZipMap).")
    ] = None,
    absolute_max: Annotated[float, typer.Option("--absolute", help="Largest difference from the source.")] = 1e-4,
    relative_max: Annotated[float, typer.Option("--relative", help="The same, relative.")] = 1e-3,
    unlike_share_max: Annotated[float, typer.Option("--unlike", help="Share of values that may lie beyond.")] = 0.0,
    optimise: Annotated[str, typer.Option("--optimise", help="off, basic, extended or all (this CPU only).")] = "basic",
    quantise: Annotated[str, typer.Option("--quantise", help="int8: off, dynamic or static.")] = "off",
    accuracy_drop_max: Annotated[float, typer.Option("--accuracy-drop", help="Accuracy that int8 may cost.")] = 0.01,
    agreement_min: Annotated[float, typer.Option("--agreement", help="Share of answers int8 must keep.")] = 0.99,
    timeout_seconds: Annotated[float, typer.Option("--timeout", help="Seconds that each step may take.")] = 120.0,
    memory_mib_max: Annotated[int, typer.Option("--memory", help="MiB that each step may use.")] = 4096,
    sign_key: Annotated[Path | None, typer.Option("--sign", help="Private key, PEM, to sign it with.")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Also write the finished ONNX file.")] = None,
    export: Annotated[Path | None, typer.Option("--export", help="Write a project that deploys it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Export into a folder that holds other files.")] = False,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve it by the system that runs here.")] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; accept each change that is offered.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a service of a model: check, try, compare, optimise, quantise, sign, serve, export.

    Example: ergonaut create model.onnx --name digits
    """
    with telling_errors():
        from ergonaut.create import create as created
        from ergonaut.create.options import options_from

        outcome = created(options_from(config, _given(context)), _telling(yes=yes, as_json=as_json))
        if as_json:
            print_json(outcome.as_dict())
        else:
            _print(outcome)


def _given(context: typer.Context) -> dict[str, Any]:
    """What was given on the command line, so that a file's fields stand where nothing was."""
    fields = {name: value for name, value in context.params.items() if name not in ("config", "yes", "as_json")}
    sources = {name: context.get_parameter_source(name) for name in fields}
    return {name: value for name, value in fields.items() if (source := sources[name]) and source.name == "COMMANDLINE"}


def _telling(*, yes: bool, as_json: bool) -> "Telling":
    from ergonaut.create.flow import Telling

    asks = sys.stdin.isatty() and err.is_terminal and not yes and not as_json

    class Printed(Telling):
        """Says each step as it ends, and asks where a person sits."""

        def begun(self, name: str) -> None:
            if err.is_terminal and not as_json:
                err.print(f"[dim]{name}...[/]", end="\r")

        def ended(self, step: "Step") -> None:
            if not as_json:
                mark = _MARKS[step.state]
                out.print(f"{mark} {step.name:<10} {escape(step.words)} [dim]{step.seconds:.1f} s[/]", soft_wrap=True)

        def agreed(self, question: str) -> bool:
            return typer.confirm(question, default=True, err=True) if asks else yes

    return Printed()


def _print(outcome: "Outcome") -> None:
    if outcome.url:
        out.print(f"[bold]{outcome.name} is served[/] after {outcome.seconds:.1f} s. Call it by")
        # As a command is copied: on one line, whatever the width.
        out.print(f"\n{outcome.curl}\n\n{outcome.python}", markup=False, soft_wrap=True)
        out.print(f"\nor try it in a browser: {outcome.page}", markup=False, soft_wrap=True)
    else:
        out.print(f"[bold]{outcome.name} is ready[/] after {outcome.seconds:.1f} s, and not served", soft_wrap=True)
