"""`ergonaut statement`, `compliance`, `certificate add|list|void`: for those who pay and those who must report."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from ergonaut.api.ledger.v1 import statements_pb2 as pb
from ergonaut.cli.output import (
    JSON_OPTION,
    CsvFlag,
    Forms,
    HtmlFile,
    ask,
    json_text,
    out,
    print_json,
    table_for,
    telling_errors,
)
from ergonaut.client.statements import period_of
from ergonaut.errors import Refused
from ergonaut.reports import (
    certificate_of,
    certificates_to_csv,
    compliance_of,
    compliance_to_csv,
    render_compliance_html,
    render_compliance_terminal,
    render_statement_html,
    render_statement_terminal,
    statement_of,
    statement_to_csv,
)
from ergonaut.reports.numbers import carbon

JsonFlag = Annotated[bool, JSON_OPTION]
Time = Annotated[
    str,
    typer.Option("--period", help="A year, month or day such as 2026-03, or FROM..TO with TO left out; all in UTC."),
]
OptionalTime = Annotated[
    str, typer.Option("--period", help="Only those that may be used in it, such as 2026 or 2026-03.")
]
Project = Annotated[str, typer.Option("--project", help="Only this project.")]
CertificateId = Annotated[str, typer.Argument(help="The registry's serial number, or a name of your own.")]

_PARTS = re.compile(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?")

certificate_app = typer.Typer(
    help="Certificates, power purchases and offsets on record.\n\nExample: ergonaut certificate list",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add these commands to the CLI."""
    panel = "Accounts"
    app.command("statement", rich_help_panel=panel)(statement)
    app.command("compliance", rich_help_panel=panel)(compliance)
    app.add_typer(certificate_app, name="certificate", rich_help_panel=panel)


def statement(
    period: Time,
    by: Annotated[str, typer.Option("--by", help="What a line is of: project, job, run, host or day.")] = "project",
    project: Project = "",
    html: HtmlFile = None,
    as_csv: CsvFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what was used and what it cost, line by line, before certificates and offsets.

    Example: ergonaut statement --period 2026-03 --by project
    """
    with telling_errors():
        forms = Forms(html=html, as_csv=as_csv, as_json=as_json)
        starts_at, ends_at = period_from(period)
        told = ask(lambda client: client.statements.statement(starts_at, ends_at, project=project, line_by=by))
        made = statement_of(told)
        forms.tell(
            terminal=lambda: render_statement_terminal(made),
            html=lambda: render_statement_html(made),
            csv=lambda: statement_to_csv(made),
            json=lambda: json_text(told),
        )


def compliance(
    period: Time,
    unit: Annotated[str, typer.Option("--unit", help="Functional unit of the SCI: a figure that runs tell.")] = "",
    project: Project = "",
    html: HtmlFile = None,
    as_csv: CsvFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell emissions by the GHG Protocol, scope 2 by both methods and scope 3 for hardware, and the SCI of ISO/IEC 21031.

    With --csv it prints a row a figure, then a row a factor.

    Example: ergonaut compliance --period 2026 --unit tokens
    """
    with telling_errors():
        forms = Forms(html=html, as_csv=as_csv, as_json=as_json)
        starts_at, ends_at = period_from(period)
        told = ask(
            lambda client: client.statements.compliance(starts_at, ends_at, project=project, functional_unit=unit)
        )
        made = compliance_of(told)
        forms.tell(
            terminal=lambda: render_compliance_terminal(made),
            html=lambda: render_compliance_html(made),
            csv=lambda: compliance_to_csv(made),
            json=lambda: json_text(told),
        )


@certificate_app.command("add")
def add(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    certificate_id: CertificateId,
    period: Annotated[str, typer.Option("--period", help="The time it may be used for, such as 2026 or FROM..TO.")],
    registry: Annotated[str, typer.Option("--registry", help="Registry and programme, such as GO or I-REC.")],
    kind: Annotated[str, typer.Option("--kind", help="renewable, power-purchase or offset.")] = "renewable",
    zone: Annotated[str, typer.Option("--zone", help="Grid zone of the plant; not for offsets.")] = "",
    kwh: Annotated[float, typer.Option("--kwh", help="Energy, kWh; not for offsets.")] = 0.0,
    intensity: Annotated[float, typer.Option("--intensity", help="The plant's g CO2e/kWh; 0 for most.")] = 0.0,
    offset_grams: Annotated[float, typer.Option("--offset-grams", help="Grams of CO2e; for offsets.")] = 0.0,
    cost_usd: Annotated[float | None, typer.Option("--cost-usd", help="What it cost, US dollars.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Put a certificate or offset on record; the same again changes nothing.

    Example: ergonaut certificate add GO-0815 --period 2026 --registry GO --zone DE --kwh 1000
    """
    with telling_errors():
        told = pb.Certificate(
            certificate_id=certificate_id,
            kind=kind,
            registry=registry,
            zone=zone,
            period=period_of(*period_from(period)),
            energy_kwh=kwh,
            intensity_grams_per_kwh=intensity,
            offset_grams_co2e=offset_grams,
            cost_usd=cost_usd,
        )
        ask(lambda client: client.statements.record(told))
        _told(certificate_id, "is on record", as_json=as_json)


@certificate_app.command("list")
def list_certificates(period: OptionalTime = "", as_csv: CsvFlag = False, as_json: JsonFlag = False) -> None:
    """List certificates and offsets on record, those that were taken out too.

    Example: ergonaut certificate list --period 2026
    """
    with telling_errors():
        forms = Forms(as_csv=as_csv, as_json=as_json)
        starts_at, ends_at = period_from(period) if period else (None, None)
        found = ask(lambda client: client.statements.certificates(starts_at, ends_at))
        forms.tell(
            terminal=lambda: _certificates_table(found),
            csv=lambda: certificates_to_csv([certificate_of(each) for each in found]),
            json=lambda: json_text(found),
        )


@certificate_app.command("void")
def void(certificate_id: CertificateId, as_json: JsonFlag = False) -> None:
    """Take a certificate out of the books; that it was there stays on record.

    Example: ergonaut certificate void GO-0815
    """
    with telling_errors():
        ask(lambda client: client.statements.void(certificate_id))
        _told(certificate_id, "is out of the books", as_json=as_json)


def period_from(text: str) -> tuple[datetime, datetime]:
    """A time from how people write it, UTC: a year, a month, a day, or two days. Raises Refused.

    >>> [f"{moment:%F}" for moment in period_from("2026-02")]
    ['2026-02-01', '2026-03-01']
    >>> [f"{moment:%F}" for moment in period_from("2026-02-28..2026-03-02")]
    ['2026-02-28', '2026-03-02']
    """
    first, between, last = text.strip().partition("..")
    starts_at, ends_at = _span(first)
    return (starts_at, _span(last)[0]) if between else (starts_at, ends_at)


def _span(text: str) -> tuple[datetime, datetime]:
    """The first moment of a year, month or day, and that of the next."""
    found = _PARTS.fullmatch(text.strip())
    year, month, day = (None if part is None else int(part) for part in found.groups()) if found else (0, None, None)
    try:
        starts_at = datetime(year or 0, 1 if month is None else month, 1 if day is None else day, tzinfo=UTC)
        if day is not None:
            return starts_at, starts_at + timedelta(days=1)
        if month is not None:
            return starts_at, datetime(starts_at.year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        return starts_at, datetime(starts_at.year + 1, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Refused(
            f"{text!r} is no year, month or day such as 2026, 2026-03 or 2026-03-31", field="--period"
        ) from error


def _certificates_table(found: Iterable[pb.Certificate]) -> Table:
    columns = ("certificate", "kind", "registry", "zone", "from", "to", "amount", "by", "")
    rows = [
        (
            one.certificate_id,
            one.kind,
            one.registry,
            one.zone,
            f"{one.period.starts_at.ToDatetime():%F}",
            f"{one.period.ends_at.ToDatetime():%F}",
            f"{one.energy_kwh:,.6g} kWh" if one.energy_kwh else carbon(one.offset_grams_co2e),
            one.principal,
            "voided" if one.voided else "",
        )
        for one in found
    ]
    return table_for("Certificates and offsets", columns, rows, right=("amount",))


def _told(certificate_id: str, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"certificate_id": certificate_id})
    else:
        out.print(f"{certificate_id} {what}", markup=False)
