"""OpenAI's client, used as its own documentation has it: what a program that was written for OpenAI meets here."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from services.gateway.tests.openai_upstream import fake_models
from services.gateway.tests.test_openai import ASKED, SECRET, Site, chat

NUMBER = 123456789012345678901234567890


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setenv("UPSTREAM_KEY", SECRET)
    async with fake_models() as first, fake_models() as second:
        yield Site(tmp_path, first, second)


@contextlib.contextmanager
def blocking(client: openai.AsyncOpenAI, **more: Any) -> Any:
    """The blocking client of the same door."""
    with openai.OpenAI(api_key=client.api_key, base_url=client.base_url, **more) as made:
        yield made


class Intensity(BaseModel):
    """What an answer shall look like."""

    zone: str
    grams: int


async def test_the_blocking_client_chats_streams_and_embeds(site: Site) -> None:
    def use(client: openai.OpenAI) -> tuple[Any, list[Any], list[float]]:
        answer = client.chat.completions.create(model="small", messages=ASKED)
        with client.chat.completions.create(model="small", messages=ASKED, stream=True) as stream:
            words = [chunk.choices[0].delta.content for chunk in stream]
        embedded = client.embeddings.create(model="small", input=["a", "b"])
        return answer.choices[0].message.content, words, [each.embedding for each in embedded.data]

    async with site.opened() as client:
        with blocking(client) as made:
            assert await asyncio.to_thread(use, made) == ("watts", ["joules", " and", " grams"], [[0.5, 0.25]] * 2)
    # Packed as base64, which the client asks for where its caller names no format.
    assert site.first.asked[-1]["encoding_format"] == "base64"


async def test_embeddings_come_as_numbers_to_who_wants_numbers(site: Site) -> None:
    async with site.opened() as client:
        embedded = await client.embeddings.create(model="small", input="a", encoding_format="float", dimensions=2)
    assert embedded.data[0].embedding == [0.5, 0.25]
    assert (embedded.usage.prompt_tokens, site.first.asked[0]["dimensions"]) == (4, 2)


async def test_an_answer_in_a_form_is_asked_for_and_parsed(site: Site) -> None:
    async with site.opened() as client:
        answer = await client.chat.completions.parse(model="small", messages=ASKED, response_format=Intensity)
    assert answer.choices[0].message.parsed == Intensity(zone="FR", grams=56)
    asked = site.first.asked[0]["response_format"]
    assert (asked["type"], asked["json_schema"]["name"], asked["json_schema"]["strict"]) == (
        "json_schema",
        "Intensity",
        True,
    )


async def test_streams_are_read_by_the_clients_own_events(site: Site) -> None:
    async with site.opened() as client, client.chat.completions.stream(model="small", messages=ASKED) as stream:
        kinds = {event.type async for event in stream}
        final = await stream.get_final_completion()
    assert {"chunk", "content.delta"} <= kinds
    assert final.choices[0].message.content == "joules and grams"


async def test_models_are_listed_and_looked_up(site: Site) -> None:
    async with site.opened() as client:
        assert [model.id async for model in client.models.list()] == ["small"]
        assert (await client.models.retrieve("small")).owned_by == "ergonaut"
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.models.retrieve("no/such model")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")


async def test_each_failure_is_the_clients_own_exception(site: Site) -> None:
    async with site.opened(requests_per_minute=2) as client:
        with pytest.raises(openai.AuthenticationError) as unknown:
            await client.with_options(api_key="sk-wrong").chat.completions.create(model="small", messages=ASKED)
        assert (unknown.value.status_code, unknown.value.code) == (401, "invalid_api_key")
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="large", messages=ASKED)
        with pytest.raises(openai.BadRequestError) as wrong:
            await client.chat.completions.create(model=7, messages=ASKED)  # type: ignore[call-overload]
        assert (wrong.value.type, wrong.value.param) == ("invalid_request_error", "model")
        site.first.behaviour = site.second.behaviour = "400"
        with pytest.raises(openai.BadRequestError, match="no: Bearer"):
            await chat(client)
        site.first.behaviour = "well"
        await chat(client)
        with pytest.raises(openai.RateLimitError) as limited:
            await chat(client)
        assert limited.value.code == "rate_limit_exceeded"
        assert int(limited.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(("behaviour", "error"), [("429", openai.RateLimitError), ("503", openai.InternalServerError)])
async def test_trouble_upstream_is_told_so_that_clients_come_back(site: Site, behaviour: str, error: type) -> None:
    site.first.behaviour = site.second.behaviour = behaviour
    async with site.opened() as client:
        with pytest.raises(error) as told:
            await chat(client)
    assert int(told.value.response.headers["retry-after"]) >= 1


async def test_a_client_that_retries_is_served_once_there_is_room(site: Site) -> None:
    site.first.behaviour = "stalls"
    async with site.opened(at_once_max=1) as client:
        stream = await chat(client, stream=True)
        await anext(stream)
        asking = asyncio.create_task(chat(client.with_options(max_retries=5)))
        await asyncio.sleep(0)
        site.first.behaviour = "well"
        await stream.close()
        assert (await asking).choices[0].message.content == "watts"


async def test_a_client_with_less_patience_than_its_model_gives_up_and_the_upstream_is_stopped(site: Site) -> None:
    site.first.behaviour = "silent"
    async with site.opened() as client:
        with pytest.raises(openai.APITimeoutError):
            await chat(client.with_options(timeout=0.2), stream=True)
        site.first.behaviour = "well"
        assert (await chat(client)).choices


async def test_raw_answers_show_headers_and_status(site: Site) -> None:
    async with site.opened(requests_per_minute=5, tokens_per_minute=1_000) as client:
        raw = await client.chat.completions.with_raw_response.create(model="small", messages=ASKED)
        assert raw.parse().choices[0].message.content == "watts"
        assert (raw.status_code, raw.headers["x-ratelimit-limit-requests"]) == (200, "5")
        assert raw.headers["x-ratelimit-remaining-requests"] == "4"
        async with client.chat.completions.with_streaming_response.create(model="small", messages=ASKED) as streamed:
            assert "watts" in await streamed.text()


async def test_a_stream_that_is_left_early_stops_the_upstream(site: Site) -> None:
    site.first.behaviour = "stalls"
    async with site.opened() as client:
        async with await chat(client, stream=True) as stream:
            async for chunk in stream:
                assert chunk.choices[0].delta.content == "joules"
                break
        async with asyncio.timeout(10):
            await site.first.caller_went.wait()


async def test_numbers_of_any_size_and_spelling_pass_untouched_both_ways(site: Site) -> None:
    body = (
        b'{"model": "small", "messages": [], "echo_number": %d, "temperature": 1.0, "top_p": 1E0, "deep": {"n": [%d]}}'
    )
    async with site.opened() as client, httpx.AsyncClient() as http:
        headers = {"authorization": f"Bearer {client.api_key}"}
        answer = await http.post(
            f"{client.base_url}chat/completions", content=body % (NUMBER, -NUMBER), headers=headers
        )
        assert answer.status_code == 200, answer.text
        too_large = b'{"model": "small", "seed": %s}' % (b"9" * 5_000)
        refused = await http.post(f"{client.base_url}chat/completions", content=too_large, headers=headers)
    asked = site.first.asked[0]
    assert (asked["echo_number"], asked["deep"]) == (NUMBER, {"n": [-NUMBER]})
    assert f'"echo_number":{NUMBER}' in answer.text.replace(" ", "")
    assert answer.json()["usage"]["ergonaut"] == {"method": "not measured"}
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_who_reads_a_stream_slowly_slows_its_upstream_down_and_takes_no_memory(site: Site) -> None:
    site.first.behaviour = "pours"
    async with site.opened() as client:
        stream = await chat(client, stream=True)
        await anext(stream)
        before = -1
        async with asyncio.timeout(30):
            # As long as anything flows; then buffers on the way are full, and all of it stands still.
            while site.first.poured > before:
                before = site.first.poured
                await asyncio.sleep(0.3)
        # 12 kB a word: sockets hold some MB, nobody more.
        assert site.first.poured * 12_000 < 40_000_000
        async with asyncio.timeout(30):
            # It flows again once it is read.
            while site.first.poured == before:
                await anext(stream)
        await stream.close()
        async with asyncio.timeout(10):
            await site.first.caller_went.wait()


async def test_a_body_of_more_parts_than_any_model_takes_is_refused(site: Site) -> None:
    body = b'{"model": "small", "input": [%s]}' % b",".join([b"1"] * 1_100_000)
    async with site.opened() as client, httpx.AsyncClient() as http:
        headers = {"authorization": f"Bearer {client.api_key}"}
        refused = await http.post(f"{client.base_url}embeddings", content=body, headers=headers)
    assert (refused.status_code, "1048576 parts" in refused.text, site.first.asked) == (400, True, [])
