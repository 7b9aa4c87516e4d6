"""A LangChain vector store over a collection of vectors: `pip install 'ergonaut[langchain]'`.

    store = ErgonautVectorStore.from_texts(texts, embedding, collection="pages")
    store.similarity_search("how much did it cost?", k=4, filter={"field": "metadata.source", "eq": "invoice"})

A document is kept as the payload {"text": ..., "metadata": {...}} of its vector; filters are those of `ergonaut.client.vectors`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from ergonaut.tracking.exporting import LibraryMissing

try:
    import numpy as np
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ImportError as error:
    raise LibraryMissing(f"{error}; pip install 'ergonaut[langchain]'") from error

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.client import Client
from ergonaut.client.vectors import Ask, Filter
from ergonaut.client.vectors.arrays import METRICS, name_of
from ergonaut.errors import NotFound, Refused
from ergonaut.ids import new_id

EVERYTHING: Filter = {"and": []}
"""The filter that every vector fulfils."""


class ErgonautVectorStore(VectorStore):
    """Documents in a collection, found by the nearness of their embeddings."""

    def __init__(self, collection: str, embedding: Embeddings, *, client: Client | None = None) -> None:
        self.collection = collection
        self._embedding = embedding
        self._client = client or Client()
        self._metric = ""

    @classmethod
    def from_texts(
        cls, texts: list[str], embedding: Embeddings, metadatas: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> Self:
        """A store with these texts. Takes `collection`, `client`, `ids`, and `metric`, which is cosine unless it is told.

        The collection is made where there is none, with as many dimensions as the first embedding has.
        """
        store = cls(kwargs.pop("collection"), embedding, client=kwargs.pop("client", None))
        metric = kwargs.pop("metric", "cosine")
        if texts:
            vectors = embedding.embed_documents(texts)
            store.make(len(vectors[0]), metric=metric)
            store._write(texts, vectors, metadatas, kwargs.pop("ids", None))
        return store

    @property
    def embeddings(self) -> Embeddings:
        """What makes vectors of texts."""
        return self._embedding

    def make(self, dimension: int, *, metric: str = "cosine") -> None:
        """Make the collection; the same again changes nothing."""
        self._client.vectors.create(self.collection, dimension, metric=metric, fields={"text": "text"})

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Write texts, under new ids where none are told; one that is there is written over."""
        listed = list(texts)
        return self._write(listed, self._embedding.embed_documents(listed), metadatas, ids) if listed else []

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Remove documents by id; all of them where no ids are told."""
        if ids is None:
            self._client.vectors.delete(self.collection, filter=EVERYTHING)
        elif ids:
            self._client.vectors.delete(self.collection, ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Documents by id; those that are not there are left out."""
        found = self._client.vectors.get(self.collection, ids, vectors=False)
        return [_document(name, payload) for name, payload in zip(found.ids, found.payloads, strict=True)]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The documents nearest to a text; `filter` leaves only those that match it."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """The same with their distances; smaller is nearer."""
        return self._nearest(self._embedding.embed_query(query), k, kwargs.get("filter"))

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """The documents nearest to an embedding."""
        return [document for document, _ in self._nearest(embedding, k, kwargs.get("filter"))]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Documents that are near a text and unlike each other."""
        embedding = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(embedding, k, fetch_k, lambda_mult, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Documents that are near an embedding and unlike each other."""
        ask = Ask(filter=kwargs.get("filter"), payloads=True, vectors=True)
        found = self._client.vectors.nearest(self.collection, [embedding], fetch_k, ask)
        if found.vectors is None or found.payloads is None:
            return []
        vectors = list(found.vectors[0].astype(np.float32))
        chosen = maximal_marginal_relevance(np.array(embedding, np.float32), vectors, lambda_mult, k)
        return [_document(found.ids[0][at], found.payloads[0][at]) for at in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """From distances to 0 to 1, 1 being nearest. Raises Refused for inner products, which have no such bounds."""
        if not self._metric:
            self._metric = _metric(self._client.vectors.describe(self.collection).collection)
        if self._metric == "cosine":
            return lambda distance: max(0.0, 1.0 - distance)
        if self._metric == "l2":
            return lambda distance: 1.0 / (1.0 + distance)
        raise Refused(f"of {self._metric} has no bounds; use the distances", field="relevance score")

    def _write(
        self,
        texts: Sequence[str],
        vectors: Sequence[Sequence[float]],
        metadatas: Sequence[dict[str, Any]] | None,
        ids: Sequence[str | None] | None,
    ) -> list[str]:
        for told, where in ((metadatas, "metadatas"), (ids, "ids")):
            if told is not None and len(told) != len(texts):
                raise Refused(f"has {len(told)} entries for {len(texts)} texts", field=where)
        names = [name or new_id("document") for name in (ids or [None] * len(texts))]
        payloads = [
            {"text": text, "metadata": metadata}
            for text, metadata in zip(texts, metadatas or [{}] * len(texts), strict=True)
        ]
        try:
            self._client.vectors.write(self.collection, names, vectors, payloads)
        except NotFound:
            self.make(len(vectors[0]))
            self._client.vectors.write(self.collection, names, vectors, payloads)
        return names

    def _nearest(self, embedding: Sequence[float], k: int, only: Filter | None) -> list[tuple[Document, float]]:
        found = self._client.vectors.nearest(self.collection, [embedding], k, Ask(filter=only, payloads=True))
        payloads = found.payloads[0] if found.payloads else []
        return [
            (_document(name, payload), float(distance))
            for name, payload, distance in zip(found.ids[0], payloads, found.distances[0], strict=True)
        ]


def _document(name: str, payload: Any) -> Document:
    return Document(id=name, page_content=payload.get("text", ""), metadata=dict(payload.get("metadata", {})))


def _metric(collection: pb.Collection) -> str:
    return name_of(METRICS, collection.metric)
