"""Answers of models that run here, asked for by OpenAI's own client and held against what numpy computes."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from ergonaut.errors import Refused
from ergonaut.events import CompletionsServed
from ergonaut_gateway.service.generation import Generation, Wanted

from .conftest import Gateways
from .openai_local_site import ASKED, TEXTS, WRITTEN, Site, made_site
from .text_models import (
    DecoderModel,
    decoder_tokenizer,
)


@pytest.fixture
async def site(gateways: Gateways, tmp_path: Path) -> AsyncIterator[Site]:
    async with made_site(gateways, tmp_path) as site:
        yield site


def decoded(tokens: list[int]) -> str:
    """Their text, without the part of a character that may stand at its end."""
    return decoder_tokenizer().decode(tokens).rstrip("\ufffd")


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


async def test_a_caller_that_goes_ends_the_work_for_it_and_what_it_took_is_told(site: Site) -> None:
    async with site.opened(site.answers()) as client:
        stream = await client.chat.completions.create(model="small", messages=ASKED, stream=True, temperature=0)
        await anext(stream)
        await stream.close()
        assert site.local is not None
        [generation] = site.local._generations
        await idle(generation)
    [event] = [event for event in site.gateway.announcer.told if isinstance(event, CompletionsServed)]
    assert (event.requests, event.failed, event.untold, event.tokens_in) == (1, 0, 0, 9)
    assert event.tokens_out > 0
    assert event.energy_joules is not None
    assert event.energy_joules > 0


async def test_a_caller_who_gives_up_before_the_answer_ends_the_work_for_it(site: Site) -> None:
    async with site.opened(site.answers(at_once=1)) as client:
        assert site.local is not None
        [generation] = site.local._generations
        async with no_room(site):
            with pytest.raises(openai.APITimeoutError):
                await client.with_options(timeout=0.2).chat.completions.create(model="small", messages=ASKED)
            async with asyncio.timeout(30):
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
    async with asyncio.timeout(30):
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
