"""Answers of models that run here, written as OpenAI's protocol has them: whole, or event by event."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.service.generation import Ended

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Writing:
    """One answer's form: of a chat, or of a completion."""

    id: str
    model: str
    created: int
    """Unix seconds."""
    is_chat: bool

    def whole(self, text: str, ended: Ended) -> bytes:
        """The answer in one document."""
        said: Mapping[str, Any] = (
            {"message": {"role": "assistant", "content": text, "refusal": None}} if self.is_chat else {"text": text}
        )
        return orjson.dumps(self._document([self._choice(said, ended.reason)], usage=_usage(ended)))

    def begun(self) -> bytes:
        """The first event of a chat, which says who speaks; nothing for a completion."""
        return self._event({"delta": {"role": "assistant", "content": ""}}) if self.is_chat else b""

    def piece(self, text: str) -> bytes:
        """An event with more of the text."""
        return self._event({"delta": {"content": text}} if self.is_chat else {"text": text})

    def ended(self, ended: Ended) -> bytes:
        """The events that end the answer: why, what it used, and that it is whole."""
        said: Mapping[str, Any] = {"delta": {}} if self.is_chat else {"text": ""}
        last = self._event(said, ended.reason)
        return last + _event(self._document([], usage=_usage(ended), chunk=True)) + DONE

    def _event(self, said: Mapping[str, Any], reason: str | None = None) -> bytes:
        return _event(self._document([self._choice(said, reason)], chunk=True))

    def _choice(self, said: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
        return {"index": 0, **said, "logprobs": None, "finish_reason": reason}

    def _document(
        self, choices: list[dict[str, Any]], *, usage: Mapping[str, int] | None = None, chunk: bool = False
    ) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.is_chat else "text_completion"
        told = {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}
        return told if usage is None else {**told, "usage": usage}


def embeddings(model: str, vectors: Tensor, tokens: int, *, is_base64: bool) -> bytes:
    """Vectors in one document: as numbers, or as base64 of little-endian single-precision ones."""
    rows: Any = vectors
    if is_base64:
        rows = [base64.b64encode(row.astype(np.dtype("<f4")).tobytes()).decode() for row in vectors]
    data = [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    document = {"object": "list", "model": model, "data": data, "usage": usage}
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _usage(ended: Ended) -> dict[str, int]:
    return {
        "prompt_tokens": ended.tokens_in,
        "completion_tokens": ended.tokens_out,
        "total_tokens": ended.tokens_in + ended.tokens_out,
    }


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"
