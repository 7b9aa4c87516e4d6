"""`ergonaut efficiency`, `recommend`, `anomalies`: what the measurements say beyond sums."""

from typing import Annotated

import typer

from ergonaut.cli.output import JSON_OPTION, CsvFlag, Forms, HtmlFile, ask, json_text, telling_errors
from ergonaut.reports import (
    analysis_of,
    anomalies_to_csv,
    efficiency_to_csv,
    recommendations_to_csv,
    render_anomalies_html,
    render_anomalies_terminal,
    render_efficiency_html,
    render_efficiency_terminal,
    render_recommendations_html,
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
    html: HtmlFile = None,
    as_csv: CsvFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what a run used by phase, such as an epoch, and for each unit of its work, such as a token.

    Units are what the run counts with `run.count("tokens", 512)`, its phases `epoch`, and predictions that were served.

    Example: ergonaut efficiency run-01k... --html efficiency.html
    """
    with telling_errors():
        forms = Forms(html=html, as_csv=as_csv, as_json=as_json)
        told = ask(lambda client: client.analysis.efficiency(run_id))
        made = analysis_of(told)
        forms.tell(
            terminal=lambda: render_efficiency_terminal(made),
            html=lambda: render_efficiency_html(run_id, made),
            csv=lambda: efficiency_to_csv(run_id, made),
            json=lambda: json_text(told),
        )


def recommend(
    run_id: Run = "",
    days: Days = 30,
    limit: Limit = 20,
    html: HtmlFile = None,
    as_csv: CsvFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what would save energy, carbon or money, how much, and on what that rests.

    Without a run it looks at those that used most lately, and at idle accelerators.

    Example: ergonaut recommend --days 7
    """
    with telling_errors():
        forms = Forms(html=html, as_csv=as_csv, as_json=as_json)
        told = ask(lambda client: client.analysis.recommendations(run_id, days=days, limit=limit))
        made = analysis_of(recommendations=told)
        forms.tell(
            terminal=lambda: render_recommendations_terminal(made),
            html=lambda: render_recommendations_html(made),
            csv=lambda: recommendations_to_csv(made),
            json=lambda: json_text(told),
        )


def anomalies(
    run_id: Run = "",
    days: Days = 7,
    limit: Limit = 20,
    html: HtmlFile = None,
    as_csv: CsvFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell of figures that are far from what they used to be: power spikes, idle accelerators, drift.

    Example: ergonaut anomalies --days 30
    """
    with telling_errors():
        forms = Forms(html=html, as_csv=as_csv, as_json=as_json)
        told = ask(lambda client: client.analysis.anomalies(run_id, days=days, limit=limit))
        made = analysis_of(anomalies=told)
        forms.tell(
            terminal=lambda: render_anomalies_terminal(made, days),
            html=lambda: render_anomalies_html(made, days),
            csv=lambda: anomalies_to_csv(made),
            json=lambda: json_text(told),
        )
