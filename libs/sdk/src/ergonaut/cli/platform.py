"""`ergonaut up`, `down`, `status`, `logs`: the whole system on this machine."""

import time
from collections import deque
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from ergonaut.cli.output import EXIT_UNAVAILABLE, JSON_OPTION, err, out, print_json, telling_errors
from ergonaut.errors import NotFound, Unavailable
from ergonaut.local import Home, PartStatus, down, is_running, status, up

JsonFlag = Annotated[bool, JSON_OPTION]


def register(app: typer.Typer) -> None:
    """Add these commands to the CLI."""
    app.command("up", rich_help_panel="This machine")(up_command)
    app.command("down", rich_help_panel="This machine")(down_command)
    app.command("status", rich_help_panel="This machine")(status_command)
    app.command("logs", rich_help_panel="This machine")(logs_command)


def up_command(
    timeout_seconds: Annotated[float, typer.Option("--timeout", help="Seconds to wait until all is healthy.")] = 90.0,
    as_json: JsonFlag = False,
) -> None:
    """Start the whole system on this machine, wait until it is healthy, and tell where everything is.

    Example: ERGONAUT_HOME=.ergonaut ergonaut up
    """
    home = Home.from_environment()
    started = time.monotonic()
    with telling_errors():
        if as_json:
            up(home, lambda _: None, timeout_seconds)
            print_json([part.as_dict() for part in status(home)])
            return
        with Live(console=err, transient=True, refresh_per_second=8) as live:
            up(home, lambda parts: live.update(_table(parts)), timeout_seconds)
        out.print(_table(status(home)))
        addresses = home.addresses()
        out.print(f"Temporal UI      http://{addresses.temporal_ui}")
        out.print(f"Open Inference   http://{addresses.gateway_http}/v2 and grpc://{addresses.services['gateway']}")
        out.print(f"Logs             {home.logs}")
        out.print(f"[green]healthy after {time.monotonic() - started:.1f} s[/]")


def down_command(as_json: JsonFlag = False) -> None:
    """Stop the system on this machine; nothing is lost, and `ergonaut up` goes on where it was.

    Example: ERGONAUT_HOME=.ergonaut ergonaut down
    """
    with telling_errors():
        ran = down(Home.from_environment())
        if as_json:
            print_json({"stopped": ran})
        else:
            out.print("stopped" if ran else "nothing was running")


def status_command(as_json: JsonFlag = False) -> None:
    """Tell how every part is: address, health, process, restarts. Ends with 69 when a part is not healthy.

    Example: ergonaut status --json
    """
    home = Home.from_environment()
    with telling_errors():
        parts = status(home)
        if as_json:
            print_json([part.as_dict() for part in parts])
        else:
            out.print(_table(parts))
        if not is_running(home):
            raise Unavailable("no supervisor runs here, so what dies stays dead; run `ergonaut up`")
        if any(part.health != "healthy" for part in parts):
            raise typer.Exit(EXIT_UNAVAILABLE)


def logs_command(
    part: Annotated[str, typer.Argument(help="The part, as `ergonaut status` names it.")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="Lines from the end.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Print the end of a part's log.

    Example: ergonaut logs scheduler -n 100
    """
    with telling_errors():
        path = Home.from_environment().log_of(part)
        if not path.is_file():
            raise NotFound(f"there is no log of {part!r}; `ergonaut status` names the parts")
        with path.open(errors="replace") as log:
            newest = [line.rstrip("\n") for line in deque(log, maxlen=lines)]
        if as_json:
            print_json({"part": part, "path": str(path), "lines": newest})
        else:
            typer.echo("\n".join(newest))


def _table(parts: list[PartStatus]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("part", "address", "health", "process", "restarts"):
        table.add_column(column, justify="right" if column in ("process", "restarts") else "left", overflow="fold")
    for part in parts:
        colour = "green" if part.health == "healthy" else "yellow"
        process = str(part.pid or "-")
        table.add_row(part.name, part.address, f"[{colour}]{part.health}[/]", process, str(part.restarts))
    return table
