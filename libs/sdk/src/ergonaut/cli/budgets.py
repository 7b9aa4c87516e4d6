"""`ergonaut budget set`, `show`, `list`, `remove`: limits on use, and how they stand."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from ergonaut.api.ledger.v1 import budgets_pb2 as pb
from ergonaut.budgets import BudgetMetric, BudgetScope, BudgetSpec, BudgetWindow
from ergonaut.cli.output import JSON_OPTION, ask, out, print_json, print_table, telling_errors
from ergonaut.errors import Refused
from ergonaut.jobs import BudgetAction
from ergonaut.units import joules_from_kwh, kwh_from_joules

JsonFlag = Annotated[bool, JSON_OPTION]
BudgetId = Annotated[str, typer.Argument(help="The budget's name.")]

BAR_WIDTH = 10

_AMOUNT = re.compile(r"\s*(?P<number>\d+(\.\d*)?(e[+-]?\d+)?)\s*(?P<unit>[A-Za-z]+)\s*")
_UNITS = {
    "usd": (BudgetMetric.COST_USD, 1.0),
    "g": (BudgetMetric.CARBON_GRAMS_CO2E, 1.0),
    "kg": (BudgetMetric.CARBON_GRAMS_CO2E, 1e3),
    "j": (BudgetMetric.ENERGY_JOULES, 1.0),
    "kj": (BudgetMetric.ENERGY_JOULES, 1e3),
    "mj": (BudgetMetric.ENERGY_JOULES, 1e6),
    "wh": (BudgetMetric.ENERGY_JOULES, joules_from_kwh(1e-3)),
    "kwh": (BudgetMetric.ENERGY_JOULES, joules_from_kwh(1)),
}
"""Units as people write them, in lower case, and what one is in the metric's unit."""

_COLUMNS = ("budget", "of", "used", "limit", "", "window", "used up", "state", "then")
_NUMBERS = ("used", "limit")

app = typer.Typer(
    help="Limit what runs, jobs, projects and the tenant may use.\n\nExample: ergonaut budget list",
    no_args_is_help=True,
)


def register(parent: typer.Typer) -> None:
    """Add these commands to the CLI."""
    parent.add_typer(app, name="budget", rich_help_panel="Accounts")


@app.command("set")
def set_budget(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    budget_id: BudgetId,
    limit: Annotated[
        str, typer.Argument(help="How much: a number and usd, g, kg, J, kJ, MJ, Wh or kWh, such as 200usd.")
    ],
    of: Annotated[
        str, typer.Option("--of", help="Whose use: tenant, or run:ID, job:ID, project:NAME.", metavar="SCOPE")
    ] = "tenant",
    window: Annotated[
        BudgetWindow, typer.Option("--window", help="Over which time use adds up; calendar windows are in UTC.")
    ] = BudgetWindow.LIFETIME,
    action: Annotated[
        BudgetAction, typer.Option("--action", help="What happens when it is used up.")
    ] = BudgetAction.TELL,
    warn: Annotated[float, typer.Option("--warn", help="Warn at this part of the limit.")] = 0.8,
    starts: Annotated[datetime | None, typer.Option("--starts", help="Use before this does not count, UTC.")] = None,
    ends: Annotated[datetime | None, typer.Option("--ends", help="It limits nothing from then on, UTC.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Set a budget, new or instead of the one of its name. Dollars are electricity and rent; grams are operational CO2e.

    Example: ergonaut budget set march 200usd --of project:vision --window month --action pause
    """
    with telling_errors():
        metric, amount = _limit(limit)
        scope, key = _scope(of)
        spec = BudgetSpec(
            budget_id=budget_id,
            scope=scope,
            scope_key=key,
            metric=metric,
            limit=amount,
            window=window,
            starts_at=starts.replace(tzinfo=UTC) if starts else None,
            ends_at=ends.replace(tzinfo=UTC) if ends else None,
            action=action,
            warn_fraction=warn,
        )
        _print(ask(lambda client: client.budgets.set(spec)), as_json=as_json)


@app.command("show")
def show(budget_id: BudgetId, as_json: JsonFlag = False) -> None:
    """Tell how a budget stands.

    Example: ergonaut budget show march
    """
    with telling_errors():
        standing = ask(lambda client: client.budgets.get(budget_id))
        _print(standing, as_json=as_json)
        if standing.paused_job_ids and not as_json:
            out.print(f"paused: {', '.join(standing.paused_job_ids)}", markup=False, soft_wrap=True)


@app.command("list")
def list_budgets(as_json: JsonFlag = False) -> None:
    """List the budgets and how they stand.

    Example: ergonaut budget list
    """
    with telling_errors():
        standings = ask(lambda client: client.budgets.all())
        if as_json:
            print_json(standings)
        else:
            print_table("", _COLUMNS, [_row(each) for each in standings], right=_NUMBERS)


@app.command("remove")
def remove(budget_id: BudgetId, as_json: JsonFlag = False) -> None:
    """Remove a budget; jobs that it paused go on.

    Example: ergonaut budget remove march
    """
    with telling_errors():
        ask(lambda client: client.budgets.remove(budget_id))
        if as_json:
            print_json({"budget_id": budget_id, "removed": True})
        else:
            out.print(f"{budget_id} limits nothing any more", markup=False)


def _limit(text: str) -> tuple[BudgetMetric, float]:
    """What a limit names: a metric, and how much of it in the metric's unit.

    >>> _limit("1.5kWh"), _limit("200 usd")
    ((<BudgetMetric.ENERGY_JOULES: 'energy_joules'>, 5400000.0), (<BudgetMetric.COST_USD: 'cost_usd'>, 200.0))
    """
    found = _AMOUNT.fullmatch(text)
    # A millijoule is not taken for the megajoule that "mJ" is one letter away from.
    unit = found["unit"].lower() if found and found["unit"] != "mJ" else ""
    metric, factor = _UNITS.get(unit, (None, 0.0))
    if found is None or metric is None:
        raise Refused(f"{text!r} is no amount; give a number and usd, g, kg, J, kJ, MJ, Wh or kWh", field="limit")
    return metric, float(found["number"]) * factor


def _scope(of: str) -> tuple[BudgetScope, str]:
    """What `--of` names: `tenant`, or a kind and a name.

    >>> _scope("project:vision")
    (<BudgetScope.PROJECT: 'project'>, 'vision')
    """
    kind, _, key = of.partition(":")
    if kind not in [*BudgetScope]:
        raise Refused(f"{of!r} is none of tenant, run:ID, job:ID, project:NAME", field="--of")
    return BudgetScope(kind), key


def _print(standing: pb.BudgetStanding, *, as_json: bool) -> None:
    if as_json:
        print_json(standing)
    else:
        print_table("", _COLUMNS, [_row(standing)], right=_NUMBERS)


def _row(standing: pb.BudgetStanding) -> tuple[str, ...]:
    budget = standing.budget
    return (
        budget.budget_id,
        _of(budget),
        _used(standing),
        _amount(budget.metric, budget.limit),
        _bar(standing.used / budget.limit),
        _window(standing),
        _expected_end(standing),
        standing.state,
        budget.action,
    )


def _of(budget: pb.Budget) -> str:
    """Whose use it limits; a job's own limit bears the job's id in its name already.

    >>> _of(pb.Budget(scope="tenant")), _of(pb.Budget(scope="job", scope_key="job-1", budget_id="job-1-cost"))
    ('tenant', 'its job')
    """
    if budget.scope == BudgetScope.JOB and budget.budget_id.startswith(f"{budget.scope_key}-"):
        return "its job"
    return f"{budget.scope} {budget.scope_key}".strip()


def _used(standing: pb.BudgetStanding) -> str:
    used = _amount(standing.budget.metric, standing.used)
    return f"{used} ± {100 * standing.used_range / standing.used:.0f} %" if standing.used else used


def _bar(used_ratio: float) -> str:
    """The part that is used, as a bar; never full before all is used, never empty once something is.

    >>> _bar(0.5), _bar(0.001), _bar(0.999), _bar(1.2)
    ('█████·····  50 %', '█·········   0 %', '█████████·  99 %', '██████████ 120 %')
    >>> _bar(1e300)
    '██████████ >999 %'
    """
    full = min(int(used_ratio * BAR_WIDTH), BAR_WIDTH)
    full = 1 if used_ratio > 0 and full == 0 else full
    percent = f"{int(used_ratio * 100):3d}" if used_ratio < 10 else ">999"
    return f"{'█' * full}{'·' * (BAR_WIDTH - full)} {percent} %"


def _amount(metric: str, value: float) -> str:
    """A figure with its unit.

    >>> _amount("energy_joules", 7.2e6), _amount("energy_joules", 12.5), _amount("cost_usd", 3.0)
    ('2 kWh', '12.5 J', '3 USD')
    """
    if metric == BudgetMetric.COST_USD:
        return f"{value:.4g} USD"
    if metric == BudgetMetric.CARBON_GRAMS_CO2E:
        return f"{value:.4g} gCO2e"
    kwh = kwh_from_joules(value)
    return f"{kwh:.4g} kWh" if kwh >= 0.1 else f"{value:.4g} J"


def _window(standing: pb.BudgetStanding) -> str:
    if not standing.HasField("window_ends_at"):
        return "lifetime"
    last = standing.window_ends_at.ToDatetime() - timedelta(microseconds=1)
    return f"{standing.budget.window} to {last:%F}"


def _expected_end(standing: pb.BudgetStanding) -> str:
    if not standing.HasField("ends_at_expected"):
        return "-"
    return f"{standing.ends_at_expected.ToDatetime():%F %H:%M} UTC"
