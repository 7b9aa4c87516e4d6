"""Requests for models that run here, read strictly: what would change an answer and is not offered is refused and not ignored."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import orjson

from ergonaut_gateway.openai.errors import OpenAiError, too_long, wrong

TEXTS_MAX = 2_048
"""Texts of one request for vectors, as OpenAI has it."""

STOPS_MAX = 4
"""Words that end an answer, as OpenAI has it."""

STOP_CHARACTERS_MAX = 1_000

TEXT_CHARACTERS_MAX = 1024 * 1024
"""Of a prompt: more tokens than a model of one machine's processors reads. More would be cut into tokens only to be refused."""

Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Form = TypeVar("Form", bound=msgspec.Struct)


class EmbeddingsForm(msgspec.Struct):
    """A request for vectors."""

    input: str | list[str | int | list[int]]
    dimensions: Count | None = None
    encoding_format: Literal["float", "base64"] | None = None


class _Answers(msgspec.Struct, kw_only=True):
    """What chats and completions have in common."""

    stream: bool | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    max_tokens: Count | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[str, Any] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The words that end the answer. Raises OpenAiError."""
        words = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(words) > STOPS_MAX or not all(0 < len(word) <= STOP_CHARACTERS_MAX for word in words):
            raise wrong(f"at most {STOPS_MAX} words of 1 to {STOP_CHARACTERS_MAX} characters can end an answer", "stop")
        return tuple(words)

    def check(self) -> None:
        """Raise OpenAiError for what is not offered here."""
        _only(self.n in (None, 1), "n", "one answer a request is given")
        _only(not self.logit_bias, "logit_bias", "no token can be favoured")


class ChatForm(_Answers, kw_only=True):
    """A request for the next message of a conversation."""

    messages: list[dict[str, Any]]
    max_completion_tokens: Count | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None

    @property
    def tokens_max(self) -> int | None:
        """Of the answer, where that is said, by its newer or its older name."""
        return self.max_completion_tokens or self.max_tokens

    def check(self) -> None:
        super().check()
        _only(not self.tools, "tools", "the model calls no tools")
        _only(not self.functions, "functions", "the model calls no functions")
        _only(not self.logprobs, "logprobs", "likelihoods are not told")
        _only(self.modalities in (None, ["text"]), "modalities", "answers are text")
        kind = (self.response_format or {}).get("type", "text")
        _only(kind == "text", "response_format", "answers cannot be held to a form")

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """The messages, each with its content as one text. Raises OpenAiError."""
        if not self.messages:
            raise wrong("there must be at least one message", "messages")
        messages = [_message(message, place) for place, message in enumerate(self.messages)]
        _bounded(sum(len(message["content"]) for message in messages), "messages")
        return messages


class CompletionForm(_Answers, kw_only=True):
    """A request to go on with a text."""

    prompt: str | list[str | int | list[int]]
    best_of: int | None = None
    echo: bool | None = None
    logprobs: int | None = None
    suffix: str | None = None

    @property
    def tokens_max(self) -> int:
        """Of the answer; OpenAI's default is 16."""
        return self.max_tokens or 16

    def check(self) -> None:
        super().check()
        _only(self.best_of in (None, 1), "best_of", "one answer a request is given")
        _only(not self.echo, "echo", "the prompt is not told again")
        _only(self.logprobs is None, "logprobs", "likelihoods are not told")
        _only(not self.suffix, "suffix", "answers end where they end")

    @property
    def text(self) -> str | Sequence[int]:
        """The one prompt. Raises OpenAiError."""
        prompts = texts_of(self.prompt, "prompt")
        _only(len(prompts) == 1, "prompt", "one prompt a request is taken")
        _bounded(len(prompts[0]), "prompt")
        return prompts[0]


def read(form: type[Form], body: Mapping[str, Any]) -> Form:
    """A request, to be written by orjson, by its form. Raises OpenAiError that names the field."""
    try:
        return msgspec.json.decode(orjson.dumps(body), type=form)
    except msgspec.ValidationError as error:
        sentence, _, place = str(error).partition(" - at `$")
        field = place.lstrip(".").partition("`")[0]
        raise wrong(f"{field}: {sentence}" if field else sentence, _first(field) or _missing(sentence)) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise wrong("the body must be a JSON object") from error


def texts_of(told: str | list[str | int | list[int]], field: str) -> list[str | Sequence[int]]:
    """The texts, each as such or by its tokens: one text, a list, one list of tokens, or a list of such. Raises OpenAiError."""
    if isinstance(told, str):
        return [told]
    if not len(told) >= 1:
        raise wrong("must not be empty", field)
    tokens = [each for each in told if isinstance(each, int)]
    if len(tokens) == len(told):
        return [tokens]
    if tokens:
        raise wrong("must be texts or tokens, not both", field)
    if len(told) > TEXTS_MAX:
        raise wrong(f"has {len(told)} texts, at most {TEXTS_MAX} are taken at once", field)
    return [each for each in told if not isinstance(each, int)]


def _message(message: dict[str, Any], place: int) -> dict[str, Any]:
    if not isinstance(message.get("role"), str):
        raise wrong(f"message {place} has no role", "messages")
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
            raise wrong(f"message {place} has parts that are no text, which this model cannot read", "messages")
        content = "".join(text for text in texts if text)
    if content is not None and not isinstance(content, str):
        raise wrong(f"message {place} has a content that is no text", "messages")
    return {**message, "content": content or ""}


def _bounded(length: int, field: str) -> None:
    if length > TEXT_CHARACTERS_MAX:
        raise too_long(f"{field}: {length} characters or tokens, at most {TEXT_CHARACTERS_MAX} are taken", field)


def _only(offered: bool, field: str, sentence: str) -> None:
    if not offered:
        raise _unoffered(field, sentence)


def _unoffered(field: str, sentence: str) -> OpenAiError:
    return wrong(f"{field} is not offered by models that run here: {sentence}", field)


def _first(field: str) -> str | None:
    """The field of the request in which the wrong one stands."""
    return field.replace("[", ".").partition(".")[0] or None


def _missing(sentence: str) -> str | None:
    """The field that msgspec says is missing."""
    return sentence.split("`")[1] if "missing required field" in sentence and sentence.count("`") >= 2 else None
