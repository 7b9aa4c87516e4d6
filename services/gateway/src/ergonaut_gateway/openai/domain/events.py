"""Server-sent events as they pass: cut into whole events, the usage read, and the chunk that only we asked for left out."""

from typing import Any

import orjson

from ergonaut_gateway.openai.domain.documents import document_of
from ergonaut_gateway.openai.domain.usage import Rates, figures

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""An event longer than this is no answer of a model; without an end a broken upstream would fill the memory."""


class EventTooLong(ValueError):
    """An upstream sent an event without an end."""


class Passing:
    """The events of one answer; `tokens` are (input, output) once the upstream told them."""

    def __init__(self, rates: Rates, *, usage_wanted: bool) -> None:
        self.tokens: tuple[int, int] | None = None
        self.finished = False
        self._rates = rates
        self._usage_wanted = usage_wanted
        self._rest = b""

    def passed(self, piece: bytes) -> bytes:
        """What goes on to the caller of this piece and what waited. Raises EventTooLong."""
        # A carriage return never stands in JSON as such, so only ends of lines change.
        *events, self._rest = (self._rest + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        if len(self._rest) > EVENT_BYTES_MAX:
            raise EventTooLong(f"an event is longer than {EVENT_BYTES_MAX} bytes")
        return b"".join(self._event(event) for event in events)

    def _event(self, event: bytes) -> bytes:
        if event.strip() == b"data: [DONE]" or event.strip() == b"data:[DONE]":
            self.finished = True
        elif b'"usage"' in event and event.startswith(b"data:"):
            return self._with_usage(event)
        return event + b"\n\n"

    def _with_usage(self, event: bytes) -> bytes:
        try:
            document = document_of(event.removeprefix(b"data:"))
        except ValueError:
            return event + b"\n\n"
        told = with_figures(document.read, self._rates)
        if told is None:
            return event + b"\n\n"
        self.tokens = told
        if not self._usage_wanted and not document.read.get("choices"):
            return b""
        return b"data: " + orjson.dumps(document.changed(("usage",))) + b"\n\n"


def with_figures(document: dict[str, Any], rates: Rates) -> tuple[int, int] | None:
    """Add our figures to a document's usage; the tokens in and out, or None where the upstream told none."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return None
    tokens_in, tokens_out = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if not isinstance(tokens_in, int) or not isinstance(tokens_out, int):
        return None
    usage["ergonaut"] = figures(rates, tokens_in, tokens_out)
    return tokens_in, tokens_out
