"""`ergonaut runs`, `report`, `compare`: what was used, from the ledger."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ergonaut.api.ledger.v1 import ledger_pb2 as pb
from ergonaut.cli.output import JSON_OPTION, CsvFlag, Forms, HtmlFile, ask, print_json, print_table, telling_errors
from ergonaut.client import AsyncClient
from ergonaut.errors import Broken, NotFound, Refused, Unavailable
from ergonaut.jobs import Placement
from ergonaut.jobs_proto import candidate_from_proto
from ergonaut.reports import (
    Analysis,
    RunReport,
    analysis_of,
    compare,
    comparison_to_csv,
    comparison_to_json,
    render_comparison_html,
    render_comparison_terminal,
    render_html,
    render_terminal,
    report_of,
    to_csv,
    to_json,
)
from ergonaut.reports.comparison import RUNS_MAX as COMPARED_MAX
from ergonaut.reports.comparison import RUNS_MIN as COMPARED_MIN

Answer = TypeVar("Answer")
JsonFlag = Annotated[bool, JSON_OPTION]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="One self-contained HTML file, with plots, to write.",
        show_default="report.html",
    ),
]

SETTLING_SECONDS = 3.0
"""The last samples of a run reach the ledger within this time of its end: a sample's second, its way, and the insert."""

FIRST_NEWS_SECONDS = 10.0
"""How long a run that was only just started may take to be known to the ledger."""

POLL_SECONDS = 0.25


def register(app: typer.Typer) -> None:
    """Add these commands to the CLI."""
    panel = "Accounts"
    app.command("runs", rich_help_panel=panel)(runs)
    app.command("report", rich_help_panel=panel)(report)
    app.command("compare", rich_help_panel=panel)(compare_command)


def runs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20, as_json: JsonFlag = False
) -> None:
    """List the newest runs.

    Example: ergonaut runs --limit 5
    """
    with telling_errors():
        found = ask(lambda client: client.ledger.runs(limit))
        if as_json:
            print_json(found)
            return
        rows = [
            (one.run_id, one.name, one.state, one.provider, one.region, f"{one.started_at.ToDatetime():%F %T}")
            for one in found
        ]
        print_table("", ("run", "name", "state", "provider", "region", "started (UTC)"), rows)


def report(
    run_id: Annotated[str, typer.Argument(help="The run, as `ergonaut runs` names it.")],
    html: ReportFile = None,
    as_csv: CsvFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what a run used, how that was measured, and what it would have cost elsewhere and at other hours.

    Prints it and writes report.html; with --json or --csv a file is written only where --html names one.

    Example: ergonaut report run-01k... --html report.html
    """
    with telling_errors():
        forms = Forms(html=html, as_csv=as_csv, as_json=as_json)
        if html is None and not forms.is_printed_for_programs:
            forms = Forms(html=Path("report.html"))
        made = ask(lambda client: gathered(client, run_id))
        forms.tell(
            terminal=lambda: render_terminal(made),
            html=lambda: render_html(made),
            csv=lambda: to_csv(made),
            json=lambda: to_json(made),
        )


def compare_command(
    run_ids: Annotated[list[str], typer.Argument(help="Two to twenty runs; the first is what others are measured by.")],
    html: HtmlFile = None,
    as_csv: CsvFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Put runs side by side: joules, grams, dollars, time, metrics, and which differences mean something.

    Example: ergonaut compare run-01k... run-01m...
    """

    async def all_gathered(client: AsyncClient) -> list[RunReport]:
        return [await gathered(client, run_id) for run_id in run_ids]

    with telling_errors():
        forms = Forms(html=html, as_csv=as_csv, as_json=as_json)
        if not COMPARED_MIN <= len(run_ids) <= COMPARED_MAX:
            raise Refused(f"give {COMPARED_MIN} to {COMPARED_MAX} runs, not {len(run_ids)}", field="run_ids")
        comparison = compare(ask(all_gathered))
        forms.tell(
            terminal=lambda: render_comparison_terminal(comparison),
            html=lambda: render_comparison_html(comparison),
            csv=lambda: comparison_to_csv(comparison),
            json=lambda: comparison_to_json(comparison),
        )


async def gathered(client: AsyncClient, run_id: str) -> RunReport:
    """All that the ledger knows of a run; one that has only just ended is given the time to settle."""
    footprint, answers = await _settled(client, run_id), _Answers()
    power, elsewhere, analysis = await asyncio.gather(
        answers.of("power over time", client.ledger.power_series(run_id), []),
        answers.of("other places and hours", client.ledger.elsewhere(run_id), None),
        _analysis(client, footprint.run, answers),
    )
    analysis = replace(analysis, missing=tuple(sorted(answers.missing)))
    return report_of(footprint, power, elsewhere, await _expected(client, footprint.run.job_id), analysis)


class _Answers:
    """What is asked beside the accounts, which stand without it, as over a ledger that is busy or of an older version."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        """What got no answer, and why."""

    async def of(self, what: str, asked: Awaitable[Answer], otherwise: Answer) -> Answer:
        """The answer, or what stands in its place."""
        try:
            return await asked
        except (Unavailable, Broken) as error:
            self.missing.append(f"{what}: {error}")
            return otherwise


async def _analysis(client: AsyncClient, run: pb.Run, answers: _Answers) -> Analysis:
    """Phases, units, what would save, and what was odd since the run began."""
    days = min((datetime.now(UTC) - run.started_at.ToDatetime(UTC)).days + 2, 366)
    efficiency, recommendations, anomalies = await asyncio.gather(
        answers.of("phases and units", client.analysis.efficiency(run.run_id), None),
        answers.of("what would save", client.analysis.recommendations(run.run_id), []),
        answers.of("anomalies", client.analysis.anomalies(run.run_id, days=days), []),
    )
    return analysis_of(efficiency, recommendations, anomalies)


async def _expected(client: AsyncClient, job_id: str) -> Placement | None:
    """What the scheduler expected of the run's job; None for a run that has none, or whose job is forgotten."""
    if not job_id:
        return None
    try:
        status = await client.jobs.get(job_id)
    except (NotFound, Unavailable):
        return None
    return candidate_from_proto(status.placement) if status.HasField("placement") else None


async def _settled(client: AsyncClient, run_id: str) -> pb.GetRunFootprintResponse:
    give_up_at = asyncio.get_running_loop().time() + FIRST_NEWS_SECONDS
    while True:
        try:
            footprint = await client.ledger.footprint(run_id)
        except NotFound:
            if asyncio.get_running_loop().time() > give_up_at or not await _is_known(client, run_id):
                raise
            await asyncio.sleep(POLL_SECONDS)
            continue
        wait_seconds = _settles_in(footprint.run)
        if wait_seconds <= 0:
            return footprint
        await asyncio.sleep(wait_seconds)
        return await client.ledger.footprint(run_id)


def _settles_in(run: pb.Run) -> float:
    """Seconds until a run's figures are final; 0 for one that still runs, whose figures are what they are now.

    An end that lies ahead was told by a host whose clock is ahead; its last samples are here as soon as any other's.
    """
    if not run.HasField("ended_at"):
        return 0.0
    since_end = datetime.now(UTC) - run.ended_at.ToDatetime(tzinfo=UTC)
    return SETTLING_SECONDS - max(since_end.total_seconds(), 0.0)


async def _is_known(client: AsyncClient, run_id: str) -> bool:
    """Whether a job has this run, so that the ledger is bound to hear of it."""
    return any(job.run_id == run_id for job in await client.jobs.newest())
