"""`ergonaut vectors`: collections of vectors made, written, searched, told of, kept and brought back."""

from typing import Annotated

import typer

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.cli.output import ask, out, print_json, print_table, tell, telling_errors
from ergonaut.cli.vectors_options import Element, Fields, FilterText, JsonFlag, Metric, Name, fields_told, filter_told
from ergonaut.client import AsyncClient
from ergonaut.client.vectors import index_of
from ergonaut.client.vectors.arrays import ELEMENTS, INDEXES, METRICS, name_of

RECALL = 0.95
"""What the service wishes for where nobody does."""

IndexKind = Annotated[str, typer.Option("--index", help="flat, hnsw, ivf or ivf-pq; chosen by itself where not told.")]
Recall = Annotated[
    float,
    typer.Option("--recall", min=0.5, max=1, help="The part of the ten nearest to find."),
]
Small = Annotated[bool, typer.Option("--small", help="Rather little memory than speed.")]

app = typer.Typer(
    help="Vectors: collections that are searched by nearness, by what comes with each vector, and by words.\n\n"
    "Example: ergonaut vectors create pages 384 --metric cosine",
    no_args_is_help=True,
)


def register(parent: typer.Typer) -> None:
    """Add these commands to the CLI."""
    from ergonaut.cli import vectors_bench, vectors_files, vectors_kept, vectors_reading

    for more in (vectors_reading, vectors_files, vectors_kept, vectors_bench):
        more.register(app)
    parent.add_typer(app, name="vectors", rich_help_panel="Models")


@app.command("create")
def create(  # noqa: PLR0913, PLR0917 - a command's options
    name: Name,
    dimension: Annotated[int, typer.Argument(min=1, max=4096, help="Numbers in one vector.")],
    metric: Metric = "l2",
    element: Element = "float32",
    fields: Fields = None,
    index: IndexKind = "",
    recall: Recall = RECALL,
    small: Small = False,
    shards: Annotated[int, typer.Option("--shards", min=1, max=1024, help="Parts into which ids are spread.")] = 1,
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=3, help="Copies of each part.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Make a collection; the same again changes nothing.

    Example: ergonaut vectors create pages 384 --metric cosine --field title=text:english
    """
    with telling_errors():
        wish = pb.Collection(index=index_of(kind=index, recall=recall, small=small), shards=shards, replicas=replicas)
        declared = fields_told(fields or [])
        made = ask(
            lambda client: client.vectors.create(
                name, dimension, metric=metric, element=element, fields=declared, wish=wish
            )
        )
        print_json(made) if as_json else tell(line_of(made))


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the collections, and what of the tenant's quota they use.

    Example: ergonaut vectors list
    """
    with telling_errors():

        async def asked(client: AsyncClient) -> tuple[list[pb.Collection], pb.GetUsageResponse]:
            return await client.vectors.collections(), await client.vectors.usage()

        found, usage = ask(asked)
        if as_json:
            print_json({"collections": found, "usage": usage})
            return
        if found:
            columns = ("collection", "vectors", "numbers", "metric", "index", "recall")
            print_table("", columns, [_row_of(each) for each in found], right=("vectors", "recall"))
            out.print()
        tell(_usage_line(usage))


@app.command("drop")
def drop(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove a collection and all in it; its snapshots stay.

    Example: ergonaut vectors drop pages
    """
    with telling_errors():
        if not yes and not as_json:
            typer.confirm(f"Remove {name} and all in it?", abort=True)
        ask(lambda client: client.vectors.drop(name))
        print_json({"dropped": name}) if as_json else tell(f"{name} is gone")


@app.command("delete")
def delete(
    name: Name,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of vectors.")] = None,
    only: FilterText = "",
    as_json: JsonFlag = False,
) -> None:
    """Remove vectors by id, or all that match a filter.

    Example: ergonaut vectors delete pages --filter '{"field": "year", "range": {"lt": 2020}}'
    """
    with telling_errors():
        written = ask(lambda client: client.vectors.delete(name, ids or (), filter=filter_told(only)))
        told = {"sequence": written.sequence, "count": written.count}
        by_id = f"{written.count:,} {'id is' if written.count == 1 else 'ids are'} no longer in {name}"
        print_json(told) if as_json else tell(by_id if ids else f"{written.count:,} vectors removed from {name}")


@app.command("stats")
def stats(name: Name, as_json: JsonFlag = False) -> None:
    """Tell how a collection stands: its shards, segments, indexes and sizes, and the fields of its payloads.

    Example: ergonaut vectors stats pages
    """
    with telling_errors():
        told = ask(lambda client: client.vectors.describe(name))
        if as_json:
            print_json(told)
            return
        tell(line_of(told.collection))
        out.print()
        rows = [row for shard in told.shards for row in _rows_of(shard)]
        columns = ("shard", "position", "part", "index", "vectors", "dead", "MiB")
        print_table("", columns, rows, right=("position", "vectors", "dead", "MiB"))
        if told.fields:
            out.print()
            fields = [(each.name, each.type, f"{each.count:,}") for each in told.fields]
            print_table("", ("field", "type", "vectors"), fields, right=("vectors",))
        if told.has_more_fields:
            tell("and further fields, on which filters are slow")


@app.command("index")
def index_(
    name: Name, index: IndexKind = "", recall: Recall = RECALL, small: Small = False, as_json: JsonFlag = False
) -> None:
    """Wish for another index; the collection is re-indexed while it answers.

    Example: ergonaut vectors index pages --index ivf --recall 0.9 --small
    """
    with telling_errors():
        wish = index_of(kind=index, recall=recall, small=small)
        told = ask(lambda client: client.vectors.set_index(name, wish))
        print_json(told) if as_json else tell(line_of(told))


def line_of(told: pb.Collection) -> str:
    """A collection in one line."""
    kept = f"{name_of(ELEMENTS, told.element)} by {name_of(METRICS, told.metric)}"
    index = f"index {_kind(told)} for recall {told.index.recall:g}" + (", small" if told.index.small else "")
    parts = [f"{told.count:,} vectors of {told.dimension:,} numbers", kept, index]
    if told.shards > 1:
        parts.append(f"{told.shards:,} shards")
    if told.replicas > 1:
        parts.append(f"{told.replicas} copies of each")
    return f"{told.name}: {', '.join(parts)}"


def _row_of(told: pb.Collection) -> tuple[str, ...]:
    numbers = f"{told.dimension:,} {name_of(ELEMENTS, told.element)}"
    metric = name_of(METRICS, told.metric)
    index = _kind(told) + (", small" if told.index.small else "")
    return told.name, f"{told.count:,}", numbers, metric, index, f"{told.index.recall:g}"


def _kind(told: pb.Collection) -> str:
    return name_of(INDEXES, told.index.kind) or "chosen"


def _usage_line(usage: pb.GetUsageResponse) -> str:
    def told(what: str, used: str, allowed: str) -> str:
        return f"{used} {what}" + (f" of {allowed}" if allowed else "")

    used, allowed = usage.used, usage.allowed
    parts = (
        told("collections", f"{used.collections:,}", f"{allowed.collections:,}" if allowed.collections else ""),
        told("vectors", f"{used.vectors:,}", f"{allowed.vectors:,}" if allowed.vectors else ""),
        told("MiB of numbers", _mib(used.vector_bytes), _mib(allowed.vector_bytes) if allowed.vector_bytes else ""),
    )
    return ", ".join(parts)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:,.1f}"


def _rows_of(shard: pb.Shard) -> list[tuple[str, ...]]:
    if shard.failure:
        return [(str(shard.number), "", shard.failure, "", "", "", "")]
    head = (str(shard.number), f"{shard.sequence:,}", "head", "none", f"{shard.head_count:,}", "", "")
    return [
        head,
        *(
            (
                str(shard.number),
                "",
                segment.name,
                segment.index,
                f"{segment.count - segment.dead_count:,}",
                f"{segment.dead_count:,}",
                _mib(segment.size_bytes),
            )
            for segment in shard.segments
        ),
    ]
