"""Live progress of a job: where it is, what it draws, what it has used so far, and how each figure is measured."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ergonaut.api.scheduling.v1 import scheduling_pb2 as pb
from ergonaut.api.telemetry.v1 import telemetry_pb2 as meters_pb
from ergonaut.cli.output import err, out
from ergonaut.client import AsyncClient
from ergonaut.client.jobs import ENDED
from ergonaut.errors import ErgonautError

PLAIN_INTERVAL_SECONDS = 5.0
"""Without a terminal a line is printed this often, and at every change of phase."""

SOON = timedelta(seconds=60)
"""A job that begins within this time is shown as placed, with no word about when."""

_METHODS = {
    meters_pb.METHOD_COUNTER: "counter",
    meters_pb.METHOD_POWER_SAMPLES: "power samples",
    meters_pb.METHOD_MODEL: "model",
    meters_pb.METHOD_NOT_MEASURED: "not measured",
}


def state_name(state: int) -> str:
    """`running`, `succeeded` and so on."""
    return str(pb.JobState.Name(state)).removeprefix("JOB_STATE_").lower()  # type: ignore[arg-type]


async def follow(client: AsyncClient, job_id: str, *, quiet: bool) -> pb.JobStatus:
    """Show a job until it ends, and give how it ended. Without a terminal, lines; with `quiet`, nothing."""
    view = _View()
    with contextlib.ExitStack() as stack:
        shown = None
        if err.is_terminal and not quiet:
            shown = stack.enter_context(Live(console=err, transient=True, refresh_per_second=4))
        meters: asyncio.Task[None] | None = None
        try:
            async for status in client.jobs.watch(job_id):
                view.status = status
                if status.run_id and status.run_id != view.run_id and status.state not in ENDED:
                    view.run_id = status.run_id
                    await _stopped(meters)
                    meters = asyncio.create_task(_watch_meters(client, view, shown, quiet=quiet))
                _show(view, shown, quiet=quiet)
        finally:
            await _stopped(meters)
    if not quiet:
        _print_end(view)
    assert view.status is not None, "a watch that ends has told at least one status"
    return view.status


async def _stopped(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


class _View:
    """What is known of the job by now."""

    def __init__(self) -> None:
        self.status: pb.JobStatus | None = None
        self.reading: meters_pb.WatchRunResponse | None = None
        self.run_id = ""
        self.printed_at = 0.0
        self.printed_where: tuple[int, str] | None = None


async def _watch_meters(client: AsyncClient, view: _View, live: Live | None, *, quiet: bool) -> None:
    """Keep the newest reading; meters that cannot be watched do not disturb the job."""
    try:
        async for reading in client.meters.watch_run(view.run_id):
            view.reading = reading
            _show(view, live, quiet=quiet)
    except ErgonautError as error:
        if not quiet:
            err.print(f"[yellow]no live meters:[/] {escape(str(error))}")


def _show(view: _View, live: Live | None, *, quiet: bool) -> None:
    if live is not None:
        live.update(_picture(view))
    elif not quiet:
        _print_line(view)


def _print_line(view: _View) -> None:
    status = view.status
    assert status is not None
    phase = "" if status.state in ENDED else status.phase
    # Steps of one phase follow each other too fast for lines of their own.
    where = (status.state, phase.rstrip(" 0123456789"))
    if where == view.printed_where and time.monotonic() - view.printed_at < PLAIN_INTERVAL_SECONDS:
        return
    view.printed_at, view.printed_where = time.monotonic(), where
    headline = " ".join(part for part in (state_name(status.state), phase, _waits_for(status)) if part)
    out.print(f"{headline}  {_figures(view.reading)}".rstrip(), markup=False)


def _waits_for(status: pb.JobStatus) -> str:
    """Why a paused job is paused, and when and why then one begins that is to begin later; empty for all others.

    >>> later = pb.Candidate(because="the grid is clean then")
    >>> later.starts_at.FromJsonString("2999-01-01T00:00:00Z")
    >>> _waits_for(pb.JobStatus(state=pb.JOB_STATE_PLACED, placement=later))
    'to begin at 2999-01-01 00:00 UTC: the grid is clean then'
    """
    if status.state == pb.JOB_STATE_PAUSED:
        return status.because
    begins_at = status.placement.starts_at.ToDatetime(UTC)
    if status.state != pb.JOB_STATE_PLACED or begins_at < datetime.now(UTC) + SOON:
        return ""
    return f"to begin at {begins_at:%F %H:%M} UTC: {status.placement.because}"


def _figures(reading: meters_pb.WatchRunResponse | None) -> str:
    """What a run draws and has used, in one line."""
    if reading is None:
        return ""
    watts = sum(component.power_watts for component in reading.components)
    return f"{watts:.1f} W  {_used(reading)}"


def _used(reading: meters_pb.WatchRunResponse) -> str:
    joules, grams = f"{reading.energy_joules:.0f} J", f"{reading.carbon_grams_co2e:.4f} gCO2e"
    return "  ".join((joules, grams, f"${reading.cost_usd:.6f}", f"({_how_measured(reading)})"))


def _how_measured(reading: meters_pb.WatchRunResponse) -> str:
    return ", ".join(f"{component.component}: {how(component)}" for component in reading.components)


def how(component: meters_pb.ComponentReading) -> str:
    """`model, ± 40 %`, `counter`, `not measured`."""
    name = _METHODS.get(component.method, "unknown")
    return f"{name}, ± {component.range_fraction:.0%}" if component.HasField("range_fraction") else name


def _picture(view: _View) -> RenderableType:
    """The components as a table, and below it what the run has used so far."""
    reading = view.reading
    if reading is None:
        return _table(view)
    used = (
        f"{reading.energy_joules:.0f} J   {reading.carbon_grams_co2e:.4f} gCO2e at "
        f"{reading.intensity_grams_per_kwh:.0f} g/kWh ({reading.intensity_source})   ${reading.cost_usd:.6f}"
    )
    return Group(_table(view), Text(used))


def _table(view: _View) -> Table:
    assert view.status is not None
    waits_for = _waits_for(view.status)
    title = escape(f"{view.status.name}  {state_name(view.status.state)}  {waits_for or view.status.phase}")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column, justify in (("component", "left"), ("watts", "right"), ("joules", "right"), ("how", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    reading = view.reading
    if reading is None:
        return table
    for component in reading.components:
        watts = f"{component.power_watts:.2f}" if component.HasField("power_watts") else "-"
        joules = f"{component.energy_joules:.1f}" if component.HasField("energy_joules") else "-"
        table.add_row(escape(component.component), watts, joules, how(component))
    return table


def _print_end(view: _View) -> None:
    status = view.status
    assert status is not None
    colour = "green" if status.state == pb.JOB_STATE_SUCCEEDED else "red"
    out.print(f"[{colour}]{state_name(status.state)}[/] {escape(status.because)}".rstrip())
    if view.reading is not None:
        out.print(f"run {status.run_id}  {_used(view.reading)}")
    for name, value in sorted(status.metrics.items()):
        out.print(f"  {name} = {value:g}", markup=False)
    for artifact in status.artifacts:
        out.print(f"  kept {artifact}", markup=False)
