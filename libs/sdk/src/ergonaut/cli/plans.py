"""Shows a placement decision: the choice, what it is expected to cost, and the alternatives with why not."""

from rich.markup import escape

from ergonaut.api.scheduling.v1 import scheduling_pb2 as pb
from ergonaut.cli.output import out, print_table
from ergonaut.units import kwh_from_joules

ALTERNATIVES_SHOWN = 10
_COLUMNS = ("", "provider", "region", "type", "start (UTC)", "expected $", "kWh", "gCO2e", "why")


def print_plan(answer: pb.PlanJobResponse) -> None:
    """Print the choice first, then the best of what else was weighed."""
    if answer.refused_because:
        out.print(f"[bold red]refused:[/] {escape(answer.refused_because)}")
    rows = [_row("▶", answer.chosen)] if answer.HasField("chosen") else []
    rows += [_row("", candidate) for candidate in answer.alternatives[:ALTERNATIVES_SHOWN]]
    print_table("Where and when", _COLUMNS, rows, right=("expected $", "kWh", "gCO2e"))
    hidden = len(answer.alternatives) - ALTERNATIVES_SHOWN
    if hidden > 0:
        out.print(f"[dim]and {hidden} more; --json tells all[/]")


def _row(mark: str, candidate: pb.Candidate) -> tuple[str, ...]:
    return (
        mark,
        candidate.provider,
        candidate.region,
        candidate.machine_type,
        f"{candidate.starts_at.ToDatetime():%m-%d %H:%M}",
        f"{candidate.cost_usd_expected:.6f}",
        f"{kwh_from_joules(candidate.energy_joules_expected):.6f}",
        f"{candidate.carbon_grams_co2e_expected:.3f}",
        candidate.because,
    )
