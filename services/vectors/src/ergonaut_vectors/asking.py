"""Use cases of one collection: each waits until its shards are far enough, takes their views, and answers in a thread.

The door calls, with what `rpc/asked.py` has read; `domain/answers` has what is answered.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from prometheus_client import Counter

from ergonaut.errors import Unavailable
from ergonaut_vectors.catalogue import Catalogue, Opened, Positions, Seen
from ergonaut_vectors.changes import Changes
from ergonaut_vectors.domain.answers import finding, joining, reading
from ergonaut_vectors.domain.answers.fields import SeenFields, seen_in
from ergonaut_vectors.domain.answers.finding import Gathered
from ergonaut_vectors.domain.answers.joining import Hybrid
from ergonaut_vectors.domain.answers.rows import Row, Views, Wanted, count_of
from ergonaut_vectors.domain.indexes.port import Kind
from ergonaut_vectors.domain.payload.facets import Facet
from ergonaut_vectors.domain.payload.filters import Filter
from ergonaut_vectors.domain.payload.ordering import Order
from ergonaut_vectors.domain.payload.recommending import Strategy
from ergonaut_vectors.domain.quotas import Usage
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.schema import BATCH_MAX
from ergonaut_vectors.domain.segments.segment import Segment
from ergonaut_vectors.domain.segments.view import Question
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts, Write
from ergonaut_vectors.domain.space import Rows
from ergonaut_vectors.quotas import Quotas
from ergonaut_vectors.workers import Workers

QUERIES_AT_ONCE = 32
"""Queries of one request that a thread answers in one go: others get their turn, and a caller who left costs little."""

SCANNED_BYTES_MAX = 1024 * 1024
EFFORT_MAX = 256
LIMIT_MAX = 100
"""One query that compares so few bytes with no index, and looks no harder in an index, is over before a thread begins."""

T = TypeVar("T")

_queries = Counter(
    "ergonaut_vectors_queries_total", "Queries answered, by whether every vector was compared.", ["exact"]
)


class Asking:
    """Answers questions about collections, and writes to them within what tenants may have."""

    def __init__(
        self, catalogue: Catalogue, quotas: Quotas, searching: Workers, changes: Changes | None = None
    ) -> None:
        self._catalogue = catalogue
        self._quotas = quotas
        self._searching = searching
        self._changes = changes

    async def upsert(self, tenant: str, opened: Opened, batch: Upserts, *, batch_id: str = "") -> Positions:
        """Write vectors; gives where."""
        more = Usage(vectors=len(batch.ids), vector_bytes=len(batch.ids) * opened.schema.space.row_bytes)
        self._quotas.check_room(tenant, more, partial(self._catalogue.all, tenant))
        return await self.write(tenant, opened, batch, batch_id=batch_id)

    async def write(self, tenant: str, opened: Opened, write: Write, *, batch_id: str = "") -> Positions:
        """Write what needs no room; gives where."""
        positions = await opened.write(write, batch_id=batch_id)
        if self._changes is not None:
            self._changes.note(Key(tenant, opened.schema.name), write, positions)
        return positions

    async def delete_matching(self, tenant: str, opened: Opened, only: Filter) -> tuple[Positions, int]:
        """Remove all that match now; gives where, and how many."""
        seen = await opened.seen({})
        positions: dict[int, int] = {}
        count, after = 0, ""
        while True:
            rows, after = await self._answer(
                seen,
                lambda views, at=after: reading.page(views, BATCH_MAX, at, Wanted(), only=only),  # type: ignore[misc]
            )
            if rows:
                positions |= await self.write(tenant, opened, Deletes([row.id for row in rows]))
                count += len(rows)
            if not after:
                return positions, count

    async def search(self, seen: Seen, queries: Rows, question: Question, wanted: Wanted) -> list[list[Row]]:
        """The nearest to each query."""
        if seen.views and is_short(seen.views, queries, question):
            _queries.labels("false").inc()
            return finding.found(seen.views, queries, question, wanted)
        parts = [queries[first : first + QUERIES_AT_ONCE] for first in range(0, len(queries), QUERIES_AT_ONCE)]
        works = [partial(finding.found, queries=part, question=question, wanted=wanted) for part in parts]
        found: list[list[Row]] = []
        # As many at once as there are threads: one caller's batch has them all where nobody else asks.
        for first in range(0, len(works), self._searching.threads):
            some = works[first : first + self._searching.threads]
            for answer in await asyncio.gather(*(self._answer(seen, work) for work in some)):
                found += answer
        _queries.labels(str(question.exact).lower()).inc(len(queries))
        return found

    async def search_groups(
        self, seen: Seen, query: Rows, question: Question, group: tuple[str, int], wanted: Wanted
    ) -> list[Gathered]:
        """The nearest groups."""
        return await self._answer(
            seen, partial(finding.in_groups, query=query, question=question, group=group, wanted=wanted)
        )

    async def search_like(
        self,
        seen: Seen,
        examples: tuple[Sequence[str], Sequence[str]],
        strategy: Strategy,
        question: Question,
        wanted: Wanted,
    ) -> list[Row]:
        """What is like examples."""
        answer = partial(finding.like, examples=examples, strategy=strategy, question=question, wanted=wanted)
        return await self._answer(seen, answer)

    async def search_several(
        self, seen: Seen, queries: Rows, question: Question, field: str, wanted: Wanted
    ) -> list[Gathered]:
        """Things that have several vectors."""
        return await self._answer(
            seen, partial(finding.by_several, queries=queries, question=question, field=field, wanted=wanted)
        )

    async def search_hybrid(
        self, seen: Seen, query: Rows | None, question: Question, asked: Hybrid, wanted: Wanted
    ) -> list[tuple[Row, float]]:
        """By words and by nearness."""
        return await self._answer(
            seen, partial(joining.joined, query=query, question=question, asked=asked, wanted=wanted)
        )

    async def step(self, seen: Seen, work: Callable[[Views], T]) -> T:
        """What one step of a search gives that is joined elsewhere, where nodes share a collection."""
        return await self._answer(seen, work)

    async def get(self, seen: Seen, names: Sequence[str], wanted: Wanted) -> list[Row]:
        """Vectors by id."""
        return await self._answer(seen, partial(reading.by_id, names=names, wanted=wanted))

    async def page(
        self, seen: Seen, place: tuple[int, str], wanted: Wanted, only: Filter | None, order: Order | None
    ) -> tuple[list[Row], str]:
        """A page, and where the next one begins."""
        limit, after = place
        return await self._answer(seen, lambda views: reading.page(views, limit, after, wanted, only=only, order=order))

    async def count(self, seen: Seen, only: Filter | None) -> int:
        """How many match."""
        return await self._answer(seen, partial(count_of, wanted=only))

    async def fields(self, views: Views) -> SeenFields:
        """What payloads have."""
        return await self._searching.run(partial(seen_in, views))

    async def values(self, seen: Seen, field: str, limit: int, only: Filter | None) -> list[tuple[Facet, int]]:
        """The values of a field."""
        return await self._answer(seen, partial(reading.values, field=field, limit=limit, only=only))

    async def _answer(self, seen: Seen, answer: Callable[[Views], T]) -> T:
        if not seen.views:
            raise Unavailable(f"none of the shards {', '.join(map(str, seen.missing))} answers; try again later")
        return await self._searching.run(partial(answer, seen.views))


def is_short(views: Views, queries: Rows, question: Question) -> bool:
    """Whether a search is over before a thread would have begun it."""
    hard = question.exact or question.filter is not None or question.effort > EFFORT_MAX or question.limit > LIMIT_MAX
    if len(queries) > 1 or hard:
        return False
    scanned = sum(
        part.store.count
        for view in views
        for part in view.parts
        if not isinstance(part.store, Segment) or part.store.index.kind is not Kind.GRAPH
    )
    return scanned * views[0].space.row_bytes <= SCANNED_BYTES_MAX
