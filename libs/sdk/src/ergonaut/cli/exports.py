"""`ergonaut usage` and `ergonaut export`: what was used over time, as a table and as files for research."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ergonaut.api.ledger.v1 import ledger_pb2 as pb
from ergonaut.cli.output import JSON_OPTION, CsvFlag, Forms, HtmlFile, ask, json_text, out, print_table, telling_errors
from ergonaut.cli.statements import period_from
from ergonaut.client import AsyncClient
from ergonaut.errors import Refused
from ergonaut.reports import render_usage_html, render_usage_terminal, usage_of, usage_to_csv
from ergonaut.reports.usage import LABEL_FIELDS

JsonFlag = Annotated[bool, JSON_OPTION]
Period = Annotated[
    str,
    typer.Option("--period", help="A year, month or day such as 2026-03, or FROM..TO with TO left out; all in UTC."),
]


def register(app: typer.Typer) -> None:
    """Add these commands to the CLI."""
    panel = "Accounts"
    app.command("usage", rich_help_panel=panel)(usage)
    app.command("export", rich_help_panel=panel)(export)


def usage(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    period: Period,
    step: Annotated[str, typer.Option("--step", help="minute, hour, day or total.")] = "total",
    by: Annotated[
        str, typer.Option("--by", help="Any of run, job, project, host, component, share, zone, with commas between.")
    ] = "",
    of: Annotated[
        list[str] | None, typer.Option("--of", help="Only of this: project=NAME, run=ID or host=NAME; may be repeated.")
    ] = None,
    html: HtmlFile = None,
    as_csv: CsvFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what was used over time.

    Example: ergonaut usage --period 2026-03 --step day --by project,host --html usage.html
    """
    with telling_errors():
        forms = Forms(html=html, as_csv=as_csv, as_json=as_json)
        starts_at, ends_at = period_from(period)
        labels = [label.strip() for label in by.split(",") if label.strip()]

        async def question(client: AsyncClient) -> pb.GetUsageResponse:
            return await client.ledger.usage(starts_at, ends_at, step=step, group_by=labels, of=_narrowed(of or []))

        told = ask(question)
        made = usage_of(told, (starts_at, ends_at), labels)
        forms.tell(
            terminal=lambda: render_usage_terminal(made),
            html=lambda: render_usage_html(made),
            csv=lambda: usage_to_csv(made),
            json=lambda: json_text(told),
        )


def export(
    table: Annotated[str, typer.Option("--table", help="samples, minutes, hours, days, runs, phases or requests.")],
    period: Annotated[
        str, typer.Option("--period", help="A year, month or day such as 2026-03, or FROM..TO; all in UTC.")
    ] = "",
    file: Annotated[Path | None, typer.Option("--out", help="The Parquet file to write.")] = None,
    run: Annotated[str, typer.Option("--run", help="Only this run.")] = "",
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Name hosts, runs, jobs and projects by digests, to publish the file.")
    ] = False,
    describe: Annotated[bool, typer.Option("--describe", help="Only tell what the columns mean.")] = False,
) -> None:
    """Write the measurements of a time to a Parquet file; what its columns mean is in the file too.

    Example: ergonaut export --table samples --period 2026-03 --out march.parquet --anonymous
    """
    with telling_errors():
        if describe:
            columns = ask(lambda client: client.exports.describe(table))
            print_table(
                "",
                ("column", "type", "unit", "meaning"),
                [(each.name, each.type, each.unit, each.description) for each in columns],
            )
            return
        if file is None or not period:
            raise Refused("must be given, unless --describe is", field="--out" if file is None else "--period")
        starts_at, ends_at = period_from(period)
        target = file

        async def work(client: AsyncClient) -> int:
            return await _written(client, target, table, (starts_at, ends_at), run, anonymous)

        size_bytes = ask(work)
        out.print(f"{target}: {size_bytes:,} bytes", highlight=False)


async def _written(
    client: AsyncClient, target: Path, table: str, period: tuple[datetime, datetime], run_id: str, anonymous: bool
) -> int:
    """Write beside the file first, so that one that was cut off is never taken for whole."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        size_bytes = 0
        with unfinished.open("wb") as file:
            async for piece in client.exports.file(table, *period, run_id=run_id, anonymous=anonymous):
                size_bytes += file.write(piece)
        unfinished.replace(target)
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error.strerror}", field="--out") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return size_bytes


def _narrowed(of: Sequence[str]) -> dict[str, str]:
    """What is asked about, from the options. Raises Refused."""
    found = {}
    for text in of:
        label, _, name = text.partition("=")
        if label not in ("project", "run", "host") or not name:
            raise Refused(f"{text!r} is not project=NAME, run=ID or host=NAME", field="--of")
        found[LABEL_FIELDS.get(label, label)] = name
    return found
