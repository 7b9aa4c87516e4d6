"""The command line: `ergonaut`. One file a group of commands; each asks the client and prints tables or JSON."""

from typing import Annotated

import typer

app = typer.Typer(
    name="ergonaut",
    help="Run AI work where and when compute is cheapest and cleanest; account for every joule, gram and cent.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with: ergonaut up; ergonaut submit examples/digits/job.yaml; ergonaut report RUN",
)


def main() -> None:
    """Be the command line."""
    from ergonaut.cli import (
        analysis,
        budgets,
        create,
        endpoints,
        exports,
        jobs,
        models,
        pipelines,
        platform,
        replicas,
        reports,
        retrain,
        rollouts,
        statements,
        track,
        vectors,
    )

    for group in (
        platform,
        jobs,
        models,
        endpoints,
        rollouts,
        retrain,
        replicas,
        pipelines,
        create,
        reports,
        analysis,
        statements,
        exports,
        budgets,
        vectors,
        track,
    ):
        group.register(app)
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ergonaut {version('ergonaut')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run AI work where and when compute is cheapest and cleanest; account for every joule, gram and cent."""
