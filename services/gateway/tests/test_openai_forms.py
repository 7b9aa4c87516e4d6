"""Requests for models that run here: whatever is sent is understood or refused in OpenAI's words, and nothing else happens."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut_gateway.openai.domain.documents import document_of
from ergonaut_gateway.openai.errors import OpenAiError
from ergonaut_gateway.openai.local.forms import ChatForm, CompletionForm, EmbeddingsForm, read, texts_of
from ergonaut_gateway.openai.local.making import wanted_of

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda within: st.lists(within, max_size=3) | st.dictionaries(st.text(max_size=9), within, max_size=3),
    max_leaves=6,
)
MESSAGES = st.lists(st.dictionaries(st.sampled_from(["role", "content", "name"]), ANYTHING, max_size=3), max_size=3)
FIELDS = [
    *(
        "messages",
        "prompt",
        "input",
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "n",
    ),
    *("dimensions", "encoding_format", "logit_bias", "tools", "response_format", "best_of", "echo", "stream", "suffix"),
]
BODIES = st.dictionaries(st.sampled_from(FIELDS), ANYTHING | MESSAGES, max_size=6)


def sent(body: dict[str, Any]) -> dict[str, Any]:
    """As the door hands it on: parts that nobody looked at are as they were written."""
    return document_of(json.dumps(body).encode()).changed(("model", "stream", "stream_options"))


@given(BODIES, st.sampled_from([ChatForm, CompletionForm]))
def test_any_request_for_an_answer_is_wanted_or_refused(body: dict[str, Any], form: Any) -> None:
    try:
        wanted = wanted_of(read(form, sent(body)))
    except OpenAiError as refused:
        told = refused
    else:
        told = None
        assert wanted.tokens_max is None or wanted.tokens_max >= 1
    assert told is None or (told.status == 400 and str(told))


@given(BODIES)
def test_any_request_for_vectors_is_read_or_refused(body: dict[str, Any]) -> None:
    try:
        texts = texts_of(read(EmbeddingsForm, sent(body)).input, "input")
    except OpenAiError as refused:
        told = refused
    else:
        told = None
        assert all(isinstance(text, str) or all(isinstance(token, int) for token in text) for text in texts)
    assert told is None or (told.status == 400 and str(told))


def test_a_seed_may_be_of_any_size() -> None:
    body = sent({"messages": [{"role": "user", "content": "x"}], "seed": -(10**30)})
    assert wanted_of(read(ChatForm, body)).sampling.seed == -(10**30)


def test_nesting_that_nobody_reads_is_refused() -> None:
    with pytest.raises(OpenAiError) as caught:
        read(ChatForm, {"messages": orjson.Fragment(b"[" * 900 + b"]" * 900)})
    assert caught.value.param == "messages"
