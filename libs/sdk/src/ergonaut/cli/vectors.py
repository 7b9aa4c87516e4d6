"""`ergonaut vectors`: collections of vectors made, written, searched, told of, kept and brought back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.cli.output import JSON_OPTION, ask, err, out, print_json, print_table, telling_errors
from ergonaut.client import AsyncClient
from ergonaut.client.vectors import Ask, Filter, Points, Words, index_of
from ergonaut.client.vectors.answers import Found
from ergonaut.client.vectors.arrays import ELEMENTS, INDEXES, METRICS, name_of
from ergonaut.errors import NotFound, Refused

JsonFlag = Annotated[bool, JSON_OPTION]
Name = Annotated[str, typer.Argument(help="The collection's name.")]
FilterText = Annotated[
    str,
    typer.Option("--filter", metavar="JSON", help='Only what matches: {"field": "price", "range": {"lt": 10}}.'),
]
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
    from ergonaut.cli import vectors_bench, vectors_files, vectors_kept

    for more in (vectors_files, vectors_kept, vectors_bench):
        more.register(app)
    parent.add_typer(app, name="vectors", rich_help_panel="Models")


@app.command("create")
def create(  # noqa: PLR0913, PLR0917 - a command's options
    name: Name,
    dimension: Annotated[int, typer.Argument(help="Numbers in one vector.")],
    metric: Annotated[str, typer.Option("--metric", help="l2, cosine, inner-product or hamming.")] = "l2",
    element: Annotated[str, typer.Option("--element", help="float32, float16, uint8, int8 or binary.")] = "float32",
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--field", metavar="NAME=TYPE", help="A field of payloads, such as title=text:english; repeatable."
        ),
    ] = None,
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


@app.command("search")
def search(  # noqa: PLR0913, PLR0917 - a command's options
    name: Name,
    vector: Annotated[
        str, typer.Option("--vector", metavar="NUMBERS", help="The query: 0.1,0.2,... or @FILE with a JSON list.")
    ] = "",
    like: Annotated[list[str] | None, typer.Option("--like", metavar="ID", help="Find what is like it.")] = None,
    unlike: Annotated[list[str] | None, typer.Option("--unlike", metavar="ID", help="And unlike it.")] = None,
    text: Annotated[str, typer.Option("--text", help="Words to find, in the field of --in.")] = "",
    text_field: Annotated[str, typer.Option("--in", metavar="FIELD", help="The field that is searched.")] = "text",
    limit: Annotated[int, typer.Option("--limit", "-k", help="How many.")] = 10,
    only: FilterText = "",
    effort: Annotated[int, typer.Option("--effort", help="How hard to look; more finds more.")] = 0,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Find the nearest to a vector, what is like some, or what has words; words and a vector together are joined.

    Example: ergonaut vectors search pages --text "energy of training" -k 5
    """
    with telling_errors():
        how = Ask(filter=filter_told(only), exact=exact, effort=effort, payloads=True)
        query = _vector(vector) if vector else None
        if not (query or like or text):
            raise Refused("must be told, or --like, or --text", field="--vector")

        async def asked(client: AsyncClient) -> list[Found]:
            if like:
                return await client.vectors.like(name, like, unlike or (), limit=limit, ask=how)
            if text:
                return await client.vectors.hybrid(name, Words(text, text_field), query, limit=limit, ask=how)
            nearest = await client.vectors.nearest(name, query, limit, how)
            payloads = nearest.payloads[0] if nearest.payloads else [{}] * limit
            rows = zip(nearest.ids[0], nearest.distances[0].tolist(), payloads, strict=False)
            return [Found(*row) for row in rows]

        found = ask(asked)
        _print_found(found, as_json=as_json)
        if not found:
            _tell_of_unknown(name, ([text_field] if text and not like else []) + _fields_in(how.filter))


@app.command("get")
def get(
    name: Name,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of vectors; without any the first are given.")] = None,
    only: FilterText = "",
    limit: Annotated[int, typer.Option("--limit", "-k", help="How many, where no ids are told.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Give vectors by id, or the first that match. Ends with 66 where one of the ids is not there.

    Example: ergonaut vectors get pages p1 p2 --json
    """
    with telling_errors():
        if ids and only:
            raise Refused("is told, and ids too; one of the two is taken", field="--filter")
        how = Ask(filter=filter_told(only), payloads=True, vectors=True)

        async def asked(client: AsyncClient) -> Points:
            if ids:
                return await client.vectors.get(name, ids)
            return await anext(client.vectors.pages(name, size=limit, ask=how), Points([]))

        found = ask(asked)
        vectors = found.vectors.tolist() if found.vectors is not None else []
        told = [
            {"id": each, "vector": vector, "payload": payload}
            for each, vector, payload in zip(found.ids, vectors, found.payloads, strict=True)
        ]
        if as_json:
            print_json(told)
        else:
            rows = [(each["id"], _short(each["vector"]), _compact(each["payload"])) for each in told]
            print_table("", ("id", "vector", "payload"), rows)
        missing = [each for each in ids or () if each not in set(found.ids)]
        if missing:
            raise NotFound(f"{name} has no {', '.join(missing)}")


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


@app.command("count")
def count(
    name: Name,
    only: FilterText = "",
    by: Annotated[str, typer.Option("--by", metavar="FIELD", help="Count by the values of a field.")] = "",
    limit: Annotated[int, typer.Option("--limit", help="Values at most.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Count vectors, all or those that match, or by the values of a field.

    Example: ergonaut vectors count pages --by language
    """
    with telling_errors():
        how = Ask(filter=filter_told(only))
        if by:
            found = ask(lambda client: client.vectors.values(name, by, limit=limit, ask=how))
            if as_json:
                print_json([{"value": value, "count": number} for value, number in found])
                return
            rows = [(str(value), f"{number:,}") for value, number in found]
            print_table("", (by, "vectors"), rows, right=("vectors",))
            if not found:
                _tell_of_unknown(name, [by, *_fields_in(how.filter)])
            return
        number = ask(lambda client: client.vectors.count(name, how))
        print_json({"count": number}) if as_json else out.print(f"{number:,}", markup=False)


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


def filter_told(text: str) -> Filter | None:
    """The filter of an option, None where it is empty. Raises Refused."""
    if not text:
        return None
    try:
        told = json.loads(text)
    except ValueError as error:
        raise Refused(f"is no JSON: {error}", field="--filter") from error
    if not isinstance(told, dict):
        raise Refused('must be an object, such as {"field": "tag", "eq": "new"}', field="--filter")
    return told


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


def fields_told(told: list[str]) -> dict[str, Mapping[str, str]]:
    """Declared fields of options. Raises Refused."""
    found: dict[str, Mapping[str, str]] = {}
    for text in told:
        name, equals, kind = text.partition("=")
        if not equals or not name or not kind:
            raise Refused(f"{text!r} is not NAME=TYPE, such as price=float or title=text:english", field="--field")
        kind, _, language = kind.partition(":")
        found[name] = {"type": kind} | ({"language": language} if language else {})
    return found


def _vector(text: str) -> list[float]:
    try:
        if text.startswith("@"):
            told = json.loads(Path(text[1:]).read_text(encoding="utf-8"))
            return [float(number) for number in told]
        return [float(number) for number in text.split(",")]
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"must be numbers with commas, or @FILE with a JSON list: {error}", field="--vector") from error


def _print_found(found: list[Found], *, as_json: bool) -> None:
    if as_json:
        told: list[dict[str, Any]] = []
        for each in found:
            distance = each.distance if each.distance != float("inf") else None
            told.append({"id": each.id, "distance": distance, "score": each.score, "payload": each.payload})
        print_json(told)
        return
    rows = [
        (each.id, f"{each.distance if each.score is None else each.score:.6g}", _compact(each.payload or {}))
        for each in found
    ]
    measure = "score" if found and found[0].score is not None else "distance"
    print_table("", ("id", measure, "payload"), rows, right=(measure,))


def _fields_in(told: Filter | None) -> list[str]:
    """The fields that a filter names."""
    if told is None:
        return []
    inside = [*told.get("and", ()), *told.get("or", ()), *filter(None, [told.get("not")])]
    own = [str(told["field"])] if "field" in told else []
    return own + [name for each in inside for name in _fields_in(each)]


def _tell_of_unknown(name: str, asked: list[str]) -> None:
    """Say why nothing may have been found: no payload has what was asked of it."""
    told = ask(lambda client: client.vectors.describe(name))
    known = dict.fromkeys([*(each.name for each in told.fields), *told.collection.fields])
    unknown = [field for field in asked if field not in known]
    if unknown and not told.has_more_fields:
        has = f"they have {', '.join(known)}" if known else "they have none"
        err.print(f"no payload of {name} has a field {', '.join(unknown)}; {has}", markup=False, soft_wrap=True)


def _short(vector: list[float]) -> str:
    shown = ", ".join(f"{number:.4g}" for number in vector[:4])
    return f"{shown}, ... ({len(vector)})" if len(vector) > 4 else shown


def _compact(payload: Any) -> str:
    return json.dumps(payload, ensure_ascii=False) if payload else ""
