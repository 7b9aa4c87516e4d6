"""`ergonaut models import-mlflow` and `export-mlflow`: versions from and to MLflow's registry."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.cli.output import JSON_OPTION, ask, out, print_json, telling_errors
from ergonaut.client import AsyncClient
from ergonaut.integrations.mlflow_registry import FIGURES, Exported, Imported, open_registry

JsonFlag = Annotated[bool, JSON_OPTION]
Uri = Annotated[
    str, typer.Option("--uri", envvar="MLFLOW_TRACKING_URI", help="The MLflow server, such as http://127.0.0.1:5000.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to `ergonaut models`."""
    app.command("import-mlflow")(import_mlflow)
    app.command("export-mlflow")(export_mlflow)


def import_mlflow(
    name: Annotated[str, typer.Argument(help="The model's name in MLflow.")],
    version: Annotated[str, typer.Argument(help="The version's number or an alias in MLflow.")],
    uri: Uri,
    as_: Annotated[
        str, typer.Option("--as", metavar="NAME", help="The name to serve it under; by default the same.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Serve a version of MLflow's registry. It must hold one ONNX file; what its run used comes along.

    Example: ergonaut models import-mlflow digits champion --uri http://127.0.0.1:5000
    """

    async def imported(client: AsyncClient) -> pb.Model:
        async with open_registry(uri) as registry:
            found = await registry.fetch(name, version)
        return await _deployed(client, found, as_ or name)

    with telling_errors():
        model = ask(imported)
        told = f"{name} {version} of MLflow is served as {model.name} version {model.version}"
        print_json(model) if as_json else out.print(told, markup=False)


def export_mlflow(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    uri: Uri,
    version: Annotated[str, typer.Argument(help="A version's number or an alias.")] = "",
    as_: Annotated[str, typer.Option("--as", metavar="NAME", help="Its name in MLflow; by default the same.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Keep a version in MLflow's registry too, with its card, its aliases and what training it used.

    Example: ergonaut models export-mlflow digits champion --uri http://127.0.0.1:5000
    """

    async def exported(client: AsyncClient) -> str:
        found = await _exported(client, name, version, as_ or name)
        async with open_registry(uri) as registry:
            return await registry.store(found)

    with telling_errors():
        number = ask(exported)
        told = f"{name} is version {number} of {as_ or name} in MLflow"
        print_json({"name": as_ or name, "version": number}) if as_json else out.print(told, markup=False)


async def _deployed(client: AsyncClient, found: Imported, name: str) -> pb.Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        await asyncio.to_thread(path.write_bytes, found.content)
        return await client.models.deploy(path, name, run_id=found.run_id, lineage=found.lineage)


async def _exported(client: AsyncClient, name: str, version: str, mlflow_name: str) -> Exported:
    model = (await client.models.get(name, version)).model
    number = str(model.version)
    card = (await client.models.card(name, number)).markdown
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        await client.models.download(name, path, number)
        content = await asyncio.to_thread(path.read_bytes)
    told = {
        field.name: value
        for field, value in model.lineage.ListFields()
        if field.name in (*FIGURES, *(f"{figure}_range" for figure in FIGURES))
    }
    facts = {
        "run_id": model.run_id,
        "digest": model.digest,
        "version": number,
        "framework": model.lineage.framework,
        "data_digest": model.lineage.data_digest,
    }
    return Exported(mlflow_name, content, card, facts, told, tuple(model.aliases))
