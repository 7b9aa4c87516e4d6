"""`ergonaut vectors snapshot` and what belongs to it: collections as they were, copies, and shards that are split."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.cli.output import ask, print_json, print_table, tell, telling_errors
from ergonaut.cli.vectors_options import JsonFlag, Name
from ergonaut.errors import Refused

NewName = Annotated[str, typer.Argument(help="The new collection's name.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("snapshot")(snapshot)
    app.command("snapshots")(snapshots)
    app.command("restore")(restore)
    app.command("clone")(clone)
    app.command("split")(split)


def snapshot(name: Name, as_json: JsonFlag = False) -> None:
    """Keep a collection as it is now.

    Example: ergonaut vectors snapshot pages
    """
    with telling_errors():
        kept = ask(lambda client: client.vectors.snapshot(name))
        told = f"{kept.id}: {kept.count:,} vectors, {kept.size_bytes / 1024**2:,.1f} MiB"
        print_json(kept) if as_json else tell(told)


def snapshots(
    name: Name,
    drop: Annotated[str, typer.Option("--drop", metavar="ID", help="Keep this one no longer.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """List what is kept of a collection, newest first.

    Example: ergonaut vectors snapshots pages
    """
    with telling_errors():
        if drop:
            ask(lambda client: client.vectors.drop_snapshot(name, drop))
        found = ask(lambda client: client.vectors.snapshots(name))
        if as_json:
            print_json(found)
            return
        rows = [(each.id, _made_at(each), f"{each.count:,}", f"{each.size_bytes / 1024**2:,.1f}") for each in found]
        columns = ("snapshot", "made", "vectors", "MiB")
        print_table("", columns, rows, right=columns[2:]) if rows else tell(f"nothing is kept of {name}")


def restore(
    name: Name,
    new_name: NewName,
    snapshot_id: Annotated[str, typer.Option("--snapshot", metavar="ID", help="As in this snapshot.")] = "",
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="As it was then, 2026-03-01T12:00:00Z.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Make a new collection of what one was, in a snapshot or at a moment.

    Example: ergonaut vectors restore pages pages-of-monday --at 2026-03-02T00:00:00Z
    """
    with telling_errors():
        if bool(snapshot_id) == bool(at):
            raise Refused("must be told, or --at; one of the two", field="--snapshot")
        moment = _moment(at) if at else None
        made = ask(lambda client: client.vectors.restore(name, new_name, snapshot_id=snapshot_id, at=moment))
        _print_made(made, as_json=as_json)


def clone(name: Name, new_name: NewName, as_json: JsonFlag = False) -> None:
    """Make a new collection of what one holds now.

    Example: ergonaut vectors clone pages pages-to-try
    """
    with telling_errors():
        _print_made(ask(lambda client: client.vectors.clone(name, new_name)), as_json=as_json)


def split(
    name: Name,
    shard: Annotated[int, typer.Argument(min=0, help="The shard's number, as `stats` tells it.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Make half of a shard another shard, while it is read and written.

    Example: ergonaut vectors split pages 0
    """
    with telling_errors():
        made = ask(lambda client: client.vectors.split(name, shard))
        told = f"{name}: half of shard {shard} is shard {made}"
        print_json(pb.SplitShardResponse(shard=made)) if as_json else tell(told)


def _print_made(made: pb.Collection, *, as_json: bool) -> None:
    print_json(made) if as_json else tell(f"{made.name}: {made.count:,} vectors")


def _made_at(kept: pb.Snapshot) -> str:
    return kept.made_at.ToDatetime(tzinfo=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(f"{text!r} is no time such as 2026-03-01T12:00:00Z", field="--at") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
