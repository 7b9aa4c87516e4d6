"""`ergonaut models energy`, `requests` and `forget`: what served models used, and the requests that were logged."""

import csv
import io
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from ergonaut.api.ledger.v1 import models_pb2 as pb
from ergonaut.cli.output import (
    JSON_OPTION,
    CsvFlag,
    Forms,
    ask,
    json_text,
    out,
    print_json,
    table_for,
    telling_errors,
)
from ergonaut.cli.statements import period_from
from ergonaut.client import AsyncClient
from ergonaut.errors import Refused

JsonFlag = Annotated[bool, JSON_OPTION]
Name = Annotated[str, typer.Argument(help="The model's name.")]
Since = Annotated[str, typer.Option("--since", help="A day or month such as 2026-03-31, or how long ago: 30m, 6h, 7d.")]

_AGO = re.compile(r"([0-9]{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
CELL_CHARACTERS_MAX = 60
"""Of tensors in a table for people; --json and --csv have all that was kept."""


def register(app: typer.Typer) -> None:
    """Add these commands to `ergonaut models`."""
    app.command("energy")(energy)
    app.command("requests")(requests)
    app.command("forget")(forget)


def energy(
    name: Annotated[str, typer.Argument(help="The model's name; none is all models.")] = "",
    since: Since = "7d",
    as_csv: CsvFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what served models used: CPU time, joules with their range, grams and dollars, per 1,000 predictions.

    Example: ergonaut models energy digits --since 30d
    """
    with telling_errors():
        forms = Forms(as_csv=as_csv, as_json=as_json)
        starts_at = moment_from(since)
        found = ask(lambda client: client.model_books.footprints(starts_at, datetime.now(UTC), model=name))
        rows = [_footprint_row(each) for each in found]
        forms.tell(
            terminal=lambda: table_for("", _FOOTPRINT_COLUMNS, rows, right=_FOOTPRINT_COLUMNS[1:9]),
            csv=lambda: _csv(_FOOTPRINT_COLUMNS, rows),
            json=lambda: json_text(found),
        )


def requests(
    name: Name,
    since: Since = "1d",
    version: Annotated[int, typer.Option("--version", min=0, help="Only this version; 0 is all.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the newest.")] = 100,
    as_csv: CsvFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List the requests of a model that were logged, the newest first; ERGONAUT_GATEWAY_REQUEST_LOG_RATE has some logged.

    Example: ergonaut models requests digits --since 6h --json
    """
    with telling_errors():
        forms = Forms(as_csv=as_csv, as_json=as_json)
        starts_at = moment_from(since)

        async def listed(client: AsyncClient) -> list[pb.ModelRequest]:
            asked = client.model_books.requests(name, version=version, since=starts_at, limit=limit)
            return [each async for each in asked]

        found = ask(listed)
        rows = [_request_row(each) for each in found]
        forms.tell(
            terminal=lambda: table_for("", _REQUEST_COLUMNS, [_short(row) for row in rows], right=("version", "ms")),
            csv=lambda: _csv(_REQUEST_COLUMNS, rows),
            json=lambda: json.dumps([_request_document(each) for each in found], indent=2) + "\n",
        )


def forget(
    name: Name,
    before: Annotated[
        str, typer.Option("--before", help="Only those answered before a day, or longer ago than 30m, 6h, 7d.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Drop the logged requests of a model for good.

    Example: ergonaut models forget digits --before 7d --yes
    """
    with telling_errors():
        moment = moment_from(before) if before else None
        told = f"the logged requests of {name}" + (f" answered before {moment:%Y-%m-%d %H:%M}" if moment else "")
        if not yes and not typer.confirm(f"Drop {told} for good?", err=True):
            raise typer.Exit(1)
        ask(lambda client: client.model_books.forget(name, before=moment))
        if as_json:
            print_json({"model": name, "before": moment.isoformat() if moment else "", "forgotten": True})
        else:
            out.print(f"{told} are gone", markup=False)


def moment_from(text: str, *, now: datetime | None = None) -> datetime:
    """A moment from how people write it: a day, a month or a year, or how long ago. Raises Refused.

    >>> moment_from("6h", now=datetime(2026, 3, 1, 12, tzinfo=UTC)).hour
    6
    """
    found = _AGO.fullmatch(text.strip())
    if found is None:
        return period_from(text)[0]
    ago = timedelta(**{_UNITS[found.group(2)]: int(found.group(1))})
    try:
        return (now or datetime.now(UTC)) - ago
    except OverflowError as error:
        raise Refused(f"{text!r} is too long ago", field="--since") from error


_FOOTPRINT_COLUMNS = (
    "model", "version", "requests", "predictions", "CPU s", "J / 1,000", "from", "to", "g / 1,000", "USD / 1,000", "method",
)  # fmt: skip
_REQUEST_COLUMNS = ("answered", "version", "id", "ms", "inputs", "outputs")


def _footprint_row(told: pb.ModelFootprint) -> tuple[str, ...]:
    measured = told.predictions_measured
    per_thousand = [
        _figure(getattr(told, name) * 1000 / measured if told.HasField(name) and measured else None)
        for name in ("energy_joules", "energy_joules_low", "energy_joules_high", "carbon_grams_co2e", "cost_usd")
    ]
    counts = (str(told.version), f"{told.requests}", f"{told.predictions}", f"{told.cpu_seconds:.3g}")
    return (told.model, *counts, *per_thousand, told.energy_method or "not told")


def _figure(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"


def _request_row(told: pb.ModelRequest) -> tuple[str, ...]:
    latency = f"{told.latency_ms:.3f}" if told.HasField("latency_ms") else ""
    answered = told.answered_at.ToDatetime(UTC).isoformat(timespec="milliseconds")
    return (answered, str(told.version), told.request_id, latency, told.inputs_json, told.outputs_json)


def _short(row: Sequence[str]) -> tuple[str, ...]:
    return tuple(cell if len(cell) <= CELL_CHARACTERS_MAX else f"{cell[: CELL_CHARACTERS_MAX - 1]}…" for cell in row)


def _request_document(told: pb.ModelRequest) -> dict[str, Any]:
    return {
        "id": told.request_id,
        "version": told.version,
        "answered_at": told.answered_at.ToDatetime(UTC).isoformat(),
        "latency_ms": told.latency_ms if told.HasField("latency_ms") else None,
        "rate": told.rate,
        "inputs": json.loads(told.inputs_json or "[]"),
        "outputs": json.loads(told.outputs_json or "[]"),
    }


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
