"""The OpenAI-compatible door of a real gateway process, by its setting."""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai

from ergonaut_common.testing import key_ring_file

from .openai_upstream import fake_models
from .test_process import PATIENCE_SECONDS, Site, deploy, healthy, made_site
from .text_models import Encoder, decoder_folder, encoder_files

ASKED: Any = [{"role": "user", "content": "joules?"}]


async def test_a_process_serves_the_routes_that_its_setting_names(nats_url: str, tmp_path: Path) -> None:
    ring = key_ring_file(tmp_path, ("default",))
    site = made_site(nats_url, tmp_path / "one", ring, "default")
    routes = tmp_path / "routes.json"
    site.process.environment["ERGONAUT_GATEWAY_OPENAI_ROUTES"] = str(routes)
    async with fake_models() as upstream:
        kind = {"kind": "ollama", "url": f"http://127.0.0.1:{upstream.port}"}
        routes.write_text(json.dumps({"models": {"small": {"upstreams": [kind]}}}))
        with site.process.running():
            async with healthy(site):
                address = f"http://{site.http_address}/v1"
                async with openai.AsyncOpenAI(api_key=ring[1]["default"], base_url=address) as client:
                    answer = await client.chat.completions.create(model="small", messages=[])
    assert answer.choices[0].message.content == "watts"
    assert upstream.asked[0]["path"] == "/v1/chat/completions"


def text_site(nats_url: str, folder: Path) -> Site:
    """A gateway whose routes are models that run in it: `minilm` of its registry, `tiny` of a folder."""
    site = made_site(nats_url, folder / "one", key_ring_file(folder, ("default",)), "default")
    _, tokenizer = encoder_files(folder / "encoder")
    vectors = {"kind": "onnx", "tokenizer": str(tokenizer)}
    answers = {"kind": "onnx", "folder": str(decoder_folder(folder / "decoder", genai=True, shares=True))}
    routes = folder / "routes.json"
    routes.write_text(json.dumps({"models": {"minilm": {"upstreams": [vectors]}, "tiny": {"upstreams": [answers]}}}))
    site.process.environment["ERGONAUT_GATEWAY_OPENAI_ROUTES"] = str(routes)
    return site


async def test_a_process_makes_vectors_and_answers_by_models_of_its_own(nats_url: str, tmp_path: Path) -> None:
    site = text_site(nats_url, tmp_path)
    with site.process.running():
        async with healthy(site) as stub, client_of(site) as client:
            await deploy(stub, site, Encoder().file(), "minilm")
            vectors = await asyncio.gather(
                *(client.embeddings.create(model="minilm", input=f"run {number}") for number in range(20))
            )
            texts = await asyncio.gather(
                *(client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=9, seed=4) for _ in range(6))
            )
            stream = await client.chat.completions.create(
                model="tiny", messages=ASKED, max_tokens=9, seed=4, stream=True
            )
            streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        async with site.http as http:
            metrics = (await http.get(f"http://{site.metrics_address}/metrics")).text
    assert {len(each.data[0].embedding) for each in vectors} == {16}
    assert {each.choices[0].message.content for each in texts} == {streamed}
    assert 'ergonaut_completions_tokens_total{direction="out",route="tiny",tenant="default"} 63.0' in metrics
    assert 'ergonaut_inference_requests_total{model="minilm",tenant="default",version="1"} 20.0' in metrics


async def test_a_process_that_is_told_to_stop_leaves_in_order_while_it_answers(nats_url: str, tmp_path: Path) -> None:
    site = text_site(nats_url, tmp_path)
    site.process.environment["ERGONAUT_GATEWAY_STOP_SECONDS"] = "1"
    with site.process.running():
        async with healthy(site), client_of(site) as client:
            streams = [
                await client.chat.completions.create(model="tiny", messages=ASKED, stream=True) for _ in range(4)
            ]
            for stream in streams:
                await anext(stream)
            assert await site.process.stopped(PATIENCE_SECONDS) == 0


async def test_a_process_does_not_start_with_a_model_whose_files_are_missing(nats_url: str, tmp_path: Path) -> None:
    site = text_site(nats_url, tmp_path)
    (tmp_path / "decoder" / "model.onnx").unlink()
    with site.process.running():
        assert await asyncio.to_thread(site.process.exit_code, PATIENCE_SECONDS) == 1
    assert "has no model.onnx" in site.process.log.read_text()


def client_of(site: Site) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        api_key=site.process.keys["default"], base_url=f"http://{site.http_address}/v1", max_retries=0
    )
