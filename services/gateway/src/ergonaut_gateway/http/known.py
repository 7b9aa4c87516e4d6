"""The head of a connection's last request. A caller that asks again and again sends the same bytes each time, but for the length
of its body; they are compared here rather than parsed anew, which halves what the server takes for a small request."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ergonaut_gateway.http.exchange import Memo, Request

HEAD_BYTES_MAX = 1_024
"""Longer heads are parsed each time, so that a thousand connections keep a MiB or two."""

DIGITS_MAX = 9
"""Of a length; what is longer is no body that comes in one piece."""

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)\r\n", re.IGNORECASE)
_OTHERWISE = ("transfer-encoding", "expect", "upgrade")
"""Headers with which there is more to a request than a head and so many bytes."""


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head of HTTP/1.1 after which the connection stays: its bytes before, of and after the length, and what they mean."""

    before: bytes
    length: bytes
    after: bytes
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    memo: Memo = field(default_factory=Memo)

    def whole(self, data: bytes) -> Request | None:
        """The request that these bytes are, where they are exactly one with this head and any length."""
        if not data.startswith(self.before):
            return None
        begin = len(self.before)
        end = data.find(b"\r", begin, begin + DIGITS_MAX + 1)
        length = data[begin:end]
        if not length.isdigit() or not data.startswith(self.after, end):
            return None
        body_at = end + len(self.after)
        if len(data) - body_at != int(length):
            return None
        headers = self.headers
        if length != self.length:
            headers = {**headers, "content-length": length.decode()}
        return Request(self.method, self.path, self.query, headers, data[body_at:], self.memo)


def known_head(data: bytes, request: Request) -> KnownHead | None:
    """The head of bytes that were parsed, from the first to the last, as this one request. None where it does not say all."""
    begin = data.find(_END) + len(_END)
    head = data[:begin]
    lengths = list(_LENGTH.finditer(head))
    # Only where all lines end in the same way is this where the parser saw the end, too.
    is_plain = head.count(b"\n") == head.count(b"\r\n")
    if (
        not is_plain
        or begin > HEAD_BYTES_MAX
        or len(lengths) != 1
        or any(name in request.headers for name in _OTHERWISE)
    ):
        return None
    length = lengths[0]
    if len(data) - begin != int(length[1]):
        return None
    before, after = head[: length.start(1)], head[length.end(1) :]
    return KnownHead(before, length[1], after, request.method, request.path, request.query, request.headers)
