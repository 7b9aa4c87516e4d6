"""`ergonaut deploy`, `models`, `remove`: models that are served."""

from pathlib import Path
from typing import Annotated

import typer

from ergonaut.cli.output import JSON_OPTION, ask, out, print_json, print_table, telling_errors
from ergonaut.client.connection import Connection

JsonFlag = Annotated[bool, JSON_OPTION]


def register(app: typer.Typer) -> None:
    """Add these commands to the CLI."""
    panel = "Models"
    app.command("deploy", rich_help_panel=panel)(deploy)
    app.command("models", rich_help_panel=panel)(models)
    app.command("remove", rich_help_panel=panel)(remove)


def deploy(
    file: Annotated[Path, typer.Argument(help="An ONNX file.")],
    name: Annotated[str, typer.Option("--name", help="The name to serve it under.")],
    run_id: Annotated[str, typer.Option("--run", help="The run that trained it.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Serve a model by the Open Inference Protocol, over HTTP and gRPC.

    Example: ergonaut deploy model.onnx --name digits
    """
    with telling_errors():
        model = ask(lambda client: client.models.deploy(file, name, run_id=run_id))
        if as_json:
            print_json(model)
            return
        address = Connection.from_environment().gateway_http
        out.print(f"{model.name} version {model.version} is served at http://{address}/v2/models/{model.name}")
        for kind, tensors in (("takes", model.inputs), ("gives", model.outputs)):
            for tensor in tensors:
                out.print(f"  {kind} {tensor.name} {tensor.datatype} {list(tensor.shape)}", markup=False)


def models(as_json: JsonFlag = False) -> None:
    """List the models that are served.

    Example: ergonaut models
    """
    with telling_errors():
        found = ask(lambda client: client.models.served())
        if as_json:
            print_json(found)
            return
        rows = [(m.name, str(m.version), f"{m.size_bytes:,}", m.run_id or "-", m.digest[:19]) for m in found]
        print_table("", ("model", "version", "bytes", "run", "digest"), rows, right=("version", "bytes"))


def remove(name: Annotated[str, typer.Argument(help="The model's name.")], as_json: JsonFlag = False) -> None:
    """Serve a model no longer.

    Example: ergonaut remove digits
    """
    with telling_errors():
        ask(lambda client: client.models.remove(name))
        if as_json:
            print_json({"name": name, "removed": True})
        else:
            out.print(f"{name} is served no longer", markup=False)
