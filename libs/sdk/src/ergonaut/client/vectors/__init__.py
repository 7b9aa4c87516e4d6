"""Collections of vectors: create, write, search.

    async with AsyncClient() as ergonaut:
        await ergonaut.vectors.create("pages", 384, metric="cosine", fields={"text": {"type": "text", "language": "english"}})
        await ergonaut.vectors.write("pages", ids, matrix, payloads)
        found = await ergonaut.vectors.nearest("pages", queries, 10, Ask(filter={"field": "year", "range": {"gte": 2020}}))
        print(found.ids, found.distances)

Arrays need numpy (`pip install 'ergonaut[vectors]'`); `upsert` and `search` do without.
"""

from ergonaut.client.vectors.answers import Found, FoundGroup, Nearest, Points, Values, Written
from ergonaut.client.vectors.arrays import index_of
from ergonaut.client.vectors.base import Ask, Filter
from ergonaut.client.vectors.collections import CollectionCalls
from ergonaut.client.vectors.searching import SearchingCalls, Words
from ergonaut.client.vectors.writing import WritingCalls


class Vectors(CollectionCalls, WritingCalls, SearchingCalls):
    """Collections of vectors."""


__all__ = [
    "Ask",
    "Filter",
    "Found",
    "FoundGroup",
    "Nearest",
    "Points",
    "Values",
    "Vectors",
    "Words",
    "Written",
    "index_of",
]
