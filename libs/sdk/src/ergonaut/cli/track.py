"""`ergonaut track` and `recover`: meter any program with no server, and close the runs of programs that were killed."""

import json
import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ergonaut.cli.output import JSON_OPTION, err, out, print_json, telling_errors
from ergonaut.errors import Refused, Unavailable
from ergonaut.tracking.summary import RENT_COMPONENT, ComponentFootprint, RunSummary

if TYPE_CHECKING:
    from ergonaut.jobs import Budget
    from ergonaut.tracking.pruning import KeptJournal, Pruned

_COMMAND_SETTINGS = {"allow_interspersed_args": False, "ignore_unknown_options": True}
_NOT_MEASURED = "not measured"


class OnBudget(StrEnum):
    """What a tracker can do on its own when a budget is used up."""

    STOP = "stop"
    TELL = "tell"


def register(app: typer.Typer) -> None:
    """Add these commands to the CLI."""
    panel = "This machine"
    app.command("track", rich_help_panel=panel, context_settings=_COMMAND_SETTINGS)(track)
    app.command("recover", rich_help_panel=panel)(recover)


def track(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="The program and its arguments.")],
    name: Annotated[str, typer.Option("--name", help="What to call the run; the program's name by default.")] = "",
    project: Annotated[str | None, typer.Option("--project", help="The project that the run is of.")] = None,
    zone: Annotated[str | None, typer.Option("--zone", help="Grid zone of this machine, such as DE.")] = None,
    budget_joules: Annotated[float | None, typer.Option(help="Energy that the run may use, joules.")] = None,
    budget_grams: Annotated[float | None, typer.Option(help="CO2e that the run may cause, grams.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="What the run may cost, US dollars.")] = None,
    on_budget: Annotated[
        OnBudget, typer.Option(help="What to do when it is used up: stop the program, or only tell.")
    ] = OnBudget.STOP,
    exporters: Annotated[
        str, typer.Option("--export", help="Where to write the footprint as well, such as csv,mlflow.")
    ] = "",
    json_file: Annotated[Path | None, typer.Option("--json-file", help="Write the footprint as JSON here.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the footprint as JSON on stderr; stdout is the program's.")
    ] = False,
) -> None:
    """Run a program and tell what it used: energy, CO2e, money. Needs no server; the exit code is the program's.

    The program's stdout is left alone: the table, or the JSON that --json asks for, is printed on stderr. When a budget is
    used up the program gets SIGTERM, ten seconds later SIGKILL, and the exit code is 79.

    Example: ergonaut track --budget-joules 5000 -- python train.py --epochs 3
    """
    from ergonaut.tracking.command import track_command
    from ergonaut.tracking.wishes import Wishes

    with telling_errors():
        wishes = Wishes(
            name=name or Path(command[0]).name,
            project=project,
            zone=zone,
            budget=_budget(budget_joules, budget_grams, budget_usd, on_budget),
            exporters=[each.strip() for each in exporters.split(",") if each.strip()],
        )
        summary = track_command(command, wishes)
        try:
            _tell(summary, json_file, as_json=as_json)
        except (OSError, ValueError, SystemExit):
            # Nobody reads stderr any more, or its disk is full; the exit code is still the program's, not that of our words.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        raise typer.Exit(summary.exit_code or 0)


def _tell(summary: RunSummary, json_file: Path | None, *, as_json: bool) -> None:
    text = json.dumps(summary.to_json(), indent=2)
    if json_file is not None:
        _write(json_file, text)
    if as_json:
        typer.echo(text, err=True)
    else:
        print_summary(summary)


def _budget(joules: float | None, grams: float | None, usd: float | None, action: OnBudget) -> "Budget | None":
    from ergonaut.jobs import Budget, BudgetAction

    if joules is grams is usd is None:
        return None
    return Budget(energy_joules=joules, carbon_grams_co2e=grams, cost_usd=usd, action=BudgetAction(action.value))


def recover(
    everything: Annotated[
        bool, typer.Option("--all", help="Tell also of the runs that were closed like this before.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Remove journals of ended runs beyond ERGONAUT_KEEP_DAYS or ERGONAUT_KEEP_GIB."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --prune: only tell what it would remove; close and send nothing.")
    ] = False,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Close the runs whose process was killed, tell what they had used, and send what the bus has not had yet.

    With --prune, journals of runs that have ended and that the bus has had are removed, the oldest first, when they are older
    than ERGONAUT_KEEP_DAYS (30) or all together are more than ERGONAUT_KEEP_GIB (1). A line of each stays in pruned.jsonl.
    Ends with 69 when the bus did not take all that it has not had.

    Example: ergonaut recover --all
    """
    from ergonaut.tracking.options import Options
    from ergonaut.tracking.pruning import prune_runs
    from ergonaut.tracking.recovery import Sending, close_runs, recovered_runs, send_runs

    with telling_errors():
        if dry_run and not prune:
            raise Refused("tells what --prune would remove; give both", field="--dry-run")
        options = Options.from_environment(os.environ)
        closed = [] if dry_run else close_runs()
        sending = Sending() if dry_run else send_runs()
        summaries = recovered_runs() if everything else closed
        pruned = prune_runs(options.home, options.retention, dry_run=dry_run) if prune else None
        if as_json:
            told = [summary.to_json() for summary in summaries]
            print_json(told if pruned is None else {"runs": told, "dry_run": dry_run, **pruned.to_json()})
        else:
            for summary in summaries:
                print_summary(summary)
            out.print(_done_in_words(len(closed), sending.sent, len(summaries) if everything else None))
            if pruned is not None:
                _tell_pruned(pruned, dry_run=dry_run)
        if sending.left:
            raise Unavailable(sending.left_in_words)


def _done_in_words(closed: int, sent: int, in_all: int | None) -> str:
    words = f"{closed} runs were closed" + (f", {in_all} in all" if in_all is not None else "")
    return f"{words}; {sent} that waited were sent to the bus" if sent else words


def _tell_pruned(pruned: "Pruned", *, dry_run: bool) -> None:
    if dry_run:
        for each in pruned.removed:
            out.print(f"{escape(str(each.journal))}  {_mebibytes([each])}", soft_wrap=True)
    done = "would be removed" if dry_run else "were removed"
    out.print(
        f"{len(pruned.removed)} journals of {_mebibytes(pruned.removed)} {done}, "
        f"{len(pruned.kept)} of {_mebibytes(pruned.kept)} are kept"
    )


def _mebibytes(journals: "Sequence[KeptJournal]") -> str:
    return f"{sum(each.size_bytes for each in journals) / 1024**2:.1f} MiB"


def print_summary(summary: RunSummary) -> None:
    """Print a run's footprint on stderr, each figure with how it was measured and how far off it may be."""
    # A title of the table's own would be folded to the table's width.
    state = summary.state or "under way"
    err.print(f"[bold]{escape(summary.name)}[/] {summary.run_id} {state}, {_time(summary)}", soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("component", "energy", "method", "range", "CO2e", "cost"):
        table.add_column(column, justify="right" if column in ("energy", "range", "CO2e", "cost") else "left")
    for item in summary.components:
        table.add_row(*_row(item))
    if summary.energy_joules is not None:
        table.add_row(*_total(summary), style="bold")
    err.print(table)
    for line in _notes(summary):
        err.print(line, style="dim", markup=False)


def _row(item: ComponentFootprint) -> Sequence[str]:
    if item.component == RENT_COMPONENT:
        return item.component, "", "rent", "", "", _usd(item.cost_usd)
    if item.energy_joules is None:
        return item.component, _NOT_MEASURED, "", "", "", ""
    return (
        item.component,
        joules_for_people(item.energy_joules),
        item.method.value,
        _range(item.range_fraction),
        _grams(item.carbon_grams_co2e),
        _usd(item.cost_usd),
    )


def _total(summary: RunSummary) -> Sequence[str]:
    energy = joules_for_people(summary.energy_joules or 0.0)
    return "all", energy, "", _range(summary.range_fraction), _grams(summary.carbon_grams_co2e), _usd(summary.cost_usd)


def _notes(summary: RunSummary) -> Sequence[str]:
    if summary.energy_joules is None:
        return [f"metered by {summary.metered_by}, which tells the footprint"]
    zone = summary.zone or "zone unknown"
    notes = [
        f"{summary.intensity_grams_per_kwh:g} g CO2e/kWh, {zone}: {summary.intensity_kind} ({summary.intensity_source})",
        f"beside the run the host used {joules_for_people(summary.idle_joules)} for idling, "
        f"{joules_for_people(summary.others_joules)} for others; neither is charged to the run",
    ]
    notes += [f"{item.component}: {item.source}" for item in summary.components if item.component != RENT_COMPONENT]
    if summary.cost_usd is None:
        notes.append("cost: set ERGONAUT_ELECTRICITY_USD_PER_KWH to have it")
    if summary.journal_entries_missing:
        notes.append(f"journal: {summary.gap_in_words}")
    return notes


def joules_for_people(energy_joules: float) -> str:
    """An energy in the unit that reads best.

    >>> joules_for_people(0.0456), joules_for_people(1234), joules_for_people(7.2e6)
    ('0.0456 J', '1.23 kJ', '2 kWh')
    """
    for least, divisor, unit in ((1e6, 3.6e6, "kWh"), (1e3, 1e3, "kJ")):
        if energy_joules >= least:
            return f"{energy_joules / divisor:.3g} {unit}"
    return f"{energy_joules:.3g} J"


def _time(summary: RunSummary) -> str:
    return f"{summary.duration_seconds:.1f} s"


def _range(fraction: float | None) -> str:
    return "" if fraction is None else f"± {fraction:.0%}"


def _grams(grams: float | None) -> str:
    return "" if grams is None else f"{grams:.3g} g"


def _usd(cost: float | None) -> str:
    return "not known" if cost is None else f"{cost:.3g} USD"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n")
    except OSError as error:
        err.print(f"[bold red]error:[/] --json-file: {escape(str(path))} cannot be written: {error.strerror}")
