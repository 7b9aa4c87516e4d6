"""`ergonaut endpoints`: names whose requests go to versions of models by routes: applied, shifted, rolled back, counted."""

from pathlib import Path
from typing import Annotated

import typer

from ergonaut.api.inference.v1 import endpoints_pb2 as pb
from ergonaut.cli.output import JSON_OPTION, ask, out, print_json, print_table, telling_errors
from ergonaut.endpointfile import EndpointFile, load_endpoint, read_mirror, read_route, with_weights
from ergonaut.errors import Refused

JsonFlag = Annotated[bool, JSON_OPTION]
Name = Annotated[str, typer.Argument(help="The endpoint's name.")]
Because = Annotated[str, typer.Option("--because", help="Why, for people.")]
Expected = Annotated[
    int | None, typer.Option("--expected", metavar="REVISION", help="Only if it has this revision now; 0 for none.")
]

app = typer.Typer(
    help="Endpoints: names whose requests go to versions of models by routes. Predictions are asked by the endpoint's name.\n\n"
    "Example: ergonaut endpoints list",
    no_args_is_help=True,
)


def register(parent: typer.Typer) -> None:
    """Add these commands to the CLI."""
    parent.add_typer(app, name="endpoints", rich_help_panel="Models")


@app.command("apply")
def apply(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="The endpoint's name, or a YAML or JSON file.")],
    routes: Annotated[
        list[str] | None, typer.Option("--route", metavar="NAME=MODEL@VERSION:WEIGHT", help="A route; several times.")
    ] = None,
    mirrors: Annotated[
        list[str] | None,
        typer.Option("--mirror", metavar="MODEL@VERSION:SHARE", help="Also sent there; several times."),
    ] = None,
    key: Annotated[str, typer.Option("--key", help="Request parameter whose hash chooses the route.")] = "",
    expected: Expected = None,
    as_json: JsonFlag = False,
) -> None:
    """Send an endpoint's requests by these routes from now on, after their versions are loaded.

    Example: ergonaut endpoints apply digits --route champion=digits@1:90 --route canary=digits@2:10
    """
    with telling_errors():
        if routes:
            file = EndpointFile(
                name=name,
                routes=tuple(map(read_route, routes)),
                mirrors=tuple(map(read_mirror, mirrors or ())),
                key_parameter=key,
            )
        elif mirrors or key:
            raise Refused("--mirror and --key go with --route; a file says them itself")
        elif Path(name).is_file():
            file = load_endpoint(Path(name))
        else:
            raise Refused(f"{name} is no file; give a file, or routes by --route NAME=MODEL@VERSION:WEIGHT")
        _print(ask(lambda client: client.endpoints.apply(file.told(), expected=expected)), as_json=as_json)


@app.command("set-weights")
def set_weights(
    name: Name,
    weights: Annotated[list[str], typer.Argument(metavar="ROUTE=WEIGHT...", help="Routes not named keep theirs.")],
    because: Because = "",
    as_json: JsonFlag = False,
) -> None:
    """Give routes other weights; nothing else changes, and nothing if somebody else changes the endpoint meanwhile.

    Example: ergonaut endpoints set-weights digits champion=50 canary=50
    """
    with telling_errors():
        now = ask(lambda client: client.endpoints.get(name)).endpoint
        revision = now.revision
        endpoint = with_weights(now, weights)
        endpoint.because = because
        _print(ask(lambda client: client.endpoints.apply(endpoint, expected=revision)), as_json=as_json)


@app.command("rollback")
def roll_back(
    name: Name,
    to_revision: Annotated[int, typer.Option("--to", metavar="REVISION", help="The one before, if not said.")] = 0,
    expected: Expected = None,
    because: Because = "",
    as_json: JsonFlag = False,
) -> None:
    """Go back to the routes of an earlier revision, as a new one; requests follow at once.

    Example: ergonaut endpoints rollback digits
    """
    with telling_errors():
        endpoint = ask(
            lambda client: client.endpoints.roll_back(name, to_revision=to_revision, expected=expected, because=because)
        )
        _print(endpoint, as_json=as_json)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the endpoints.

    Example: ergonaut endpoints list
    """
    with telling_errors():
        found = ask(lambda client: client.endpoints.all())
        if as_json:
            print_json(found)
            return
        rows = [
            (each.name, str(each.revision), _routes(each), each.changed_by or "-", each.because or "-")
            for each in found
        ]
        print_table("", ("endpoint", "revision", "routes", "changed by", "because"), rows, right=("revision",))


@app.command("get")
def get(name: Name, as_json: JsonFlag = False) -> None:
    """Tell an endpoint's routes and what they were before.

    Example: ergonaut endpoints get digits
    """
    with telling_errors():
        told = ask(lambda client: client.endpoints.get(name))
        if as_json:
            print_json(told)
            return
        rows = [
            (
                str(each.revision),
                _routes(each),
                each.changed_at.ToDatetime().isoformat(" ", "seconds"),
                each.because or "-",
            )
            for each in (told.endpoint, *told.history)
        ]
        print_table(name, ("revision", "routes", "since (UTC)", "because"), rows, right=("revision",))


@app.command("figures")
def figures(name: Name, as_json: JsonFlag = False) -> None:
    """Tell what each route did under the present revision, summed over all gateways.

    Example: ergonaut endpoints figures digits
    """
    with telling_errors():
        told = ask(lambda client: client.endpoints.figures(name))
        if as_json:
            print_json(told)
            return
        rows = [
            (
                each.name,
                str(each.requests),
                str(each.failed),
                str(each.slow),
                f"{1000 * each.seconds / each.requests:.2f}" if each.requests else "-",
                f"{each.wrong} of {each.labelled}" if each.labelled else "-",
            )
            for each in told.routes
        ]
        columns = ("route", "requests", "failed", "slow", "mean ms", "wrong")
        print_table(f"{name}, revision {told.revision}", columns, rows, right=columns[1:])


@app.command("remove")
def remove(name: Name, as_json: JsonFlag = False) -> None:
    """Serve an endpoint no longer; its models are still served.

    Example: ergonaut endpoints remove digits
    """
    with telling_errors():
        ask(lambda client: client.endpoints.remove(name))
        if as_json:
            print_json({"removed": name})
            return
        out.print(f"{name} is removed; its models are still served", markup=False)


def _print(endpoint: pb.Endpoint, *, as_json: bool) -> None:
    if as_json:
        print_json(endpoint)
        return
    out.print(f"{endpoint.name}, revision {endpoint.revision}: {_routes(endpoint)}", markup=False)


def _routes(endpoint: pb.Endpoint) -> str:
    """For people: `champion 90 % digits@1, canary 10 % digits@2`."""
    total = sum(route.weight for route in endpoint.routes)
    told = [
        f"{route.name} {100 * route.weight / total:.3g} % {route.model}"
        + (f"@{route.version}" if route.version else "")
        for route in endpoint.routes
    ]
    told += [f"mirror {100 * each.share:.3g} % {each.model}@{each.version or 'default'}" for each in endpoint.mirrors]
    return ", ".join(told)
