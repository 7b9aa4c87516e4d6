"""Server-sent events as they pass: cut into whole events, the usage read, and the chunk that only we asked for left out."""

from typing import Any, TypeGuard

import orjson

from ergonaut_gateway.openai.domain.documents import document_of
from ergonaut_gateway.openai.domain.measured import Measured, Measuring, elsewhere
from ergonaut_gateway.openai.domain.usage import Figures, Rates, figures, weighed

TOKENS_MAX = 10**9
"""More are a mistake of the upstream, and believed no more than a negative number."""

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""An event longer than this is no answer of a model; without an end a broken upstream would fill the memory."""


class EventTooLong(ValueError):
    """An upstream sent an event without an end."""


class Passing:
    """The events of one answer; `used` is there once the upstream told its tokens."""

    def __init__(self, rates: Rates, *, usage_wanted: bool, measured: Measuring = elsewhere) -> None:
        self.used: Figures | None = None
        self.finished = False
        self._rates = rates
        self._usage_wanted = usage_wanted
        self._measured = measured
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
        used = with_figures(document.read, self._rates, self._measured())
        if used is None:
            return event + b"\n\n"
        self.used = used
        if not self._usage_wanted and not document.read.get("choices"):
            return b""
        return b"data: " + orjson.dumps(document.changed(("usage",))) + b"\n\n"


def with_figures(document: dict[str, Any], rates: Rates, measured: Measured | None = None) -> Figures | None:
    """Add our figures to a document's usage, and give them; None where the upstream told no tokens."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return None
    tokens_in, tokens_out = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if not (_is_count(tokens_in) and _is_count(tokens_out)):
        return None
    if measured is None:
        used = figures(rates, tokens_in, tokens_out)
    else:
        used = weighed(rates, tokens_in, tokens_out, measured.energy_joules, measured.method)
    usage["ergonaut"] = used.told()
    return used


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS_MAX
