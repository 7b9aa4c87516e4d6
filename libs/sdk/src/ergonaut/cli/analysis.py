"""`ergonaut efficiency`, `recommend`, `anomalies`: what the measurements say beyond sums."""

import sys
from typing import Annotated

import typer

from ergonaut.cli.output import JSON_OPTION, ask, out, print_json, telling_errors
from ergonaut.reports import (
    analysis_of,
    efficiency_to_csv,
    render_anomalies_terminal,
    render_efficiency_terminal,
    render_recommendations_terminal,
)

JsonFlag = Annotated[bool, JSON_OPTION]
Run = Annotated[str, typer.Argument(help="Only this run, as `ergonaut runs` names it.")]
Days = Annotated[int, typer.Option(min=1, max=366, help="Days to look back.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the CLI."""
    panel = "Accounts"
    app.command("efficiency", rich_help_panel=panel)(efficiency)
    app.command("recommend", rich_help_panel=panel)(recommend)
    app.command("anomalies", rich_help_panel=panel)(anomalies)


def efficiency(
    run_id: Annotated[str, typer.Argument(help="The run, as `ergonaut runs` names it.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what a run used by phase, such as an epoch, and for each unit of its work, such as a token.

    Units are what the run counts with `run.count("tokens", 512)`, its phases `epoch`, and predictions that were served.

    Example: ergonaut efficiency run-01k...
    """
    with telling_errors():
        told = ask(lambda client: client.analysis.efficiency(run_id))
        if as_json:
            print_json(told)
        elif as_csv:
            sys.stdout.write(efficiency_to_csv(run_id, analysis_of(told)))
        else:
            out.print(render_efficiency_terminal(analysis_of(told)))


def recommend(run_id: Run = "", days: Days = 30, limit: Limit = 20, as_json: JsonFlag = False) -> None:
    """Tell what would save energy, carbon or money, how much, and on what that rests.

    Without a run it looks at those that used most lately, and at idle accelerators.

    Example: ergonaut recommend --days 7
    """
    with telling_errors():
        told = ask(lambda client: client.analysis.recommendations(run_id, days=days, limit=limit))
        if as_json:
            print_json(told)
        elif not told:
            out.print("Nothing measured here would save anything worth a word.")
        else:
            out.print(render_recommendations_terminal(analysis_of(recommendations=told)))


def anomalies(run_id: Run = "", days: Days = 7, limit: Limit = 20, as_json: JsonFlag = False) -> None:
    """Tell of figures that are far from what they used to be: power spikes, idle accelerators, drift.

    Example: ergonaut anomalies --days 30
    """
    with telling_errors():
        told = ask(lambda client: client.analysis.anomalies(run_id, days=days, limit=limit))
        if as_json:
            print_json(told)
        elif not told:
            out.print(f"Nothing out of the ordinary was found in the last {days} days.")
        else:
            out.print(render_anomalies_terminal(analysis_of(anomalies=told)))
