"""How a gRPC call ends: a status, a sentence, and headers for both, made ready to be sent."""

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import quote

import grpc

from ergonaut_common.h2.streams import HeaderFrame
from ergonaut_common.rpc import status_of

CONTENT_TYPE = ("content-type", "application/grpc")
ACCEPTED = ("grpc-accept-encoding", "identity,deflate,gzip")
SENTENCE_CHARACTERS_MAX = 1_000
"""Callers bound their headers, at 8 kB as a rule, and every character may become nine."""

_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

ANSWER = {
    "": HeaderFrame(200, CONTENT_TYPE),
    "gzip": HeaderFrame(200, CONTENT_TYPE, ("grpc-encoding", "gzip")),
    "deflate": HeaderFrame(200, CONTENT_TYPE, ("grpc-encoding", "deflate")),
}
"""What goes before messages, by their encoding."""

OK = HeaderFrame(None, ("grpc-status", "0"))
"""What goes after them."""

Trailers = Sequence[tuple[str, str]]


class CallFailed(Exception):
    """A call ends with this status; in words for its caller."""

    def __init__(self, code: grpc.StatusCode, message: str, trailers: Trailers = ()) -> None:
        super().__init__(message)
        self.code = code
        self.trailers = trailers


def failure_of(error: BaseException) -> CallFailed:
    """How a call ends that met this error."""
    if isinstance(error, CallFailed):
        return error
    if not isinstance(error, Exception):
        return CallFailed(grpc.StatusCode.CANCELLED, "the call was given up")
    return CallFailed(*status_of(error))


def failure(failed: CallFailed, *, begun: bool = False) -> HeaderFrame:
    """The headers that end a call that failed; the only ones it has unless it had `begun` to answer."""
    return _failure(failed.code, str(failed), tuple(failed.trailers), begun)


@lru_cache(maxsize=256)
def _failure(code: grpc.StatusCode, message: str, trailers: tuple[tuple[str, str], ...], begun: bool) -> HeaderFrame:
    fields = [("grpc-status", str(code.value[0]))]
    if message:
        fields.append(("grpc-message", quote(message[:SENTENCE_CHARACTERS_MAX], safe=_PLAIN, errors="replace")))
    fields += trailers
    return HeaderFrame(None, *fields) if begun else HeaderFrame(200, CONTENT_TYPE, ACCEPTED, *fields)
