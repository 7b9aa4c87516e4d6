"""Models that run here behind the OpenAI-compatible door, asked by OpenAI's own client and held against what numpy computes."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from ergonaut.errors import Refused
from ergonaut.events import CompletionsServed
from ergonaut_common.auth import KeyRing
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.assembly.text import TextModels, text_models
from ergonaut_gateway.domain.energy import Rate
from ergonaut_gateway.http import Callers, HttpLimits, Router, serving_http
from ergonaut_gateway.openai import Reporting, opened_door
from ergonaut_gateway.service.generation import Generation, Wanted

from .conftest import Gateway, Gateways
from .onnx_models import doubling
from .openai_upstream import FakeModels, fake_models
from .text_models import (
    DecoderModel,
    Encoder,
    decoder_folder,
    decoder_tokenizer,
    encoder_files,
    encoder_tokenizer,
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


@pytest.fixture
async def site(gateways: Gateways, tmp_path: Path) -> AsyncIterator[Site]:
    gateway = gateways.another(OnnxLoader(), file_bytes_max=10_000_000)
    await gateway.deploy(Encoder().file(), "minilm")
    async with fake_models() as elsewhere:
        yield Site(tmp_path, gateway, elsewhere)
    gateway.predictions.close()


def reference(text: str | list[int], pooling: str = "mean", *, normalized: bool = True) -> Any:
    tokens = encoder_tokenizer().encode(text).ids if isinstance(text, str) else text
    states = Encoder().states(tokens)
    vector = {"mean": states.mean(axis=0), "cls": states[0], "last": states[-1]}[pooling]
    return vector / np.linalg.norm(vector) if normalized else vector


def decoded(tokens: list[int]) -> str:
    """Their text, without the part of a character that may stand at its end."""
    return decoder_tokenizer().decode(tokens).rstrip("\ufffd")


async def embedded(client: openai.AsyncOpenAI, texts: Any, **more: Any) -> list[list[float]]:
    answer = await client.embeddings.create(model="small", input=texts, **more)
    assert [each.index for each in answer.data] == list(range(len(answer.data)))
    return [each.embedding for each in answer.data]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("form", ["float", "base64"])
async def test_vectors_are_those_that_numpy_computes_whatever_else_is_asked(
    site: Site, pooling: str, form: str
) -> None:
    async with site.opened(site.vectors(pooling=pooling)) as client:
        vectors = await embedded(client, TEXTS, encoding_format="float" if form == "float" else openai.omit)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert vector == pytest.approx(reference(text, pooling), abs=1e-5)


async def test_one_text_a_list_and_tokens_are_the_same_text(site: Site) -> None:
    tokens = encoder_tokenizer().encode(TEXTS[0]).ids
    async with site.opened(site.vectors()) as client:
        [one] = await embedded(client, TEXTS[0])
        [of_list], [of_tokens] = await embedded(client, [TEXTS[0]]), await embedded(client, tokens)
        of_both = await embedded(client, [tokens, tokens])
        answer = await client.embeddings.create(model="small", input=[tokens, tokens])
    assert one == of_list == of_tokens == of_both[0] == of_both[1]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (2 * len(tokens), 2 * len(tokens))


async def test_a_vector_is_shortened_and_left_unnormalized_where_that_is_wanted(site: Site) -> None:
    async with site.opened(site.vectors(normalized=False)) as client:
        [whole] = await embedded(client, TEXTS[0])
        [short] = await embedded(client, TEXTS[0], dimensions=4)
        with pytest.raises(openai.BadRequestError, match="vectors have 16 numbers") as caught:
            await embedded(client, TEXTS[0], dimensions=17)
    assert whole == pytest.approx(reference(TEXTS[0], normalized=False), abs=1e-5)
    assert short == whole[:4]
    assert caught.value.param == "dimensions"


async def test_a_model_of_one_length_and_one_text_at_a_time_gives_the_same(site: Site) -> None:
    await site.gateway.deploy(Encoder(length=32, rows=1).file(), "fixed")
    async with site.opened(site.vectors(model="fixed", tokens_max=32)) as client:
        vectors = await embedded(client, TEXTS[:2])
        with pytest.raises(openai.BadRequestError, match="the model takes 32"):
            await embedded(client, TEXTS[2])
    async with site.opened(site.vectors(model="fixed", tokens_max=33)) as client:
        with pytest.raises(openai.BadRequestError, match="fixed takes texts of 32 tokens; set tokens_max"):
            await embedded(client, TEXTS[0])
    for text, vector in zip(TEXTS, vectors, strict=False):
        assert vector == pytest.approx(reference(text), abs=1e-5)


async def test_a_text_that_is_too_long_is_refused_or_cut_as_the_route_says(site: Site) -> None:
    tokens = encoder_tokenizer().encode(TEXTS[2]).ids
    async with site.opened(site.vectors(tokens_max=10)) as client:
        with pytest.raises(
            openai.BadRequestError, match=f"text 1 has {len(tokens)} tokens, the model takes 10"
        ) as told:
            await embedded(client, ["x", TEXTS[2]])
    assert (told.value.code, told.value.type) == ("context_length_exceeded", "invalid_request_error")
    async with site.opened(site.vectors(tokens_max=10, truncated=True)) as client:
        answer = await client.embeddings.create(model="small", input=TEXTS[2])
    assert answer.data[0].embedding == pytest.approx(reference([*tokens[:9], tokens[-1]]), abs=1e-5)
    assert answer.usage.prompt_tokens == 10


async def test_many_texts_come_in_their_order_and_are_counted_with_their_model(site: Site) -> None:
    texts = [f"run {number} used joules" for number in range(300)]
    async with site.opened(site.vectors()) as client:
        vectors = await embedded(client, texts)
    assert vectors[7] == pytest.approx(reference(texts[7]), abs=1e-5)
    assert vectors[299] == pytest.approx(reference(texts[299]), abs=1e-5)
    assert site.gateway.predictions.statistics("default", "minilm").inferences == 300


@pytest.mark.parametrize(
    ("body", "param", "told"),
    [
        ({"input": ""}, "input", "text 0 is empty"),
        ({"input": []}, "input", "must not be empty"),
        ({"input": [[]]}, "input", "text 0 is empty"),
        ({"input": ["x", 7]}, "input", "texts or tokens, not both"),
        ({"input": [9_999]}, "input", "tokens outside 0 to"),
        ({"input": [-1]}, "input", "tokens outside 0 to"),
        ({"input": 7}, "input", "Expected"),
        ({"input": ["x"] * 3_000}, "input", "at most 2048"),
        ({"input": "x" * 5_000_000}, "input", "at most 4194304"),
        ({}, "input", "missing required field"),
        ({"input": "x", "dimensions": 0}, "dimensions", ">= 1"),
        ({"input": "x", "encoding_format": "text"}, "encoding_format", "Invalid enum"),
    ],
)
async def test_wrong_input_is_told_by_its_field(site: Site, body: dict[str, Any], param: str, told: str) -> None:
    async with site.opened(site.vectors()) as client, httpx.AsyncClient() as http:
        headers = {"authorization": f"Bearer {client.api_key}"}
        answer = await http.post(f"{client.base_url}embeddings", json={"model": "small", **body}, headers=headers)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert told in error["message"]


async def test_no_body_makes_models_that_run_here_fail(site: Site) -> None:
    random = Random(7)
    values: list[Any] = [
        None,
        True,
        -1,
        0,
        1,
        3,
        2**70,
        1e300,
        "",
        "joules",
        "\x00",
        [],
        [""],
        ["a", "b"],
        [1, 2],
        [[1], [2]],
        [[]],
    ]
    values += [
        [[]],
        [None],
        {},
        {"a": 1},
        "float",
        "base64",
        [ASKED[0]],
        [{"role": "user", "content": [{"type": "text"}]}],
    ]
    names = [
        "input",
        "messages",
        "prompt",
        "stop",
        "temperature",
        "top_p",
        "seed",
        "n",
        "dimensions",
        "stream",
        "logprobs",
    ]
    names += ["encoding_format", "stream_options", "presence_penalty", "tools", "response_format", "echo"]
    told: Counter[int] = Counter()
    for upstream in (site.vectors(), site.answers()):
        async with site.opened(upstream) as client, httpx.AsyncClient() as http:
            headers = {"authorization": f"Bearer {client.api_key}"}
            for _ in range(150):
                body = {"model": "small", "input": "x", "messages": ASKED, "prompt": "x", "max_tokens": 3}
                body |= {name: random.choice(values) for name in random.sample(names, random.randint(0, 3))}
                path = random.choice(["embeddings", "chat/completions", "completions"])
                answer = await http.post(f"{client.base_url}{path}", json=body, headers=headers)
                told[answer.status_code] += 1
                assert answer.status_code in (200, 400), (path, body, answer.text)
    assert min(told[200], told[400]) > 20


async def test_a_model_is_asked_for_what_it_is_for(site: Site) -> None:
    await site.gateway.deploy(doubling(), "doubling")
    async with site.opened(site.vectors()) as client:
        with pytest.raises(openai.BadRequestError, match="makes vectors and no answers"):
            await client.chat.completions.create(model="small", messages=ASKED)
    async with site.opened(site.answers()) as client:
        with pytest.raises(openai.BadRequestError, match="is not an embedding model"):
            await embedded(client, "x")
    async with site.opened(site.vectors(model="doubling")) as client:
        with pytest.raises(openai.BadRequestError, match="doubling is no model that makes vectors of text"):
            await embedded(client, "x")


async def test_a_tenant_has_its_own_model_or_the_one_that_the_route_lends_it(site: Site) -> None:
    async with site.opened(site.vectors(), tenant="other") as client:
        with pytest.raises(openai.InternalServerError, match="its model is not served"):
            await embedded(client, "x")
    async with site.opened(site.vectors(tenant="default"), tenant="other") as client:
        assert len(await embedded(client, "x")) == 1


async def test_a_server_elsewhere_answers_until_the_model_here_is_deployed(site: Site) -> None:
    async with site.opened(site.vectors(model="later"), site.server) as client:
        assert (await embedded(client, "x", encoding_format="float"))[0] == [0.5, 0.25]
        await site.gateway.deploy(Encoder().file(), "later")
        assert len((await embedded(client, "x"))[0]) == 16
    assert len(site.elsewhere.asked) == 1


async def test_vectors_and_answers_tell_what_their_runs_used_as_an_estimate_with_its_range(site: Site) -> None:
    async with site.opened(site.vectors(), usd_per_million_input=1.0) as client:
        answer = await client.embeddings.create(model="small", input=TEXTS)
    told = answer.usage.ergonaut  # type: ignore[attr-defined]
    assert told["method"] == "estimate: calibrated, estimate by CPU time; a counter"
    assert told["energy_joules"] > 0
    low, high = told["range"]["energy_joules"]
    assert (low, high) == (pytest.approx(0.75 * told["energy_joules"]), pytest.approx(1.25 * told["energy_joules"]))
    assert told["cost_usd"] == pytest.approx(answer.usage.prompt_tokens / 1e6)
    async with site.opened(site.answers()) as client:
        chat = await client.chat.completions.create(model="small", messages=ASKED, max_tokens=8)
    assert site.local is not None
    assert chat.usage.ergonaut["energy_joules"] == pytest.approx(10 * site.local.cpu_seconds())
    events = [event for event in site.gateway.announcer.told if isinstance(event, CompletionsServed)]
    assert [event.energy_joules for event in events] == [told["energy_joules"], chat.usage.ergonaut["energy_joules"]]


async def test_a_chat_goes_on_as_numpy_computes_it(site: Site) -> None:
    prompt = decoder_tokenizer().encode(WRITTEN).ids
    tokens = DecoderModel().answer(prompt, 12)
    async with site.opened(site.answers()) as client:
        answer = await client.chat.completions.create(model="small", messages=ASKED, max_tokens=12, temperature=0)
    assert answer.choices[0].message.content == decoded(tokens)
    assert answer.choices[0].finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(prompt), 12)
    assert (answer.model, answer.object, answer.choices[0].message.role) == ("small", "chat.completion", "assistant")


async def test_a_stream_has_the_same_words_and_tells_its_usage_to_who_asks(site: Site) -> None:
    options: dict[str, Any] = {"messages": ASKED, "max_tokens": 12, "temperature": 0, "model": "small"}
    async with site.opened(site.answers()) as client:
        whole = await client.chat.completions.create(**options)
        chunks = [chunk async for chunk in await client.chat.completions.create(**options, stream=True)]
        told = [
            chunk
            async for chunk in await client.chat.completions.create(
                **options, stream=True, stream_options={"include_usage": True}
            )
        ]
        async with client.chat.completions.stream(**options) as stream:
            kinds = {event.type async for event in stream}
            final = stream.current_completion_snapshot
    text = whole.choices[0].message.content
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"
    assert told[-1].usage.completion_tokens == 12
    assert told[-1].usage.ergonaut["energy_joules"] > 0
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == text


async def test_a_completion_goes_on_with_a_text_or_its_tokens(site: Site) -> None:
    tokens = decoder_tokenizer().encode("What does a run use?").ids
    expected = decoded(DecoderModel().answer(tokens, 16))
    async with site.opened(site.answers()) as client:
        of_text = await client.completions.create(model="small", prompt="What does a run use?", temperature=0)
        of_tokens = await client.completions.create(model="small", prompt=tokens, temperature=0)
        stream = await client.completions.create(model="small", prompt=[tokens], temperature=0, stream=True)
        streamed = "".join([chunk.choices[0].text async for chunk in stream])
    assert of_text.choices[0].text == of_tokens.choices[0].text == streamed == expected
    assert of_text.usage.completion_tokens == 16


async def test_a_stop_ends_the_answer_before_it(site: Site) -> None:
    tokens = decoder_tokenizer().encode(WRITTEN).ids
    text = decoded(DecoderModel().answer(tokens, 12))
    word = text[5:8]
    async with site.opened(site.answers()) as client:
        answer = await client.chat.completions.create(
            model="small", messages=ASKED, max_tokens=12, temperature=0, stop=["not there", word]
        )
    assert answer.choices[0].message.content == text[: text.index(word)]
    assert answer.choices[0].finish_reason == "stop"


async def test_the_same_seed_gives_the_same_answer_and_chance_another(site: Site) -> None:
    async def told(**more: Any) -> str:
        answer = await client.chat.completions.create(model="small", messages=ASKED, max_tokens=24, **more)
        return answer.choices[0].message.content

    async with site.opened(site.answers()) as client:
        assert await told(seed=5) == await told(seed=5)
        assert await told(seed=5) != await told(seed=6)
        assert await told(seed=5, top_p=1e-9) == await told(temperature=0)


@pytest.mark.parametrize(
    ("more", "param", "told"),
    [
        ({"n": 2}, "n", "one answer a request"),
        ({"tools": [{"type": "function"}]}, "tools", "calls no tools"),
        ({"logprobs": True}, "logprobs", "likelihoods are not told"),
        ({"response_format": {"type": "json_object"}}, "response_format", "cannot be held to a form"),
        ({"temperature": 3}, "temperature", "<= 2.0"),
        ({"top_p": 0}, "top_p", "> 0.0"),
        ({"max_tokens": 0}, "max_tokens", ">= 1"),
        ({"stop": ["a"] * 5}, "stop", "at most 4 words"),
        ({"stop": ""}, "stop", "of 1 to"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "no token can be favoured"),
        ({"messages": []}, "messages", "at least one message"),
        ({"messages": [{"content": "x"}]}, "messages", "message 0 has no role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "parts that are no text"),
        ({"messages": "x"}, "messages", "Expected"),
        ({"seed": 1.5}, "seed", "Expected"),
    ],
)
async def test_what_is_not_offered_here_is_refused_and_not_ignored(
    site: Site, more: dict[str, Any], param: str, told: str
) -> None:
    async with site.opened(site.answers()) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(**{"model": "small", "messages": ASKED, **more})
    assert caught.value.param == param
    assert told in caught.value.message


async def test_what_is_too_long_for_the_context_is_told_as_openai_tells_it(site: Site) -> None:
    async with site.opened(site.answers(context_tokens_max=32)) as client:
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError, match="the model's context is 32 tokens") as caught:
                await client.chat.completions.create(
                    model="small", messages=[{"role": "user", "content": "joules " * 40}], stream=stream
                )
            assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.BadRequestError, match="and 31 for the answer"):
            await client.chat.completions.create(model="small", messages=ASKED, max_tokens=31)


async def test_parts_of_a_message_that_are_text_are_read_as_one(site: Site) -> None:
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "jou"}, {"type": "text", "text": "les?"}]}]
    options: dict[str, Any] = {"model": "small", "max_tokens": 6, "temperature": 0}
    async with site.opened(site.answers()) as client:
        of_parts = await client.chat.completions.create(messages=parts, **options)
        of_text = await client.chat.completions.create(messages=ASKED, **options)
    assert of_parts.choices[0].message.content == of_text.choices[0].message.content
    assert of_parts.usage.prompt_tokens == of_text.usage.prompt_tokens


async def test_a_caller_that_goes_ends_the_work_for_it(site: Site) -> None:
    async with site.opened(site.answers()) as client:
        stream = await client.chat.completions.create(model="small", messages=ASKED, stream=True)
        await anext(stream)
        await stream.close()
        assert site.local is not None
        [generation] = site.local._generations
        await idle(generation)


async def test_a_caller_who_gives_up_before_the_answer_ends_the_work_for_it(site: Site) -> None:
    async with site.opened(site.answers(at_once=1)) as client:
        assert site.local is not None
        [generation] = site.local._generations
        async with no_room(site):
            with pytest.raises(openai.APITimeoutError):
                await client.with_options(timeout=0.2).chat.completions.create(model="small", messages=ASKED)
            async with asyncio.timeout(10):
                while not all(answering.given_up for answering in generation._waiting):
                    await asyncio.sleep(0.001)


async def test_the_model_here_answers_while_a_server_elsewhere_fails(site: Site) -> None:
    site.elsewhere.behaviour = "500"
    async with site.opened({**site.server, "weight": 1}, site.answers(weight=0)) as client:
        here = await client.chat.completions.create(model="small", messages=ASKED, max_tokens=4, temperature=0)
        stream = await client.chat.completions.create(
            model="small", messages=ASKED, max_tokens=4, temperature=0, stream=True
        )
        assert len([chunk async for chunk in stream]) > 1
        site.elsewhere.behaviour = "well"
        there = await client.chat.completions.create(model="small", messages=ASKED, max_tokens=4, temperature=0)
    assert (here.usage.completion_tokens, there.choices[0].message.content) == (4, "watts")


async def test_a_server_elsewhere_answers_while_there_is_no_room_here_and_this_does_again_afterwards(
    site: Site,
) -> None:
    async with site.opened(site.answers(at_once=1, waiting_max=0), site.server) as client:
        async with no_room(site):
            busy = await client.chat.completions.create(model="small", messages=ASKED, max_tokens=4, temperature=0)
        here = await client.chat.completions.create(model="small", messages=ASKED, max_tokens=4, temperature=0)
    assert busy.choices[0].message.content == "watts"
    assert here.usage.completion_tokens == 4


async def test_a_model_without_room_says_when_to_come_back_and_is_not_left_alone_for_it(site: Site) -> None:
    async with site.opened(site.answers(at_once=1, waiting_max=0)) as client:
        async with no_room(site):
            for _ in range(8):
                with pytest.raises(openai.RateLimitError, match="busy") as busy:
                    await client.chat.completions.create(model="small", messages=ASKED)
                assert int(busy.value.response.headers["retry-after"]) >= 1
        here = await client.chat.completions.create(model="small", messages=ASKED, max_tokens=4, temperature=0)
    assert here.usage.completion_tokens == 4


@asynccontextmanager
async def no_room(site: Site) -> AsyncIterator[None]:
    """Another answer takes all the time of the model while the block runs."""
    assert site.local is not None
    [generation] = site.local._generations
    release = threading.Event()
    generation.submit(Wanted(lambda _: [1] if release.wait(30) else [], tokens_max=1))
    yield
    release.set()
    await idle(generation)


async def idle(generation: Generation) -> None:
    async with asyncio.timeout(10):
        while generation._active:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("upstream", "told"),
    [
        ({"kind": "onnx"}, "give `tokenizer` for a model of the registry"),
        ({"kind": "onnx", "folder": "/x", "pooling": "cls"}, "pooling has no meaning beside folder"),
        ({"kind": "onnx", "tokenizer": "/x", "at_once": 2}, "at_once has no meaning beside tokenizer"),
        ({"kind": "onnx", "folder": "/x", "url": "http://x"}, "models.small.upstreams.0.url"),
        ({"kind": "onnx", "folder": "/nowhere"}, "cannot read /nowhere/config.json"),
        ({"kind": "onnx", "tokenizer": "/nowhere/tokenizer.json"}, "cannot read the tokenizer /nowhere/tokenizer.json"),
    ],
)
async def test_a_wrong_route_is_told_when_the_gateway_starts(site: Site, upstream: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused) as caught:
        async with site.opened(upstream):
            pass
    assert told in str(caught.value)
