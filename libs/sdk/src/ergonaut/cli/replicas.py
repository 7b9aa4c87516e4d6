"""`ergonaut replicas`: sets of gateways that are kept running as jobs, as many as are wanted."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ergonaut.api.orchestration.v1 import replicas_pb2 as pb
from ergonaut.cli.output import JSON_OPTION, ask, out, print_json, print_table, telling_errors
from ergonaut.client import AsyncClient
from ergonaut.errors import NotFound, Refused
from ergonaut.orchestration_proto import accepted
from ergonaut.replicas import ReplicasSpec
from ergonaut.replicas_proto import spec_of

JsonFlag = Annotated[bool, JSON_OPTION]
Name = Annotated[str, typer.Argument(help="The set's name.")]

FILE_BYTES_MAX = 1024 * 1024
"""A set is written by hand; a larger file is some other file."""

WATCH_SECONDS = 1.0
"""Between two looks of a watch; replicas take seconds to come and go."""

app = typer.Typer(
    help="Replicas: gateways that are kept running as jobs, as many as are wanted, where that is cheap and clean.\n\n"
    "Example: ergonaut replicas set edge --min 1 --max 4",
    no_args_is_help=True,
)


def register(parent: typer.Typer) -> None:
    """Add these commands to the CLI."""
    parent.add_typer(app, name="replicas", rich_help_panel="Models")


@app.command("set")
def set_(
    name: Name,
    least: Annotated[int | None, typer.Option("--min", help="Never fewer.")] = None,
    most: Annotated[int | None, typer.Option("--max", help="Never more.")] = None,
    file: Annotated[
        Path | None, typer.Option("--spec", metavar="FILE", help="YAML with settings, resources, budget and all else.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Keep a set of replicas from now on, or change one; what is not told stays. Needs an operator's key.

    Example: ergonaut replicas set edge --min 1 --max 4
    """
    with telling_errors():
        given: dict[str, Any] = {} if file is None else _read(file)
        given |= {} if least is None else {"replicas_min": least}
        given |= {} if most is None else {"replicas_max": most}

        async def asked(client: AsyncClient) -> ReplicasSpec:
            spec = accepted(ReplicasSpec, given if file is not None else {**await _known(client, name), **given})
            await client.replicas.set(name, spec)
            return spec

        spec = ask(asked, as_operator=True)
        if as_json:
            print_json({"name": name, "spec": spec.model_dump(mode="json")})
        else:
            told = f"{name}: {spec.replicas_min} to {spec.replicas_max} replicas are kept"
            out.print(told, markup=False, soft_wrap=True)


@app.command("show")
def show(name: Name, as_json: JsonFlag = False) -> None:
    """Tell how a set of replicas stands.

    Example: ergonaut replicas show edge
    """
    with telling_errors():
        told = ask(lambda client: client.replicas.get(name))
        if as_json:
            print_json(told)
            return
        out.print(line_of(told), markup=False, soft_wrap=True)
        rows = [
            (
                each.job_id,
                each.state + (", outdated" if each.outdated else ""),
                each.address or "-",
                each.because or "-",
            )
            for each in told.replicas
        ]
        print_table("", ("job", "state", "gRPC", "because"), rows)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the sets of replicas that are kept.

    Example: ergonaut replicas list
    """
    with telling_errors():
        found = ask(lambda client: client.replicas.all())
        if as_json:
            print_json(found)
            return
        rows = [(each.name, f"{_serving(each)} of {each.target}", _bounds(each), each.because or "-") for each in found]
        print_table("", ("set", "serving", "least to most", "because"), rows)


@app.command("stop")
def stop(
    name: Name,
    because: Annotated[str, typer.Option("--because", help="Why, for people.")] = "",
    wait: Annotated[bool, typer.Option("--watch/--no-watch", help="Wait until all have ended.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Keep a set no longer: its replicas finish their requests and end. Needs an operator's key.

    Example: ergonaut replicas stop edge
    """
    with telling_errors():

        async def asked(client: AsyncClient) -> None:
            await client.replicas.stop(name, because=because)
            if wait:
                await _until_ended(client, name, quiet=as_json)

        ask(asked, as_operator=True)
        told = f"{name}: all replicas have ended" if wait else f"{name}: its replicas are asked to end"
        print_json({"name": name, "stopping": True, "ended": wait}) if as_json else out.print(told, markup=False)


async def _known(client: AsyncClient, name: str) -> dict[str, Any]:
    """What is kept of a set, so that what is not told now stays; nothing where there is none."""
    try:
        return spec_of((await client.replicas.get(name)).spec).model_dump()
    except NotFound:
        return {}


async def _until_ended(client: AsyncClient, name: str, *, quiet: bool) -> None:
    said = ""
    while True:
        try:
            told = await client.replicas.get(name)
        except NotFound:
            return
        line = f"{name}: {len(told.replicas)} left"
        if line != said and not quiet:
            out.print(line, markup=False, soft_wrap=True)
        said = line
        await asyncio.sleep(WATCH_SECONDS)


def line_of(told: pb.Replicas) -> str:
    """A set in one line."""
    wanted = f", {told.wanted} gateways wanted in all" if told.HasField("wanted") else ""
    stopping = ", stopping" if told.stopping else ""
    because = f": {told.because}" if told.because else ""
    return f"{told.name}: {_serving(told)} of {told.target} serve ({_bounds(told)}){wanted}{stopping}{because}"


def _serving(told: pb.Replicas) -> int:
    return sum(each.state == "serving" for each in told.replicas)


def _bounds(told: pb.Replicas) -> str:
    return f"{told.spec.replicas_min} to {told.spec.replicas_max}"


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()[: FILE_BYTES_MAX + 1]
        document = yaml.safe_load(text) if len(text) <= FILE_BYTES_MAX else None
    except (OSError, yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Refused(f"{path} cannot be read: {error}", field="--spec") from error
    if not isinstance(document, dict):
        raise Refused(f"{path} has no fields such as `replicas_max: 4`", field="--spec")
    return document
