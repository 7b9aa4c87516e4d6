"""Vectors of texts by models of the registry, asked for by OpenAI's own client and held against what numpy computes."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from .conftest import Gateways
from .onnx_models import doubling
from .openai_local_site import ASKED, TEXTS, Site, embedded, made_site
from .text_models import (
    Encoder,
    encoder_tokenizer,
)


@pytest.fixture
async def site(gateways: Gateways, tmp_path: Path) -> AsyncIterator[Site]:
    async with made_site(gateways, tmp_path) as site:
        yield site


def reference(text: str | list[int], pooling: str = "mean", *, normalized: bool = True) -> Any:
    tokens = encoder_tokenizer().encode(text).ids if isinstance(text, str) else text
    states = Encoder().states(tokens)
    vector = {"mean": states.mean(axis=0), "cls": states[0], "last": states[-1]}[pooling]
    return vector / np.linalg.norm(vector) if normalized else vector


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
