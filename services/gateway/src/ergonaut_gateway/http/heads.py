"""The bytes before an answer's body: status line and headers."""

from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from ergonaut.errors import Broken
from ergonaut_gateway.http.exchange import Headers

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
CLOSE = b"connection: close\r\n"
STAY = b"connection: keep-alive\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
LAST_CHUNK = b"0\r\n\r\n"


@lru_cache(maxsize=256)
def beginning(status: int, content_type: str) -> bytes:
    """The status line and the type, which are the same for nearly all answers of a door."""
    _check(content_type)
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {content_type}\r\n".encode("latin-1")


def length(size_bytes: int) -> bytes:
    """How long the body is."""
    return b"content-length: %d\r\n" % size_bytes


def further(headers: Headers) -> bytes:
    """Any other headers. Raises Broken where a caller's words would become a header of their own."""
    lines = []
    for name, value in headers:
        _check(name)
        _check(value)
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1", "replace")


def date(seconds: float) -> bytes:
    """When the answer was given, in seconds since 1970."""
    return f"date: {formatdate(seconds, usegmt=True)}\r\n".encode()


def chunk(piece: bytes) -> bytes:
    """A piece of a body whose length is not known."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _check(text: str) -> None:
    if "\r" in text or "\n" in text or "\0" in text:
        raise Broken("a header of an answer has a line end within")
