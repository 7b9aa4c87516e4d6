"""Texts in a collection of vectors, embedded by whatever speaks OpenAI's API: `pip install 'ergonaut[openai]'`.

    texts = EmbeddedTexts("pages", OpenAI(), "text-embedding-3-small")
    texts.add(["p1", "p2"], ["a page", "another"])
    for found in texts.search("which page?"):
        print(found.id, found.payload["text"])

A model that the gateway serves does as well: OpenAI(base_url="http://127.0.0.1:8000/v1", api_key=...).
"""

from collections.abc import Sequence
from typing import Any

from ergonaut.tracking.exporting import LibraryMissing

try:
    import numpy as np
    from openai import OpenAI, OpenAIError
except ImportError as error:
    raise LibraryMissing(f"{error}; pip install 'ergonaut[openai]'") from error

from ergonaut.client import Client
from ergonaut.client.vectors import Ask, Found, Written
from ergonaut.errors import NotFound, Refused, Unavailable

TEXTS_AT_ONCE = 256
"""Texts of one call for embeddings; OpenAI takes 2,048, smaller servers less."""


class EmbeddedTexts:
    """Texts that are found by their meaning."""

    def __init__(
        self, collection: str, openai: OpenAI, model: str, *, client: Client | None = None, dimensions: int = 0
    ) -> None:
        """`dimensions` shortens the embeddings of models that can; 0 leaves them as they are."""
        self.collection = collection
        self._openai = openai
        self._model = model
        self._client = client or Client()
        self._dimensions = dimensions

    def add(self, ids: Sequence[str], texts: Sequence[str], payloads: Sequence[dict[str, Any]] = ()) -> Written:
        """Embed texts and write them, each with its payload; the collection is made where there is none."""
        if not texts or len(ids) != len(texts):
            raise Refused(f"has {len(texts)} entries for {len(ids)} ids", field="texts")
        if len(payloads) not in (0, len(texts)):
            raise Refused(f"has {len(payloads)} entries for {len(texts)} texts", field="payloads")
        vectors = self.embedded(texts)
        told = [{**payload, "text": text} for payload, text in zip(payloads or [{}] * len(texts), texts, strict=True)]
        try:
            return self._client.vectors.write(self.collection, ids, vectors, told)
        except NotFound:
            self._client.vectors.create(self.collection, vectors.shape[1], metric="cosine", fields={"text": "text"})
            return self._client.vectors.write(self.collection, ids, vectors, told)

    def search(self, text: str, limit: int = 10, ask: Ask | None = None) -> list[Found]:
        """The texts nearest in meaning, nearest first, with their payloads."""
        asked = ask or Ask(payloads=True)
        found = self._client.vectors.nearest(self.collection, self.embedded([text]), limit, asked)
        payloads = found.payloads[0] if found.payloads else [None] * len(found.ids[0])
        return [
            Found(name, float(distance), payload)
            for name, distance, payload in zip(found.ids[0], found.distances[0], payloads, strict=True)
        ]

    def embedded(self, texts: Sequence[str]) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """The embeddings of texts, one a row. Raises Unavailable where the model does not answer."""
        more: dict[str, Any] = {"dimensions": self._dimensions} if self._dimensions else {}
        rows: list[Sequence[float]] = []
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            part = list(texts[first : first + TEXTS_AT_ONCE])
            try:
                answer = self._openai.embeddings.create(model=self._model, input=part, **more)
            except OpenAIError as error:
                raise Unavailable(f"embedding {len(part)} texts by {self._model}: {error}") from error
            rows += [each.embedding for each in sorted(answer.data, key=lambda each: each.index)]
        return np.array(rows, np.float32)
