"""Answers that every door gives alike: JSON documents, and what went wrong as a status with one clear sentence."""

import math
from typing import Any

import orjson

from ergonaut.errors import Broken, Conflict, ErgonautError, NotAllowed, NotFound, Refused, Unavailable
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded
from ergonaut_gateway.http.exchange import JSON, Exchange, Headers, PeerGone

# In order: a subclass stands before its base.
_STATUS: tuple[tuple[type[ErgonautError], int], ...] = (
    (Busy, 429),
    (DeadlineExceeded, 504),
    (NotAllowed, 403),
    (Refused, 400),
    (NotFound, 404),
    (Conflict, 409),
    (Unavailable, 503),
    (Broken, 500),
)

_COME_BACK = frozenset({429, 503})
"""What says for how long to wait before asking again."""

log = get_logger(__name__)


class Unknown(NotAllowed):
    """The caller showed no key that is known; HTTP tells this apart from a key that may not do this."""


def answer_json(exchange: Exchange, document: Any, *, status: int = 200, headers: Headers = ()) -> None:
    """Answer with a document; numpy arrays in it are written as lists."""
    exchange.answer(status, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), JSON, headers)


def answer_error(exchange: Exchange, error: BaseException) -> None:
    """Answer that something went wrong, as `{"error": ...}`."""
    status, sentence, headers = told(exchange, error)
    answer_json(exchange, {"error": sentence}, status=status, headers=headers)


def told(exchange: Exchange, error: BaseException) -> tuple[int, str, Headers]:
    """The status, the sentence and the headers by which a caller hears of an error; one that nobody foresaw is logged."""
    if isinstance(error, Unknown):
        return 401, str(error), (("www-authenticate", "Bearer"),)
    if not isinstance(error, ErgonautError):
        if not isinstance(error, PeerGone):
            log.error("request failed", path=exchange.request.path, exc_info=error)
        # The words of an unforeseen error may hold what is not the caller's to see; they are in the log.
        return 500, f"an unforeseen {type(error).__name__}; the gateway's log tells more", ()
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return status, str(error), _retry_after(error) if status in _COME_BACK else ()


def _retry_after(error: ErgonautError) -> Headers:
    seconds = getattr(error, "retry_after_seconds", None)
    return (("retry-after", str(max(1, math.ceil(seconds))) if seconds else "1"),)
