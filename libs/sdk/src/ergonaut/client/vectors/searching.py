"""Questions about vectors: the nearest, by example, by groups, by words too; by id, page by page, and counted."""

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.client.connection import doing
from ergonaut.client.vectors.answers import (
    Found,
    FoundGroup,
    Nearest,
    Points,
    Values,
    found_of,
    group_of,
    nearest_of,
    points_of,
)
from ergonaut.client.vectors.arrays import batches, encoded, meaning_of
from ergonaut.client.vectors.base import Ask, Calls, filter_text
from ergonaut.client.vectors.writing import BATCH_MAX

PAGE_MAX = 1000
"""Points on a page: as many as the door gives."""

EXACT_BATCH_MAX = 64
"""Queries of one call that are each compared with every vector: of a million, so many take less than a call may take."""

ASK = Ask()
"""As one asks where nothing else is told."""

STRATEGIES = {"mean": pb.EXAMPLE_STRATEGY_MEAN, "best": pb.EXAMPLE_STRATEGY_BEST}
FUSIONS = {"reciprocal-rank": pb.FUSION_KIND_RECIPROCAL_RANK, "weighted": pb.FUSION_KIND_WEIGHTED}


class Words(NamedTuple):
    """What a hybrid search looks for beside the vector."""

    text: str
    field: str
    """The field of payloads that is searched, of type text."""
    fusion: str = "reciprocal-rank"
    """How the two rankings are joined: by the places in them, or `weighted` by the scores."""
    weight: float = 0.5
    """Of words against nearness, 0 to 1."""


class SearchingCalls(Calls):
    """What only looks."""

    async def search(
        self, collection: str, queries: Sequence[Sequence[float]], limit: int = 10, *, exact: bool = False
    ) -> list[list[pb.Neighbour]]:
        """The nearest vectors to each query, nearest first, as messages; needs no numpy."""
        found: list[list[pb.Neighbour]] = []
        for start in range(0, len(queries), BATCH_MAX):
            batch = [pb.Query(vector=query) for query in queries[start : start + BATCH_MAX]]
            with doing(f"searching the collection {collection}"):
                request = pb.SearchRequest(collection=collection, queries=batch, limit=limit, exact=exact)
                answer = await self._stub.Search(request)
                found.extend([*result.neighbours] for result in answer.results)
        return found

    async def nearest(self, collection: str, queries: Any, limit: int = 10, ask: Ask = ASK) -> Nearest:
        """The nearest vectors to each row of a matrix, by columns: distances are an array on the bytes of the answer."""
        rows, answers = encoded(queries, where="queries"), []
        for first, after in batches(rows, EXACT_BATCH_MAX) if ask.exact else batches(rows):
            request = pb.SearchRequest(
                collection=collection, vectors=rows.matrix(first, after), options=ask.options(limit, packed=True)
            )
            with doing(f"searching the collection {collection}"):
                answers.append(await self._stub.Search(request))
        return nearest_of(answers)

    async def like(
        self,
        collection: str,
        positive: Sequence[str],
        negative: Sequence[str] = (),
        *,
        limit: int = 10,
        strategy: str = "mean",
        ask: Ask = ASK,
    ) -> list[Found]:
        """Vectors like those of some ids, and unlike those of others; by their `mean`, or by the `best` of them."""
        request = pb.SearchByExampleRequest(
            collection=collection,
            positive=positive,
            negative=negative,
            strategy=meaning_of(STRATEGIES, strategy, "strategy"),
            options=ask.options(limit),
        )
        with doing(f"searching the collection {collection} by example"):
            answer = await self._stub.SearchByExample(request)
        return [found_of(each) for each in answer.result.neighbours]

    async def groups(
        self, collection: str, query: Any, group_by: str, *, limit: int = 10, size: int = 1, ask: Ask = ASK
    ) -> list[FoundGroup]:
        """The nearest groups of vectors that share a value of a field, each with its nearest."""
        request = pb.SearchGroupsRequest(
            collection=collection,
            vector=encoded(query, where="query").matrix(),
            group_by=group_by,
            group_size=size,
            options=ask.options(limit),
        )
        with doing(f"searching groups of the collection {collection}"):
            answer = await self._stub.SearchGroups(request)
        return [group_of(each) for each in answer.groups]

    async def hybrid(
        self, collection: str, words: Words, query: Any = None, *, limit: int = 10, ask: Ask = ASK
    ) -> list[Found]:
        """What fits by its words and by its vector, best first; without a query by words alone."""
        request = pb.SearchHybridRequest(
            collection=collection,
            vector=None if query is None else encoded(query, where="query").matrix(),
            text=words.text,
            text_field=words.field,
            fusion=pb.Fusion(kind=meaning_of(FUSIONS, words.fusion, "fusion"), words_weight=words.weight),
            options=ask.options(limit),
        )
        with doing(f"searching the collection {collection} by words"):
            answer = await self._stub.SearchHybrid(request)
        return [found_of(each.neighbour, score=each.score) for each in answer.results]

    async def multi(
        self, collection: str, queries: Any, group_by: str, *, limit: int = 10, ask: Ask = ASK
    ) -> list[FoundGroup]:
        """Things that have several vectors, by several query vectors: each counts with its nearest (MaxSim)."""
        request = pb.SearchMultiVectorRequest(
            collection=collection,
            vectors=encoded(queries, where="queries").matrix(),
            group_by=group_by,
            options=ask.options(limit),
        )
        with doing(f"searching the collection {collection} by several vectors"):
            answer = await self._stub.SearchMultiVector(request)
        return [group_of(each.group, score=each.score) for each in answer.results]

    async def get(self, collection: str, ids: Sequence[str], *, vectors: bool = True) -> Points:
        """Vectors with their payloads by id, in the order of the ids; unknown ones are left out."""
        parts = []
        for start in range(0, len(ids), BATCH_MAX):
            request = pb.GetPointsRequest(
                collection=collection,
                ids=ids[start : start + BATCH_MAX],
                reading=Ask(payloads=True, vectors=vectors).reading,
            )
            with doing(f"reading from the collection {collection}"):
                answer = await self._stub.GetPoints(request)
            parts.append(answer.points)
        return points_of(_joined(parts))

    async def pages(
        self, collection: str, *, size: int = PAGE_MAX, order_by: str = "", descending: bool = False, ask: Ask = ASK
    ) -> AsyncGenerator[Points, None]:
        """All vectors that match, page by page, with what `ask` wants of them."""
        after = ""
        while True:
            request = pb.ListPointsRequest(
                collection=collection,
                filter=filter_text(ask.filter),
                limit=size,
                after=after,
                order_by=order_by,
                descending=descending,
                reading=ask.reading,
            )
            with doing(f"listing the collection {collection}"):
                answer = await self._stub.ListPoints(request)
            if answer.points.ids:
                yield points_of(answer.points)
            after = answer.next
            if not after:
                return

    async def count(self, collection: str, ask: Ask = ASK) -> int:
        """How many vectors match."""
        request = pb.GetCountRequest(collection=collection, filter=filter_text(ask.filter), reading=ask.reading)
        with doing(f"counting in the collection {collection}"):
            return int((await self._stub.GetCount(request)).count)

    async def values(self, collection: str, field: str, *, limit: int = 10, ask: Ask = ASK) -> Values:
        """The values of a field and how many vectors have each, the most frequent first."""
        request = pb.GetValueCountsRequest(
            collection=collection, field=field, filter=filter_text(ask.filter), limit=limit, reading=ask.reading
        )
        with doing(f"counting values in the collection {collection}"):
            answer = await self._stub.GetValueCounts(request)
        return Values(
            [(json.loads(each.value), int(each.count)) for each in answer.values], int(answer.count_missing_max)
        )


def _joined(parts: Sequence[pb.Rows]) -> pb.Rows:
    whole = pb.Rows()
    for part in parts:
        whole.MergeFrom(part)
    # To merge two messages has the later's bytes.
    whole.vectors.rows = b"".join(part.vectors.rows for part in parts)
    return whole
