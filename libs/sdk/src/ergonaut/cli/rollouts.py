"""`ergonaut rollout`: new versions of models take over endpoints step by step, or are taken back."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ergonaut.api.orchestration.v1 import rollouts_pb2 as pb
from ergonaut.cli.output import JSON_OPTION, ask, out, print_json, print_table, telling_errors
from ergonaut.client import AsyncClient
from ergonaut.errors import Refused
from ergonaut.rollouts import RolloutInput

JsonFlag = Annotated[bool, JSON_OPTION]
Endpoint = Annotated[str, typer.Argument(help="The endpoint's name.")]
Because = Annotated[str, typer.Option("--because", help="Why, for people.")]

EXIT_NOT_PROMOTED = 1

app = typer.Typer(
    help="Rollouts: a new version gets more and more of an endpoint's requests, and takes over or is taken back.\n\n"
    "Example: ergonaut rollout start digits --version 2",
    no_args_is_help=True,
)


def register(parent: typer.Typer) -> None:
    """Add these commands to the CLI."""
    parent.add_typer(app, name="rollout", rich_help_panel="Models")


@app.command("start")
def start(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    endpoint: Endpoint,
    version: Annotated[int, typer.Option("--version", help="The new version's number.")],
    model: Annotated[str, typer.Option("--model", help="The model; by default the one of the endpoint's name.")] = "",
    steps: Annotated[str, typer.Option("--steps", help="Shares of the requests, such as 0.01,0.05,0.25,0.5.")] = "",
    hold_seconds: Annotated[
        float | None, typer.Option("--hold", metavar="SECONDS", help="How long each step lasts at least.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE", help="YAML with guards, rule and all other settings.")
    ] = None,
    because: Because = "",
    wait: Annotated[bool, typer.Option("--watch/--no-watch", help="Show live progress until it has ended.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Let a version take over an endpoint, judged by its errors, slowness and labels. Ends with 1 where it does not.

    Example: ergonaut rollout start digits --version 2 --steps 0.05,0.5 --hold 30
    """
    with telling_errors():
        given: dict[str, Any] = _read(settings) | {"endpoint": endpoint, "model": model or endpoint, "version": version}
        given |= {"because": because} if because else {}
        given |= {"steps": _shares(steps)} if steps else {}
        given |= {"hold_seconds": hold_seconds} if hold_seconds is not None else {}
        wish = RolloutInput.model_validate(given)

        async def started(client: AsyncClient) -> pb.Rollout:
            rollout = await client.rollouts.start(wish)
            return await follow(client, endpoint, quiet=as_json) if wait else rollout

        _tell(ask(started), as_json=as_json, is_end=wait)


@app.command("status")
def status(
    endpoint: Endpoint,
    wait: Annotated[bool, typer.Option("--watch/--no-watch", help="Show live progress until it has ended.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell how the newest rollout of an endpoint stands, or how it ended.

    Example: ergonaut rollout status digits
    """
    with telling_errors():

        async def asked(client: AsyncClient) -> pb.Rollout:
            return await follow(client, endpoint, quiet=as_json) if wait else await client.rollouts.get(endpoint)

        _tell(ask(asked), as_json=as_json, is_end=wait)


@app.command("abort")
def abort(endpoint: Endpoint, because: Because = "", as_json: JsonFlag = False) -> None:
    """Take the new version back; the endpoint gets its old routes.

    Example: ergonaut rollout abort digits --because 'wrong version'
    """
    with telling_errors():
        ask(lambda client: client.rollouts.abort(endpoint, because=because))
        told = f"the rollout of {endpoint} is asked to take the new version back"
        print_json({"endpoint": endpoint, "aborting": True}) if as_json else out.print(told, markup=False)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the newest rollout of each endpoint.

    Example: ergonaut rollout list
    """
    with telling_errors():
        found = ask(lambda client: client.rollouts.all())
        if as_json:
            print_json(found)
            return
        rows = [
            (each.endpoint, f"{each.model} {each.version}", each.state, f"{each.share:.1%}", each.because)
            for each in found
        ]
        print_table("", ("endpoint", "version", "state", "share", "because"), rows, right=("share",))


async def follow(client: AsyncClient, endpoint: str, *, quiet: bool) -> pb.Rollout:
    """The rollout once it has ended; what changes on the way is printed unless it is for a program."""
    last = pb.Rollout()
    async for last in client.rollouts.watch(endpoint):
        if not quiet:
            out.print(line_of(last), markup=False, soft_wrap=True)
    return last


def line_of(rollout: pb.Rollout) -> str:
    """A rollout in one line."""
    step = f" step {rollout.step} of {rollout.steps}, {rollout.share:.1%} of the requests" if rollout.step else ""
    because = f": {rollout.because}" if rollout.because else ""
    return f"{rollout.endpoint}: {rollout.model} {rollout.version} {rollout.state}{step}{because}"


def _tell(rollout: pb.Rollout, *, as_json: bool, is_end: bool) -> None:
    if as_json:
        print_json(rollout)
    elif not is_end:
        out.print(line_of(rollout), markup=False, soft_wrap=True)
    if is_end and rollout.state != "promoted":
        raise typer.Exit(EXIT_NOT_PROMOTED)


def _shares(given: str) -> list[float]:
    try:
        return [float(part) for part in given.split(",")]
    except ValueError as error:
        raise Refused(f"{given!r} is not such as 0.01,0.05,0.25,0.5", field="--steps") from error


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        document = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise Refused(f"{path} cannot be read: {error}", field="--settings") from error
    if not isinstance(document, dict):
        raise Refused(f"{path} has no fields such as `hold_seconds: 60`", field="--settings")
    return document
