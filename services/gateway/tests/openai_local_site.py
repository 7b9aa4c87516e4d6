"""A door of the OpenAI-compatible paths with models that run behind it: what the tests of them share."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai

from ergonaut_common.auth import KeyRing
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.assembly.text import TextModels, text_models
from ergonaut_gateway.domain.energy import Rate
from ergonaut_gateway.http import Callers, HttpLimits, Router, serving_http
from ergonaut_gateway.openai import Reporting, opened_door

from .conftest import Gateway, Gateways
from .openai_upstream import FakeModels, fake_models
from .text_models import (
    Encoder,
    decoder_folder,
    encoder_files,
)

TEXTS = ["Every joule counts.", "grams", "What does a run use, and when is the grid clean?" * 3]
ASKED: Any = [{"role": "user", "content": "joules?"}]
WRITTEN = "<|user|>joules?\n<|assistant|>"
RATE = Rate(10.0, 0.25, "calibrated", "a counter")


class Site:
    """A door to a model of the registry, one of a folder, and a server elsewhere."""

    def __init__(self, folder: Path, gateway: Gateway, elsewhere: FakeModels) -> None:
        self.folder = folder
        self.gateway = gateway
        self.elsewhere = elsewhere
        self.local: TextModels | None = None
        self.file, self.keys = key_ring_file(folder, ("default", "other"))
        _, self.tokenizer = encoder_files(folder / "encoder")
        decoder_folder(folder / "decoder")
        gateway.predictions.energy.rate = lambda: RATE

    @property
    def server(self) -> dict[str, Any]:
        return {"url": f"http://127.0.0.1:{self.elsewhere.port}", "weight": 0}

    def vectors(self, **more: Any) -> dict[str, Any]:
        return {"kind": "onnx", "model": "minilm", "tokenizer": str(self.tokenizer), "tokens_max": 128, **more}

    def answers(self, **more: Any) -> dict[str, Any]:
        return {"kind": "onnx", "folder": str(self.folder / "decoder"), **more}

    @asynccontextmanager
    async def opened(
        self, *upstreams: dict[str, Any], tenant: str = "default", **route: Any
    ) -> AsyncIterator[openai.AsyncOpenAI]:
        """OpenAI's client of a door whose route `small` has these upstreams."""
        routes = self.folder / "routes.json"
        routes.write_text(json.dumps({"models": {"small": {"upstreams": upstreams, "rounds": 1, **route}}}))
        router, callers = Router(), Callers(KeyRing.load(self.file))
        reporting = Reporting(self.gateway.announcer, 3600.0)
        async with (
            text_models(self.gateway.predictions) as self.local,
            opened_door(str(routes), callers, router, reporting, self.local),
            serving_http("127.0.0.1:0", router, HttpLimits()) as port,
            openai.AsyncOpenAI(
                api_key=self.keys[tenant], base_url=f"http://127.0.0.1:{port}/v1", max_retries=0
            ) as client,
        ):
            yield client


@asynccontextmanager
async def made_site(gateways: Gateways, folder: Path) -> AsyncIterator[Site]:
    """A site whose registry has the encoder as `minilm`."""
    gateway = gateways.another(OnnxLoader(), file_bytes_max=10_000_000)
    await gateway.deploy(Encoder().file(), "minilm")
    async with fake_models() as elsewhere:
        yield Site(folder, gateway, elsewhere)
    gateway.predictions.close()


async def embedded(client: openai.AsyncOpenAI, texts: Any, **more: Any) -> list[list[float]]:
    answer = await client.embeddings.create(model="small", input=texts, **more)
    assert [each.index for each in answer.data] == list(range(len(answer.data)))
    return [each.embedding for each in answer.data]
