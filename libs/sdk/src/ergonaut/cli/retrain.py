"""`ergonaut retrain`: recipes by which models are trained again, and what came of it."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ergonaut.api.orchestration.v1 import retraining_pb2 as pb
from ergonaut.cli.output import JSON_OPTION, ask, out, print_json, print_table, telling_errors
from ergonaut.client import AsyncClient
from ergonaut.recipefile import load_recipe

JsonFlag = Annotated[bool, JSON_OPTION]
Model = Annotated[str, typer.Argument(help="The model's name.")]
Because = Annotated[str, typer.Option("--because", help="Why, for people.")]

EXIT_NOT_PROMOTED = 1

WATCH_SECONDS = 1.0
"""Between two looks of a watch; a training lasts longer."""

app = typer.Typer(
    help="Retraining: models are trained again by a recipe when they drift, when it is time, or by hand.\n\n"
    "Example: ergonaut retrain set recipe.yaml",
    no_args_is_help=True,
)


def register(parent: typer.Typer) -> None:
    """Add these commands to the CLI."""
    parent.add_typer(app, name="retrain", rich_help_panel="Models")


@app.command("set")
def set_(
    file: Annotated[Path, typer.Argument(help="The recipe: YAML or JSON.")],
    as_json: JsonFlag = False,
) -> None:
    """Keep a model's recipe from now on, with the files of its job's folder.

    Example: ergonaut retrain set examples/digits/retrain.yaml
    """
    with telling_errors():
        read = load_recipe(file)
        ask(lambda client: client.retrainings.set(read.model, read.recipe, read.folder))
        if as_json:
            print_json({"model": read.model, "set": True})
        else:
            out.print(f"{read.model} is trained again by {file}", markup=False, soft_wrap=True)


@app.command("show")
def show(model: Model, as_json: JsonFlag = False) -> None:
    """Tell what a model's retraining does, when it trains next and what came of the last trainings.

    Example: ergonaut retrain show digits
    """
    with telling_errors():
        told = ask(lambda client: client.retrainings.get(model))
        if as_json:
            print_json(told)
            return
        out.print(_line(told), markup=False, soft_wrap=True)
        current = [told.current] if told.HasField("current") else []
        for outcome in [*current, *told.outcomes]:
            out.print(f"  {outcome_line(outcome)}", markup=False, soft_wrap=True)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the models that have a recipe.

    Example: ergonaut retrain list
    """
    with telling_errors():
        found = ask(lambda client: client.retrainings.all())
        if as_json:
            print_json(found)
            return
        rows = [
            (each.model, each.state, each.outcomes[0].state if each.outcomes else "-", each.because or "-")
            for each in found
        ]
        print_table("", ("model", "state", "last training", "because"), rows)


@app.command("now")
def now(
    model: Model,
    because: Because = "",
    wait: Annotated[bool, typer.Option("--watch/--no-watch", help="Show live progress until it has ended.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Train a model now, whatever its recipe says of when. Ends with 1 where the new version does not take over.

    Example: ergonaut retrain now digits
    """
    with telling_errors():

        async def trained(client: AsyncClient) -> pb.Outcome | None:
            before = (await client.retrainings.get(model)).outcomes
            await client.retrainings.train_now(model, because=because)
            return await _follow(client, model, before[0].job_id if before else "", quiet=as_json) if wait else None

        outcome = ask(trained)
        if outcome is None:
            told = {"model": model, "wanted": True}
            print_json(told) if as_json else out.print(f"{model} will be trained", markup=False)
            return
        if as_json:
            print_json(outcome)
        if outcome.state != "promoted":
            raise typer.Exit(EXIT_NOT_PROMOTED)


@app.command("pause")
def pause(model: Model, because: Because = "", as_json: JsonFlag = False) -> None:
    """Train a model by hand only until it is resumed; a training under way goes on.

    Example: ergonaut retrain pause digits --because 'release week'
    """
    with telling_errors():
        ask(lambda client: client.retrainings.pause(model, because=because))
        told = f"{model} is trained by hand only"
        print_json({"model": model, "paused": True}) if as_json else out.print(told, markup=False)


@app.command("resume")
def resume(model: Model, as_json: JsonFlag = False) -> None:
    """Train a model again when its recipe says so.

    Example: ergonaut retrain resume digits
    """
    with telling_errors():
        ask(lambda client: client.retrainings.resume(model))
        told = f"{model} is trained again when its recipe says so"
        print_json({"model": model, "paused": False}) if as_json else out.print(told, markup=False)


@app.command("remove")
def remove(model: Model, as_json: JsonFlag = False) -> None:
    """Keep a recipe no longer; a training under way is stopped.

    Example: ergonaut retrain remove digits
    """
    with telling_errors():
        ask(lambda client: client.retrainings.remove(model))
        told = f"{model} is trained again no longer"
        print_json({"model": model, "removed": True}) if as_json else out.print(told, markup=False)


async def _follow(client: AsyncClient, model: str, before: str, *, quiet: bool) -> pb.Outcome:
    """The training's outcome once there is a newer one than before; what changes on the way is printed."""
    said = ""
    while True:
        told = await client.retrainings.get(model)
        newest = told.outcomes[0] if told.outcomes else pb.Outcome()
        has_ended = bool(newest.job_id) and newest.job_id != before
        line = outcome_line(newest if has_ended else told.current) if has_ended or told.HasField("current") else ""
        if line and line != said and not quiet:
            out.print(line, markup=False, soft_wrap=True)
        if has_ended:
            return newest
        said = line
        await asyncio.sleep(WATCH_SECONDS)


def outcome_line(outcome: pb.Outcome) -> str:
    """A training in one line."""
    version = f" version {outcome.challenger_version}" if outcome.challenger_version else ""
    because = f": {outcome.because}" if outcome.because else ""
    return f"{outcome.job_id} ({outcome.trigger}) {outcome.state}{version}{because}"


def _line(told: pb.Retraining) -> str:
    next_at = f", trains next at {told.next_at.ToDatetime():%F %T} UTC" if told.HasField("next_at") else ""
    because = f" ({told.because})" if told.because else ""
    endpoint = f", takes over {told.recipe.endpoint}" if told.recipe.endpoint else ""
    return f"{told.model}: {told.state}{because}{next_at}{endpoint}"
