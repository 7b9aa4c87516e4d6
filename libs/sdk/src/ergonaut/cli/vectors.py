"""`ergonaut vectors`: collections of vectors made, written, searched, told of, kept and brought back."""

from typing import Annotated

import typer

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.cli.output import ask, out, print_json, print_table, telling_errors
from ergonaut.cli.vectors_options import Element, Fields, FilterText, JsonFlag, Metric, Name, fields_told, filter_told
from ergonaut.client import AsyncClient
from ergonaut.client.vectors import index_of
from ergonaut.client.vectors.arrays import ELEMENTS, INDEXES, METRICS, name_of

IndexKind = Annotated[str, typer.Option("--index", help="flat, hnsw, ivf or ivf-pq; chosen by itself where not told.")]
Recall = Annotated[float, typer.Option("--recall", help="The part of the ten nearest to find, 0.5 to 1.")]
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
    dimension: Annotated[int, typer.Argument(help="Numbers in one vector.")],
    metric: Metric = "l2",
    element: Element = "float32",
    fields: Fields = None,
    index: IndexKind = "",
    recall: Recall = 0.0,
    small: Small = False,
    shards: Annotated[int, typer.Option("--shards", help="Parts into which ids are spread.")] = 1,
    replicas: Annotated[int, typer.Option("--replicas", help="Copies of each part, 1 to 3.")] = 1,
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
        print_json(made) if as_json else out.print(line_of(made), markup=False, soft_wrap=True)


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
        rows = [(each.name, f"{each.count:,}", str(each.dimension), _kept_as(each), _index(each)) for each in found]
        print_table(
            "", ("collection", "vectors", "dimension", "kept as", "index"), rows, right=("vectors", "dimension")
        )
        out.print(_usage_line(usage), markup=False, soft_wrap=True)


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
        print_json({"dropped": name}) if as_json else out.print(f"{name} is gone", markup=False)


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
        print_json(told) if as_json else out.print(f"{written.count:,} removed from {name}", markup=False)


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
        out.print(line_of(told.collection), markup=False, soft_wrap=True)
        rows = [row for shard in told.shards for row in _rows_of(shard)]
        columns = ("shard", "at", "part", "index", "vectors", "dead", "MiB")
        print_table("", columns, rows, right=("at", "vectors", "dead", "MiB"))
        if told.fields:
            fields = [(each.name, each.type, f"{each.count:,}") for each in told.fields]
            print_table("", ("field", "type", "vectors"), fields, right=("vectors",))
        if told.has_more_fields:
            out.print("and further fields, on which filters are slow", markup=False)


@app.command("index")
def index_(
    name: Name, index: IndexKind = "", recall: Recall = 0.0, small: Small = False, as_json: JsonFlag = False
) -> None:
    """Wish for another index; the collection is re-indexed while it answers.

    Example: ergonaut vectors index pages --index ivf --recall 0.9 --small
    """
    with telling_errors():
        wish = index_of(kind=index, recall=recall, small=small)
        told = ask(lambda client: client.vectors.set_index(name, wish))
        print_json(told) if as_json else out.print(line_of(told), markup=False, soft_wrap=True)


def line_of(told: pb.Collection) -> str:
    """A collection in one line."""
    return f"{told.name}: {told.count:,} vectors of {told.dimension}, {_kept_as(told)}, {_index(told)}"


def _kept_as(told: pb.Collection) -> str:
    return f"{name_of(ELEMENTS, told.element)} by {name_of(METRICS, told.metric)}"


def _index(told: pb.Collection) -> str:
    small = ", small" if told.index.small else ""
    return f"{name_of(INDEXES, told.index.kind) or 'chosen by itself'}, recall {told.index.recall:g}{small}"


def _usage_line(usage: pb.GetUsageResponse) -> str:
    def told(what: str, used: int, allowed: int) -> str:
        return f"{used:,} {what}" + (f" of {allowed:,}" if allowed else "")

    parts = (
        told("collections", usage.used.collections, usage.allowed.collections),
        told("vectors", usage.used.vectors, usage.allowed.vectors),
        told("bytes of numbers", usage.used.vector_bytes, usage.allowed.vector_bytes),
    )
    return ", ".join(parts)


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
                f"{segment.size_bytes / 1024**2:,.1f}",
            )
            for segment in shard.segments
        ),
    ]
