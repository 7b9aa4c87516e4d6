"""Texts in collections through LangChain and through OpenAI's client, against a real door and a server that embeds letters."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from openai import OpenAI

from ergonaut.client import Client, Connection
from ergonaut.client.vectors import Ask
from ergonaut.errors import Refused, Unavailable
from ergonaut.integrations.langchain import ErgonautVectorStore
from ergonaut.integrations.openai import EmbeddedTexts

from .catalogues import House, house_of

TEXTS = ["aaa", "bbb", "abab", "ccc"]


def letters(text: str) -> list[float]:
    """How often each of the first letters stands in a text."""
    return [float(text.count(letter)) + 0.01 for letter in "abcdef"]


class Letters(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [letters(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return letters(text)


class Server(BaseHTTPRequestHandler):
    """Answers as OpenAI does; fails for the text `fail`."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status = 500 if "fail" in asked["input"] else 200
        data = [
            {"object": "embedding", "index": at, "embedding": letters(text)} for at, text in enumerate(asked["input"])
        ]
        content = json.dumps({"object": "list", "data": data[::-1], "model": asked["model"], "usage": {}}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def openai() -> Iterator[OpenAI]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none", max_retries=0) as client:
        yield client
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with house_of(tmp_path) as made:
        yield made


async def beside(house: House, program: Callable[[Client], Any]) -> Any:
    """What a program without asyncio gives."""

    def run(connection: Connection) -> Any:
        with Client(connection) as client:
            return program(client)

    return await asyncio.to_thread(run, house.connection)


async def test_a_langchain_store_finds_documents_by_nearness_and_filter(house: House) -> None:
    def program(client: Client) -> None:
        metadatas = [{"source": source} for source in "wxyz"]
        store = ErgonautVectorStore.from_texts(
            TEXTS, Letters(), metadatas, collection="pages", client=client, ids=["1", "2", "3", "4"]
        )
        assert [document.page_content for document in store.similarity_search("a", k=2)] == ["aaa", "abab"]
        only = {"field": "metadata.source", "eq": "x"}
        ((document, distance),) = store.similarity_search_with_score("a", k=3, filter=only)
        assert (document.id, document.page_content, document.metadata) == ("2", "bbb", {"source": "x"})
        assert distance > 0.9
        unlike = store.max_marginal_relevance_search("a", k=2, fetch_k=4, lambda_mult=0.1)
        assert unlike[0].page_content == "aaa"
        ((_, score), *_) = store.similarity_search_with_relevance_scores("aaa", k=1)
        assert score == pytest.approx(1.0, abs=1e-5)
        assert [document.id for document in store.get_by_ids(["4", "none", "1"])] == ["4", "1"]
        store.delete(["1"])
        assert store.as_retriever().invoke("a")[0].page_content == "abab"
        store.delete()
        assert store.similarity_search("a") == []

    await beside(house, program)


async def test_a_langchain_store_makes_its_collection_when_first_written_to(house: House) -> None:
    def program(client: Client) -> None:
        store = ErgonautVectorStore("pages", Letters(), client=client)
        (name,) = store.add_texts(["abc"])
        assert store.get_by_ids([name])[0].page_content == "abc"
        with pytest.raises(Refused, match="metadatas: has 1 entries for 2 texts"):
            store.add_texts(["a", "b"], [{}])

    await beside(house, program)


async def test_texts_are_embedded_by_openais_client_and_found(house: House, openai: OpenAI) -> None:
    def program(client: Client) -> None:
        texts = EmbeddedTexts("pages", openai, "letters", client=client)
        texts.add(["1", "2", "3", "4"], TEXTS, [{"at": at} for at in range(4)])
        found = texts.search("bb", limit=2)
        assert [(each.id, each.payload) for each in found] == [
            ("2", {"at": 1, "text": "bbb"}),
            ("3", {"at": 2, "text": "abab"}),
        ]
        assert texts.search("b", ask=Ask(filter={"field": "at", "eq": 3}))[0].id == "4"
        with pytest.raises(Unavailable, match="embedding 1 texts by letters"):
            texts.search("fail")

    await beside(house, program)
