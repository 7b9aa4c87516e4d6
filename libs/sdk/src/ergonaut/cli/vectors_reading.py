"""`ergonaut vectors search`, `get` and `count`: what is in a collection, by nearness, example and words, alone or in groups."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ergonaut.cli.output import ask, err, out, print_json, print_table, tell, telling_errors
from ergonaut.cli.vectors_files import fitting, queries_of
from ergonaut.cli.vectors_options import (
    EFFORT_MAX,
    LIMIT_MAX,
    FilterText,
    JsonFlag,
    Name,
    filter_told,
    vector_told,
)
from ergonaut.client import AsyncClient
from ergonaut.client.vectors import Ask, Filter, Found, FoundGroup, Points, Words
from ergonaut.errors import NotFound, Refused

FIXED_MIN, FIXED_MAX = 1e-4, 1e9
"""Between these numbers are told without an exponent."""

GROUP_SIZE_MAX = 100
"""Vectors of a group: as many as the door gives."""

MULTI_MAX = 64
"""Vectors of one query of several: as many as the door takes."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("search")(search)
    app.command("get")(get)
    app.command("count")(count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for. Raises Refused where that is nothing, or things that do not go together."""

    vector: Sequence[float] | None
    like: Sequence[str]
    unlike: Sequence[str]
    text: str
    text_field: str
    multi: Path | None
    group_by: str
    group_size: int
    limit: int

    def __post_init__(self) -> None:
        by_example = bool(self.like or self.unlike)
        ways = [by_example, self.multi is not None, bool(self.vector or self.text)]
        if not any(ways):
            raise Refused("must be told, or --like, or --text, or --multi", field="--vector")
        if sum(ways) > 1:
            raise Refused("goes together with --text alone; --like and --multi stand alone", field="--vector")
        if self.unlike and not self.like:
            raise Refused("needs --like, what to be near to", field="--unlike")
        if self.multi is not None and not self.group_by:
            raise Refused("is missing: the field by whose value vectors belong to one thing", field="--group-by")
        if self.group_by and self.multi is None and (by_example or self.text):
            raise Refused("goes with --vector or --multi alone", field="--group-by")
        if self.group_size != 1 and (not self.group_by or self.multi is not None):
            raise Refused("goes with --vector and --group-by alone", field="--group-size")

    async def found(self, client: AsyncClient, name: str, how: Ask) -> list[Found]:
        """The vectors that fit, best first."""
        if self.like:
            return await client.vectors.like(name, self.like, self.unlike, limit=self.limit, ask=how)
        query = None if self.vector is None else await fitting(client, name, self.vector)
        if self.text:
            words = Words(self.text, self.text_field)
            return await client.vectors.hybrid(name, words, query, limit=self.limit, ask=how)
        nearest = await client.vectors.nearest(name, query, self.limit, how)
        payloads = nearest.payloads[0] if nearest.payloads else [{}] * self.limit
        rows = zip(nearest.ids[0], nearest.distances[0].tolist(), payloads, strict=False)
        return [Found(*row) for row in rows]

    async def groups(self, client: AsyncClient, name: str, how: Ask) -> list[FoundGroup]:
        """The groups that fit, best first."""
        if self.multi is not None:
            queries = queries_of(self.multi, MULTI_MAX + 1, option="--multi")
            if len(queries) > MULTI_MAX:
                raise Refused(f"{self.multi} has more than {MULTI_MAX} vectors, the most of one query", field="--multi")
            queries = await fitting(client, name, queries)
            return await client.vectors.multi(name, queries, self.group_by, limit=self.limit, ask=how)
        query = await fitting(client, name, self.vector)
        return await client.vectors.groups(name, query, self.group_by, limit=self.limit, size=self.group_size, ask=how)


def search(  # noqa: PLR0913, PLR0917 - a command's options
    name: Name,
    vector: Annotated[
        str, typer.Option("--vector", metavar="NUMBERS", help="The query: 0.1,0.2,... or @FILE with a JSON list.")
    ] = "",
    like: Annotated[list[str] | None, typer.Option("--like", metavar="ID", help="Find what is like it.")] = None,
    unlike: Annotated[list[str] | None, typer.Option("--unlike", metavar="ID", help="And unlike it.")] = None,
    text: Annotated[str, typer.Option("--text", metavar="WORDS", help="Words to find, in the field of --in.")] = "",
    text_field: Annotated[str, typer.Option("--in", metavar="FIELD", help="The field that is searched.")] = "text",
    multi: Annotated[
        Path | None,
        typer.Option("--multi", metavar="FILE", help="A query of several vectors, .npy, .jsonl or .parquet (MaxSim)."),
    ] = None,
    group_by: Annotated[
        str, typer.Option("--group-by", "--by", metavar="FIELD", help="Find groups that share a value of this field.")
    ] = "",
    group_size: Annotated[
        int, typer.Option("--group-size", min=1, max=GROUP_SIZE_MAX, help="Vectors of each group.")
    ] = 1,
    limit: Annotated[
        int, typer.Option("--limit", "-k", min=1, max=LIMIT_MAX, help="How many, or how many groups.")
    ] = 10,
    only: FilterText = "",
    effort: Annotated[
        int, typer.Option("--effort", min=0, max=EFFORT_MAX, help="How hard to look, 0 as found best; more finds more.")
    ] = 0,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Find the nearest to a vector, what is like some, or what has words; words and a vector together are joined.

    Groups are vectors that share a value, as a document's passages do; several query vectors find what has one near each.

    Example: ergonaut vectors search pages --text "energy of training" -k 5
    """
    with telling_errors():
        how = Ask(filter=filter_told(only), exact=exact, effort=effort, payloads=True)
        wanted = Search(
            vector=vector_told(vector),
            like=like or (),
            unlike=unlike or (),
            text=text,
            text_field=text_field,
            multi=multi,
            group_by=group_by,
            group_size=group_size,
            limit=limit,
        )
        if group_by:
            groups = ask(lambda client: wanted.groups(client, name, how))
            _print_groups(groups, group_by, as_json=as_json)
        else:
            found = ask(lambda client: wanted.found(client, name, how))
            _print_found(found, as_json=as_json)
        if not (groups if group_by else found):
            fields = [group_by] if group_by else [text_field] if text else []
            _tell_of_unknown(name, fields + _fields_in(how.filter))


def get(  # noqa: PLR0913, PLR0917 - a command's options
    name: Name,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of vectors; without any the first are given.")] = None,
    only: FilterText = "",
    limit: Annotated[
        int, typer.Option("--limit", "-k", min=1, max=LIMIT_MAX, help="How many, where no ids are told.")
    ] = 10,
    order_by: Annotated[str, typer.Option("--order-by", metavar="FIELD", help="The first by this field.")] = "",
    descending: Annotated[bool, typer.Option("--descending", help="The last by it.")] = False,
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
            pages = client.vectors.pages(name, size=limit, order_by=order_by, descending=descending, ask=how)
            return await anext(pages, Points([]))

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
            _print_rows(("id", "vector", "payload"), rows)
        if order_by and not any(_has(each, order_by) for each in found.payloads):
            _tell_of_unknown(name, [order_by])
        there = set(found.ids)
        missing = [each for each in ids or () if each not in there]
        if missing:
            raise NotFound(f"{name} has no {', '.join(missing)}")


def count(
    name: Name,
    only: FilterText = "",
    by: Annotated[str, typer.Option("--by", metavar="FIELD", help="Count by the values of a field.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-k", min=1, max=LIMIT_MAX, help="Values at most.")] = 10,
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
            _print_rows((by, "vectors"), rows, right=("vectors",))
            if not found:
                _tell_of_unknown(name, [by, *_fields_in(how.filter)])
            return
        number = ask(lambda client: client.vectors.count(name, how))
        print_json({"count": number}) if as_json else out.print(f"{number:,}", markup=False)


def _print_found(found: Sequence[Found], *, as_json: bool) -> None:
    if as_json:
        print_json([_told(each) for each in found])
        return
    measures = _aligned([_measure(each) for each in found])
    rows = [(each.id, told, _compact(each.payload or {})) for each, told in zip(found, measures, strict=True)]
    measure = "score" if found and found[0].score is not None else "distance"
    _print_rows(("id", measure, "payload"), rows, right=(measure,))


def _print_groups(groups: Sequence[FoundGroup], group_by: str, *, as_json: bool) -> None:
    if as_json:
        told = [
            {"value": each.value, "score": each.score, "found": [_told(one) for one in each.found]} for each in groups
        ]
        print_json(told)
        return
    scored = any(each.score is not None for each in groups)
    scores = _aligned([group.score or 0.0 for group in groups])
    distances = iter(_aligned([_measure(each) for group in groups for each in group.found]))
    rows = []
    for group, score in zip(groups, scores, strict=True):
        # What is said of a group stands beside its first vector alone.
        head = (str(group.value), *((score,) if scored else ()))
        for at, each in enumerate(group.found):
            begins = head if at == 0 else ("",) * len(head)
            rows.append((*begins, each.id, next(distances), _compact(each.payload)))
    columns = (group_by, *(("score",) if scored else ()), "id", "distance", "payload")
    _print_rows(columns, rows, right=("score", "distance"))


def _print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    print_table("", columns, rows, right=right) if rows else tell("nothing is found")


def _told(found: Found) -> dict[str, Any]:
    distance = found.distance if found.distance != float("inf") else None
    return {"id": found.id, "distance": distance, "score": found.score, "payload": found.payload}


def _measure(found: Found) -> float:
    return found.distance if found.score is None else found.score


def _aligned(numbers: Sequence[float]) -> list[str]:
    """Numbers, each with as many decimals, so that their points stand below each other: six figures of the largest."""
    largest = max((abs(number) for number in numbers if math.isfinite(number)), default=0.0)
    if largest and not FIXED_MIN <= largest < FIXED_MAX:
        return [f"{number:.6g}" for number in numbers]
    decimals = max(4, 5 - math.floor(math.log10(largest))) if largest else 0
    # Adding 0.0 turns what is rounded to -0.0 into 0.0.
    told = [f"{round(number, decimals) + 0.0:,.{decimals}f}" for number in numbers]
    spare = min((len(text) - len(text.rstrip("0")) for text in told if "." in text), default=0)
    return [(text[: len(text) - spare] if spare else text).removesuffix(".") for text in told]


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
        told_so = f"no payload of {name} has a field {', '.join(unknown)}; {has}"
        err.print(told_so, markup=False, soft_wrap=not err.is_terminal)


def _short(vector: list[float]) -> str:
    shown = ", ".join(f"{number:.4g}" for number in vector[:3])
    return f"{shown}, ... ({len(vector):,})" if len(vector) > 3 else shown


def _has(payload: Any, path: str) -> bool:
    """Whether a payload has a value at a path, in an entry of a list too."""
    if isinstance(payload, list):
        return any(_has(each, path) for each in payload)
    name, _, rest = path.partition(".")
    if not isinstance(payload, dict):
        return not path and payload is not None
    return path in payload or (name in payload and bool(rest) and _has(payload[name], rest))


def _compact(payload: Any) -> str:
    return json.dumps(payload, ensure_ascii=False) if payload else ""
