"""`ergonaut vectors bench`: how fast and how well a collection is searched, over gRPC, by queries of a file or of its own."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ergonaut.cli.output import ask, err, print_json, print_table, tell, telling_errors
from ergonaut.cli.vectors_files import fitting, queries_of
from ergonaut.cli.vectors_options import EFFORT_MAX, LIMIT_MAX, JsonFlag, Name
from ergonaut.client import AsyncClient
from ergonaut.client.vectors import Ask
from ergonaut.client.vectors.arrays import numpy
from ergonaut.errors import Refused

QUERIES_MAX = 10_000
"""As many say all there is to say."""

BATCH = 64
"""Queries of one call where batches are measured."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How searches of one effort went."""

    effort: int
    recall: float
    latency_ms_p50: float
    latency_ms_p99: float
    queries_per_second: float
    """In batches of 64, one call after the other."""


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("bench")(bench)


def bench(
    name: Name,
    file: Annotated[
        Path | None, typer.Option("--queries", help="Queries as .npy, .jsonl or .parquet; else vectors of its own.")
    ] = None,
    efforts: Annotated[
        list[int] | None, typer.Option("--effort", min=0, max=EFFORT_MAX, help="Efforts to try; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-k", min=1, max=LIMIT_MAX, help="Neighbours.")] = 10,
    count: Annotated[int, typer.Option("--count", min=1, max=QUERIES_MAX, help="Queries.")] = 1000,
    as_json: JsonFlag = False,
) -> None:
    """Measure recall against exact search, latency of single queries, and queries a second in batches.

    Queries taken from the collection itself find themselves, and so flatter recall a little; better are queries held apart.

    Example: ergonaut vectors bench pages --queries held-apart.npy --effort 0 --effort 200
    """
    with telling_errors():
        queries = count if file is None else queries_of(file, count, option="--queries")
        with contextlib.nullcontext() if as_json else err.status(f"searching {name}"):
            told = ask(lambda client: _measured(client, name, queries, efforts or [0], limit))
        if as_json:
            print_json([{field: getattr(each, field) for field in Measured.__slots__} for each in told])
            return
        rows = [
            (
                str(each.effort or "tuned"),
                f"{each.recall:.4f}",
                f"{each.latency_ms_p50:.2f}",
                f"{each.latency_ms_p99:.2f}",
                f"{each.queries_per_second:,.0f}",
            )
            for each in told
        ]
        columns = ("effort", f"recall@{limit}", "p50 ms", "p99 ms", "queries/s")
        print_table("", columns, rows, right=columns)
        tell(f"by gRPC from here; p50 and p99 of single queries, queries/s in batches of {BATCH}")


async def _measured(client: AsyncClient, name: str, queries: Any, efforts: Sequence[int], limit: int) -> list[Measured]:
    if isinstance(queries, int):
        queries = await _own(client, name, queries)
    queries = await fitting(client, name, queries)
    truth = (await client.vectors.nearest(name, queries, limit, Ask(exact=True))).ids
    return [await _by(client, name, queries, limit, effort, truth) for effort in efforts]


async def _own(client: AsyncClient, name: str, count: int) -> Any:
    """Vectors of the collection, those that were written first."""
    np = numpy()
    rows: list[Any] = []
    async for page in client.vectors.pages(name, size=min(count, 1000), ask=Ask(vectors=True)):
        rows.append(page.vectors)
        if sum(map(len, rows)) >= count:
            break
    if not rows:
        raise Refused(f"{name} has no vectors yet", field="collection")
    return np.concatenate(rows)[:count]


async def _by(
    client: AsyncClient, name: str, queries: Any, limit: int, effort: int, truth: list[list[str]]
) -> Measured:
    how = Ask(effort=effort)
    await client.vectors.nearest(name, queries[:1], limit, how)
    latencies_ms = []
    for query in queries:
        began = time.perf_counter()
        await client.vectors.nearest(name, query, limit, how)
        latencies_ms.append((time.perf_counter() - began) * 1e3)
    began = time.perf_counter()
    found: list[list[str]] = []
    for first in range(0, len(queries), BATCH):
        found += (await client.vectors.nearest(name, queries[first : first + BATCH], limit, how)).ids
    seconds = time.perf_counter() - began
    right = sum(len(set(mine) & set(true)) for mine, true in zip(found, truth, strict=True))
    p50, p99 = numpy().percentile(latencies_ms, [50, 99]).tolist()
    recall = right / max(1, sum(map(len, truth)))
    return Measured(effort, recall, p50, p99, len(queries) / seconds)
