"""The OpenAI-compatible door, asked by OpenAI's own client, with real servers behind it that answer well or badly."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from prometheus_client import REGISTRY, generate_latest

from ergonaut.events import CompletionsServed
from ergonaut_common.auth import KeyRing
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway.fakes import FakeAnnouncer
from ergonaut_gateway.http import Callers, HttpLimits, Router, serving_http
from ergonaut_gateway.openai import Reporting, opened_door

from .openai_upstream import FakeModels, fake_models

SECRET = "sk-upstream-secret"
ASKED: Any = [{"role": "user", "content": "what is used?"}]


class Site:
    """A door with two upstreams."""

    def __init__(self, folder: Path, first: FakeModels, second: FakeModels) -> None:
        self.first, self.second = first, second
        self.file, self.keys = key_ring_file(folder, ("default", "other"))
        self.folder = folder
        self.announcer = FakeAnnouncer()

    @asynccontextmanager
    async def opened(self, *, tenant: str = "default", **route: Any) -> AsyncIterator[openai.AsyncOpenAI]:
        """OpenAI's client of a door whose route `small` has these figures."""
        urls = [f"http://127.0.0.1:{upstream.port}/v1" for upstream in (self.first, self.second)]
        breaker = {"breaker_failures": 2, "breaker_open_seconds": 60}
        upstreams = [
            {"url": urls[0], "model": "there", "key_env": "UPSTREAM_KEY", **breaker},
            {"url": urls[1], "weight": 0},
        ]
        routes = self.folder / "routes.json"
        routes.write_text(json.dumps({"models": {"small": {"upstreams": upstreams, "rounds": 1, **route}}}))
        router, callers = Router(), Callers(KeyRing.load(self.file))
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                opened_door(str(routes), callers, router, Reporting(self.announcer, 3600.0))
            )
            port = await stack.enter_async_context(serving_http("127.0.0.1:0", router, HttpLimits()))
            yield await stack.enter_async_context(
                openai.AsyncOpenAI(
                    api_key=self.keys[tenant], base_url=f"http://127.0.0.1:{port}/openai/v1", max_retries=0
                )
            )


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setenv("UPSTREAM_KEY", SECRET)
    async with fake_models() as first, fake_models() as second:
        yield Site(tmp_path, first, second)


async def chat(client: openai.AsyncOpenAI, **more: Any) -> Any:
    return await client.chat.completions.create(model="small", messages=ASKED, **more)


async def read(stream: Any, heard: list[str]) -> None:
    async for chunk in stream:
        heard.append(chunk.choices[0].delta.content)


async def test_a_chat_is_renamed_and_counted_in_dollars_joules_and_grams(site: Site) -> None:
    energy = {"joules": 2.0, "low": 1.0, "high": 4.0, "source": "a meter"}
    figures: dict[str, Any] = {"usd_per_million_input": 1, "usd_per_million_output": 2, "carbon_grams_per_kwh": 360}
    async with site.opened(joules_per_output_token=energy, **figures) as client:
        answer = await chat(client, extra_body={"unheard_of": {"x": 1}})
    assert answer.choices[0].message.content == "watts"
    assert site.first.asked[0]["model"] == "there"
    assert site.first.asked[0]["unheard_of"] == {"x": 1}
    assert site.first.authorizations == [f"Bearer {SECRET}"]
    told = answer.usage.ergonaut
    assert told["cost_usd"] == pytest.approx(50e-6)
    assert told["energy_joules"] == 40
    assert told["carbon_grams_co2e"] == pytest.approx(0.004)
    assert told["range"]["energy_joules"] == [20, 80]


async def test_what_nobody_measured_is_absent(site: Site) -> None:
    async with site.opened() as client:
        answer = await chat(client)
    assert answer.usage.ergonaut == {"method": "not measured"}


async def test_a_stream_passes_word_by_word_without_the_usage_that_only_we_asked_for(site: Site) -> None:
    async with site.opened() as client:
        chunks = [chunk async for chunk in await chat(client, stream=True)]
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["joules", " and", " grams"]
    assert site.first.asked[0]["stream_options"] == {"include_usage": True}


async def test_a_stream_tells_its_usage_to_who_asks(site: Site) -> None:
    async with site.opened() as client:
        options = {"include_usage": True}
        chunks = [chunk async for chunk in await chat(client, stream=True, stream_options=options)]
    assert chunks[-1].usage.completion_tokens == 20
    assert chunks[-1].usage.ergonaut == {"method": "not measured"}


async def test_tool_calls_pass_both_ways(site: Site) -> None:
    tools = [{"type": "function", "function": {"name": "intensity", "parameters": {"type": "object"}}}]
    async with site.opened() as client:
        answer = await chat(client, tools=tools)
    assert answer.choices[0].message.tool_calls[0].function.name == "intensity"
    assert site.first.asked[0]["tools"] == tools


async def test_completions_and_embeddings_are_passed_on(site: Site) -> None:
    async with site.opened() as client:
        assert (await client.completions.create(model="small", prompt="x")).choices[0].text == "watts"
        embedded = await client.embeddings.create(model="small", input="x", encoding_format="float")
    assert embedded.data[0].embedding == [0.5, 0.25]
    assert [asked["path"] for asked in site.first.asked] == ["/v1/completions", "/v1/embeddings"]


@pytest.mark.parametrize("behaviour", ["500", "429", "401", "silent"])
async def test_another_upstream_is_asked_where_one_fails(site: Site, behaviour: str) -> None:
    site.first.behaviour = behaviour
    async with site.opened(first_seconds=0.2) as client:
        chunks = [chunk async for chunk in await chat(client, stream=True)]
    assert len(chunks) == 3
    assert site.second.asked[0]["model"] == "small"
    assert site.second.authorizations == [""]


async def test_an_upstream_is_left_alone_after_failures(site: Site) -> None:
    site.first.behaviour = "500"
    async with site.opened() as client:
        for _ in range(4):
            await chat(client)
        listed = [model async for model in await client.models.list()]
    assert len(site.first.asked) == 2
    assert listed[0].ergonaut == {"upstreams": 2, "left_alone": 1}  # type: ignore[attr-defined]


async def test_an_upstream_that_dies_in_mid_stream_is_left_alone_too(site: Site) -> None:
    site.first.behaviour = "dies"
    async with site.opened() as client:
        for _ in range(2):
            with pytest.raises(openai.APIError):
                await read(await chat(client, stream=True), [])
        await read(await chat(client, stream=True), [])
    assert (len(site.first.asked), len(site.second.asked)) == (2, 1)


async def test_the_caller_hears_of_failure_but_never_the_upstreams_key(site: Site) -> None:
    site.first.behaviour = site.second.behaviour = "503"
    async with site.opened() as client:
        with pytest.raises(openai.InternalServerError, match="no upstream of small answers") as caught:
            await chat(client)
    assert SECRET not in str(caught.value.body)
    assert caught.value.response.headers["retry-after"] == "1"


async def test_a_refusal_of_the_request_itself_is_passed_on_without_the_key(site: Site) -> None:
    site.first.behaviour = "422"
    async with site.opened() as client:
        with pytest.raises(openai.UnprocessableEntityError, match="no: Bearer") as caught:
            await chat(client)
    assert SECRET not in str(caught.value.body)
    assert site.second.asked == []


async def test_figures_stand_in_a_header_whatever_language_their_source_is_in(site: Site) -> None:
    energy = {"joules": 2.0, "low": 1.0, "high": 4.0, "source": "Zähler \u2713"}
    async with site.opened(joules_per_output_token=energy) as client:
        answer = await client.chat.completions.with_raw_response.create(model="small", messages=ASKED)
    assert json.loads(answer.headers["x-ergonaut-usage"])["method"].endswith("Zähler \u2713")


async def test_a_full_route_turns_callers_away_and_is_free_again_after(site: Site) -> None:
    site.first.behaviour = "stalls"
    async with site.opened(at_once_max=1) as client:
        stream = await chat(client, stream=True)
        with pytest.raises(openai.InternalServerError, match="as many requests at work"):
            await chat(client)
        await stream.close()
        await site.first.caller_went.wait()
        site.first.behaviour = "well"
        assert (await chat(client)).choices


async def test_all_upstreams_are_asked_again_in_a_further_round(site: Site) -> None:
    site.first.behaviour = site.second.behaviour = "503"
    async with site.opened(rounds=2) as client:
        with pytest.raises(openai.InternalServerError):
            await chat(client)
    assert (len(site.first.asked), len(site.second.asked)) == (2, 2)


@pytest.mark.parametrize("behaviour", ["dies", "stalls"])
async def test_a_stream_that_ends_too_soon_is_an_error_and_never_asked_again(site: Site, behaviour: str) -> None:
    site.first.behaviour = behaviour
    heard: list[str] = []
    async with site.opened(between_seconds=0.2) as client:
        stream = await chat(client, stream=True)
        with pytest.raises(openai.APIError, match="no upstream of small"):
            await read(stream, heard)
    assert heard == ["joules"]
    assert site.second.asked == []


async def test_a_stream_that_is_not_whole_in_time_ends_with_an_error_that_says_so(site: Site) -> None:
    site.first.behaviour = "stalls"
    heard: list[str] = []
    async with site.opened(whole_seconds=0.3) as client:
        stream = await chat(client, stream=True)
        with pytest.raises(openai.APIError, match="no upstream of small"):
            await read(stream, heard)
    assert heard == ["joules"]


async def test_the_upstream_is_stopped_when_the_caller_goes(site: Site) -> None:
    site.first.behaviour = "stalls"
    async with site.opened() as client:
        stream = await chat(client, stream=True)
        await anext(stream)
        await stream.close()
        async with asyncio.timeout(5):
            await site.first.caller_went.wait()


async def test_requests_and_tokens_are_limited_by_tenant(site: Site) -> None:
    async with site.opened(requests_per_minute=1) as client:
        await chat(client)
        with pytest.raises(openai.RateLimitError) as caught:
            await chat(client)
    assert int(caught.value.response.headers["retry-after"]) > 50
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    async with site.opened(tokens_per_minute=20) as client:
        await chat(client)
        with pytest.raises(openai.RateLimitError):
            await chat(client)


async def test_a_tenant_sees_only_its_models(site: Site) -> None:
    async with site.opened(tenants=["default"], tenant="other") as client:
        assert [model async for model in await client.models.list()] == []
        with pytest.raises(openai.NotFoundError, match="there is no model 'small'"):
            await chat(client)
    async with site.opened(tenants=["default"]) as client:
        assert (await client.models.retrieve("small")).id == "small"


async def test_a_wrong_key_or_body_is_told_in_openais_form(site: Site) -> None:
    async with site.opened() as client:
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="wrong").models.list()
        with pytest.raises(openai.BadRequestError, match="say which model"):
            await client.chat.completions.create(model="", messages=ASKED)


async def test_what_was_served_is_told_by_tenant_and_route_with_its_tokens_and_figures(site: Site) -> None:
    energy = {"joules": 2.0, "low": 1.0, "high": 4.0, "source": "a meter"}
    figures: dict[str, Any] = {"usd_per_million_input": 1, "usd_per_million_output": 2, "carbon_grams_per_kwh": 360}
    async with site.opened(joules_per_output_token=energy, **figures) as client:
        await chat(client)
        await read(await chat(client, stream=True), [])
    told = site.announcer.told
    assert len(told) == 1, "told in one batch, at the latest when the door closes"
    event = told[0]
    assert isinstance(event, CompletionsServed)
    assert (event.tenant, event.route, event.requests, event.failed, event.untold) == ("default", "small", 2, 0, 0)
    assert (event.tokens_in, event.tokens_out) == (20, 40)
    assert (event.energy_joules_low, event.energy_joules, event.energy_joules_high) == (40, 80, 160)
    assert event.cost_usd == pytest.approx(100e-6)
    assert event.carbon_grams_co2e == pytest.approx(0.008)


async def test_a_request_that_no_upstream_answers_is_told_as_failed_and_nothing_of_it_as_measured(site: Site) -> None:
    site.first.behaviour = site.second.behaviour = "500"
    async with site.opened() as client:
        with pytest.raises(openai.InternalServerError):
            await chat(client)
    event = site.announcer.told[0]
    assert isinstance(event, CompletionsServed)
    assert (event.requests, event.failed, event.tokens_in) == (1, 1, 0)
    assert (event.energy_joules, event.cost_usd, event.energy_method) == (None, None, "not measured")


async def test_prometheus_is_told_tokens_failures_and_who_is_left_alone(site: Site) -> None:
    site.first.behaviour = "500"
    async with site.opened() as client:
        await chat(client)
        await chat(client)
        page = generate_latest(REGISTRY).decode()
    assert 'ergonaut_completions_requests_total{route="small",tenant="default"} 2.0' in page
    assert 'ergonaut_completions_tokens_total{direction="out",route="small",tenant="default"} 40.0' in page
    assert 'ergonaut_completions_upstreams_left_alone{route="small"} 1.0' in page
