"""Heads of requests that came before. A caller that asks again and again sends the same bytes each time, but for the length of
its body; they are looked up here rather than parsed anew, which halves what the server takes for a small request."""

from collections.abc import Mapping
from dataclasses import dataclass

from ergonaut_gateway.http.exchange import Request

KNOWN_MAX = 1_024
"""Heads that are kept; beyond it all are forgotten, which costs each one parse. The bodies of one caller have some dozens of
lengths where they are numbers in JSON, and each makes a head of its own."""

HEAD_BYTES_MAX = 1_024
"""Longer heads are parsed each time, so that what is kept takes some MiB at most."""

_END = b"\r\n\r\n"
_OTHERWISE = ("transfer-encoding", "expect", "upgrade")
"""Headers with which there is more to a request than a head and so many bytes."""


@dataclass(frozen=True, slots=True)
class _Head:
    """What a head means."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body_bytes: int


class KnownHeads:
    """Heads of HTTP/1.1 after which the connection stays, by their bytes; shared by all connections of a door."""

    def __init__(self) -> None:
        self._heads: dict[bytes, _Head] = {}

    def whole(self, data: bytes) -> Request | None:
        """The request that these bytes are, where they are exactly one and its head is known."""
        begin = data.find(_END) + len(_END)
        head = self._heads.get(data[:begin])
        if head is None or len(data) - begin != head.body_bytes:
            return None
        return Request(head.method, head.path, head.query, head.headers, data[begin:])

    def learn(self, data: bytes, request: Request) -> None:
        """Keep the head of bytes that were parsed, from the first to the last, as this one request."""
        if any(name in request.headers for name in _OTHERWISE):
            return
        begin = data.find(_END) + len(_END)
        body_bytes = int(request.headers.get("content-length", 0))
        # Only where all lines end in the same way is this where the parser saw the end, too.
        is_plain = data.count(b"\n", 0, begin) == data.count(b"\r\n", 0, begin)
        if not is_plain or begin > HEAD_BYTES_MAX or len(data) - begin != body_bytes:
            return
        if len(self._heads) >= KNOWN_MAX:
            self._heads.clear()
        self._heads[data[:begin]] = _Head(request.method, request.path, request.query, request.headers, body_bytes)
