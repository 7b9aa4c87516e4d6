"""Vectors of texts by a model of the registry: texts become tokens, tokens run as every request for a prediction does (batched,
counted, held to deadlines), and what comes out becomes one vector a text. Called by the OpenAI-compatible door."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ergonaut.errors import Refused, Unavailable
from ergonaut_gateway.domain.energy import Meter
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.models import Signature, TensorSpec
from ergonaut_gateway.domain.tensors import DTYPES, Tensor
from ergonaut_gateway.domain.text.vectors import Pooling, filled, grouped, pooled, shortened
from ergonaut_gateway.ports import Tokenizer
from ergonaut_gateway.service.plans import Cancellable
from ergonaut_gateway.service.predictions import Predictions, Wish

GROUPS_AT_ONCE = 4
"""Groups of texts that wait at a time, so that a request with thousands of texts leaves room for those of others."""

INLINE_CHARACTERS_MAX = 1_000
"""Texts up to here are cut into tokens on the event loop, which takes less than a millisecond; more in a thread."""

TEXT_CHARACTERS_MAX = 4 * 1024 * 1024
"""Of all texts of a request: several times the tokens that may be; more would only be read to be refused."""

TOKENS_MAX = 300_000
"""Of all texts of a request, as OpenAI has it."""

TOKENS, MASK, KINDS, PLACES = "input_ids", "attention_mask", "token_type_ids", "position_ids"
"""Inputs that text models take, by the names that every exporter gives them."""

WANTED = ("sentence_embedding", "last_hidden_state", "token_embeddings")
"""Outputs that are vectors, of the text or of its tokens, the first that is there; else the model's first."""

Text = str | Sequence[int]
"""A text, or its tokens."""


class TooLong(Refused):
    """A text has more tokens than the model takes."""


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """Which model of the registry makes vectors, and how."""

    model: str
    version: str = ""
    """A number, an alias, or nothing."""
    pooling: Pooling = Pooling.MEAN
    normalized: bool = True
    tokens_max: int = 512
    truncated: bool = False
    """Whether longer texts are cut rather than refused. The tokenizer cuts texts, which keeps the mark of their end."""
    output: str = ""
    """The output to take; empty chooses by name."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """One vector a text, as many tokens as were read, and what it used."""

    vectors: Tensor
    tokens: int
    footprint: Mapping[str, Any]


class Embedding:
    """Makes vectors of texts."""

    def __init__(self, predictions: Predictions, tokenizer: Tokenizer, model: EmbeddingModel) -> None:
        self._predictions = predictions
        self._tokenizer = tokenizer
        self._model = model

    async def embed(
        self, tenant: str, texts: Sequence[Text], dimensions: int | None, deadline_seconds: float | None
    ) -> Embedded:
        """Vectors of texts. Raises TooLong or Refused for texts that cannot be read, NotFound, and Unavailable in its kinds.

        `deadline_seconds` is a time of the event loop's clock, `dimensions` how much of each vector is wanted.
        """
        told = self._model
        signature = self._predictions.record_of(tenant, told.model, told.version).signature
        plan = _Plan(signature, told)
        plan.check(dimensions)
        rows = await self._tokens(texts)
        meter = Meter()
        wish = Wish(tenant, told.model, told.version, deadline_seconds)
        vectors = await self._vectors(rows, plan, wish, meter)
        if dimensions is not None and dimensions > vectors.shape[1]:
            raise Refused(f"the model's vectors have {vectors.shape[1]} numbers", field="dimensions")
        if not np.isfinite(vectors).all():
            raise Unavailable(f"{told.model} gave vectors that are no numbers")
        made = shortened(vectors, dimensions, normalized=told.normalized)
        return Embedded(made, sum(map(len, rows)), self._predictions.energy.footprint(meter))

    async def _vectors(self, rows: Sequence[Sequence[int]], plan: "_Plan", wish: Wish, meter: Meter) -> Tensor:
        """One vector a text, as the model gives it."""
        vectors: dict[int, Tensor] = {}
        groups = grouped([len(row) for row in rows], self._model.tokens_max, plan.length)
        for at in range(0, len(groups), GROUPS_AT_ONCE):
            places = [(place, group.length) for group in groups[at : at + GROUPS_AT_ONCE] for place in group.places]
            read = [filled([rows[place]], length) for place, length in places]
            # One request a text: whether they run together is for the engine, which knows whether that changes an answer.
            requests = [InferenceRequest("", plan.inputs(*each), (plan.output,), meter) for each in read]
            for (place, _), (_, mask), answer in zip(places, read, await self._run(wish, requests), strict=True):
                [vectors[place]] = plan.vectors(answer.outputs[plan.output], mask)
        return np.stack([vectors[place] for place in range(len(rows))])

    async def _tokens(self, texts: Sequence[Text]) -> list[Sequence[int]]:
        characters = sum(len(text) for text in texts if isinstance(text, str))
        if characters > TEXT_CHARACTERS_MAX:
            raise Refused(
                f"has {characters} characters, at most {TEXT_CHARACTERS_MAX} are taken at once", field="input"
            )
        if characters <= INLINE_CHARACTERS_MAX:
            rows = self._read_all(texts)
        else:
            rows = await asyncio.to_thread(self._read_all, texts)
        tokens = sum(map(len, rows))
        if tokens > TOKENS_MAX:
            raise Refused(
                f"has {tokens} tokens, at most {TOKENS_MAX} are taken at once; send fewer texts", field="input"
            )
        return rows

    def _read_all(self, texts: Sequence[Text]) -> list[Sequence[int]]:
        return [self._read(text, place) for place, text in enumerate(texts)]

    def _read(self, text: Text, place: int) -> Sequence[int]:
        """A text's tokens, as many as the model takes."""
        if not text:
            raise Refused(f"text {place} is empty", field="input")
        tokens = self._tokenizer.tokens(text) if isinstance(text, str) else text
        if not all(0 <= token < self._tokenizer.size for token in tokens):
            raise Refused(f"text {place} has tokens outside 0 to {self._tokenizer.size - 1}", field="input")
        if len(tokens) > self._model.tokens_max:
            if not self._model.truncated:
                sentence = f"text {place} has {len(tokens)} tokens, the model takes {self._model.tokens_max}"
                raise TooLong(sentence, field="input")
            tokens = tokens[: self._model.tokens_max]
        return tokens

    async def _run(self, wish: Wish, requests: Sequence[InferenceRequest]) -> Sequence[InferenceAnswer]:
        """Run at the same time; whatever is not over when this ends is dropped."""
        wave = _Wave(len(requests))
        tickets: list[Cancellable] = []
        try:
            for place, request in enumerate(requests):
                tickets.append(self._predictions.submit(wish, request, partial(wave.answered, place)))
            return await wave.whole
        finally:
            for ticket in tickets:
                ticket.cancel()


class _Wave:
    """Requests that run at the same time: all their answers, or the first thing that went wrong."""

    def __init__(self, count: int) -> None:
        self.whole: asyncio.Future[Sequence[InferenceAnswer]] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, InferenceAnswer] = {}
        self._count = count

    def answered(self, place: int, answer: InferenceAnswer | BaseException) -> None:
        if self.whole.done():
            return
        if isinstance(answer, BaseException):
            self.whole.set_exception(answer)
            return
        self._answers[place] = answer
        if len(self._answers) == self._count:
            self.whole.set_result([self._answers[place] for place in range(self._count)])


class _Plan:
    """How a model of this signature is asked for vectors."""

    def __init__(self, signature: Signature, told: EmbeddingModel) -> None:
        self._inputs = {spec.name: spec for spec in signature.inputs}
        unknown = self._inputs.keys() - {TOKENS, MASK, KINDS, PLACES}
        if TOKENS not in self._inputs or unknown or any(len(spec.shape) != 2 for spec in signature.inputs):
            takes = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in signature.inputs)
            raise Refused(f"{told.model} is no model that makes vectors of text: it takes {takes}", field="model")
        spec = _output(signature, told)
        self.output = spec.name
        self._pooling = told.pooling
        self._width = spec.shape[-1]
        self.length = max(self._inputs[TOKENS].shape[1], 0)
        """Tokens that each text is filled up to where the model takes no other length; 0 where it takes any."""
        if 0 < self.length < told.tokens_max:
            sentence = f"{told.model} takes texts of {self.length} tokens; set tokens_max of its route to that"
            raise Refused(sentence, field="model")

    def check(self, dimensions: int | None) -> None:
        """Raise Refused for more numbers than a vector has, where that is known beforehand."""
        if dimensions is not None and 0 < self._width < dimensions:
            raise Refused(f"the model's vectors have {self._width} numbers", field="dimensions")

    def inputs(self, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """What the model takes of these."""
        made = {
            TOKENS: tokens,
            MASK: mask,
            KINDS: np.zeros_like(tokens),
            PLACES: np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape),
        }
        # In the model's own order, and of its own datatypes.
        return {name: np.ascontiguousarray(made[name], DTYPES[spec.datatype]) for name, spec in self._inputs.items()}

    def vectors(self, given: Tensor, mask: Tensor) -> Tensor:
        """One vector a text, of what the model gave."""
        if given.ndim == 2:
            return given.astype(np.float32)
        return pooled(given, mask, self._pooling)


def _output(signature: Signature, told: EmbeddingModel) -> TensorSpec:
    given = {spec.name: spec for spec in signature.outputs}
    name = told.output or next((name for name in WANTED if name in given), next(iter(given), ""))
    spec = given.get(name)
    if spec is None or spec.datatype not in ("FP16", "FP32", "FP64") or len(spec.shape) not in (2, 3):
        gives = ", ".join(f"{each.name} {each.datatype} {list(each.shape)}" for each in signature.outputs)
        raise Refused(f"{told.model} gives no vectors of text or of tokens: it gives {gives}", field="model")
    return spec
