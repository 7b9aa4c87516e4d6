"""Reads the requests of one connection with httptools, within bounds. The connection does whatever follows from them."""

from typing import Any, Protocol

import httptools

from ergonaut.errors import ErgonautError, Refused, Unavailable
from ergonaut_common.h2.bodies import BodyRoom
from ergonaut_gateway.http.exchange import Request
from ergonaut_gateway.http.known import KnownHead, known_head
from ergonaut_gateway.http.limits import HttpLimits

EARLY_BYTES = 64 * 1024
"""Callers with a larger body, or one of unknown size, are told before it comes where it is for nothing."""

NAMES_MAX = 512
"""Names of headers that are remembered in lower case."""

NAME_BYTES_MAX = 64
"""Longer names are nobody's but a hostile caller's."""

IDLE, HEAD, BODY = range(3)
"""What a reader is at: between two requests, in a request line with its headers, in a body."""

_names: dict[bytes, str] = {}


class Owner(Protocol):
    """What a reader tells."""

    def took(self, request: Request) -> None:
        """A request is here, whole."""
        ...

    def admits(self, request: Request) -> bool:
        """Whether a request may go on to send its body; else it was answered."""
        ...

    def refused(self, request: Request, error: ErgonautError | None, status: int, sentence: str) -> None:
        """A request is wrong, by an error or by a status with a sentence; nothing is read after it."""
        ...


class Reader:
    """The requests of one connection, one after the other. What it holds of the last one is read by its owner."""

    headers: dict[str, str]
    version: str
    held_bytes: int
    """Bytes of the body that are counted as held, until the owner takes them over."""
    stays: bool
    """Whether the caller wants to send more requests."""
    owes_continue: bool
    """Whether the caller waits to be asked for its body."""
    _url: bytes
    _fed_bytes: int
    _body: list[bytes]
    _body_bytes: int

    def __init__(self, owner: Owner, limits: HttpLimits, room: BodyRoom) -> None:
        self._owner = owner
        self._limits = limits
        self._room = room
        self._known: KnownHead | None = None
        self._whole_bytes_max = min(EARLY_BYTES, limits.body_bytes)
        self._parser: Any = httptools.HttpRequestParser(self)
        self.deaf = False
        """Whether the rest of what comes is dropped."""
        self._messages = 0
        self._newest: Request | None = None
        self._upgrading = False
        self._clear()
        self.state = IDLE
        self.changed = False
        """Whether `state` began anew since this was last set to False."""

    @property
    def missing_bytes(self) -> int:
        """How much of a body is still to come, where that is known."""
        return self._expected_bytes - self._body_bytes

    def whole(self, data: bytes) -> Request | None:
        """The request that these bytes are, where that can be told without parsing them; all else must be fed."""
        known = self._known
        if known is None or self.state != IDLE or (request := known.whole(data)) is None:
            return None
        size_bytes = len(request.body)
        if size_bytes > self._whole_bytes_max:
            return None
        try:
            self._room.hold(size_bytes)
        except Unavailable:
            # The longer way tells it.
            return None
        self.held_bytes = size_bytes
        self.version, self.stays, self.changed = "1.1", True, True
        return request

    def feed(self, piece: bytes | memoryview) -> None:
        """Read on."""
        whole = piece if self.state == IDLE and isinstance(piece, bytes) else None
        begun = self._messages
        self._feed(piece)
        newest, self._newest = self._newest, None
        if whole is None or newest is None or self.deaf or self.state != IDLE or self._messages != begun + 1:
            return
        self._known = known_head(whole, newest) if self.version == "1.1" and self.stays else None

    def _feed(self, piece: bytes | memoryview) -> None:
        while piece and not self.deaf:
            begun, state, body_bytes = self._messages, self.state, self._body_bytes
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                piece = self._without_upgrade(piece[upgrade.args[0] :])
                continue
            except httptools.HttpParserCallbackError:
                raise
            except httptools.HttpParserError as error:
                if not self.deaf:
                    self.refuse(Refused(f"is not HTTP: {error}", field="request"))
                return
            if state != IDLE and self.state == state and (self._messages, self._body_bytes) == (begun, body_bytes):
                # httptools keeps an unfinished header or trailer to itself; only what was fed tells how large it is by now.
                self._fed_bytes += len(piece)
                self._check_head()
            else:
                self._fed_bytes = 0
            return

    def refuse(self, error: ErgonautError) -> None:
        """Refuse the request that is being read."""
        self._end()
        self._owner.refused(self._request(b""), error, 0, "")

    def close(self) -> None:
        """Let go of everything."""
        self._room.release(self.held_bytes)
        self.held_bytes = 0
        self.deaf = True
        # The parser and its reader hold each other.
        self._parser = None

    # What the parser calls.

    def on_message_begin(self) -> None:
        if not self.deaf:
            self._clear()

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head_bytes += len(url)
        if self._head_bytes > self._limits.head_bytes:
            self._check_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state == BODY or self.deaf:
            # A trailer, after a body in chunks; nothing here asks for any.
            return
        known = _names.get(name)
        if known is None:
            known = _lower(name)
        text = value.decode("latin-1").strip(" \t")
        headers = self.headers
        if known in headers:
            if known == "host":
                # Which of them is meant is a question that a proxy may answer otherwise.
                self._turn_away(400, "Host: came more than once")
                return
            text = f"{headers[known]}, {text}"
        headers[known] = text
        self._head_bytes += len(name) + len(value)
        self._header_count += 1
        if self._head_bytes > self._limits.head_bytes or self._header_count > self._limits.headers:
            self._check_head()

    def on_headers_complete(self) -> None:
        self._upgrading = self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT"
        if self.deaf or self._upgrading:
            return
        self.state, self.changed = BODY, True
        headers = self.headers
        self._method = self._parser.get_method().decode("ascii")
        self.version = self._parser.get_http_version()
        self.stays = self._parser.should_keep_alive()
        if self.version not in ("1.1", "1.0"):
            self._turn_away(505, f"HTTP/{self.version} is not spoken here; use 1.1")
        elif self._method == "CONNECT":
            self._turn_away(405, "CONNECT is not answered here")
        elif self.version == "1.1" and "host" not in headers:
            self._turn_away(400, "Host: is missing")
        elif "content-length" in headers or "transfer-encoding" in headers:
            self._body_begins()

    def on_body(self, piece: bytes) -> None:
        if self.deaf:
            return
        size_bytes = len(piece)
        if self._body_bytes + size_bytes > self._limits.body_bytes:
            self._refuse_size()
            return
        try:
            self._room.hold(size_bytes)
        except Unavailable as error:
            self.refuse(error)
            return
        self.held_bytes += size_bytes
        self._body_bytes += size_bytes
        self._body.append(piece)

    def on_message_complete(self) -> None:
        if self.deaf or self._upgrading:
            return
        self.state, self.changed = IDLE, True
        pieces, self._body = self._body, []
        self._newest = self._request(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        self._owner.took(self._newest)

    # What those do.

    def _clear(self) -> None:
        """Begin a request."""
        self.state, self.changed = HEAD, True
        self._messages += 1
        self._url = b""
        self._method = ""
        self.headers = {}
        self.version = "1.1"
        self.stays = True
        self.owes_continue = False
        self._header_count = 0
        self._head_bytes = 0
        self._fed_bytes = 0
        self._body = []
        self._body_bytes = 0
        self._expected_bytes = 0
        self.held_bytes = 0

    def _without_upgrade(self, rest: bytes | memoryview) -> bytes | memoryview:
        """Nobody is upgraded here. httptools reads no body after such an offer, so the request is read anew without it."""
        if not self._upgrading:
            return rest
        staying = self.headers.pop("connection", "").lower()
        self.headers.pop("upgrade", None)
        self.headers["connection"] = "close" if "close" in staying else "keep-alive"
        lines = [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        head = b"".join(
            (self._parser.get_method(), b" ", self._url, b" HTTP/1.1\r\n", "".join(lines).encode("latin-1"))
        )
        self._parser = httptools.HttpRequestParser(self)
        return b"".join((head, b"\r\n", rest))

    def _check_head(self) -> None:
        limits = self._limits
        if self.deaf:
            return
        if max(self._head_bytes, self._fed_bytes) > limits.head_bytes or self._header_count > limits.headers:
            if self.headers:
                self._turn_away(431, f"at most {limits.headers} headers of {limits.head_bytes} bytes are taken")
            else:
                self._turn_away(414, f"a request line of at most {limits.head_bytes} bytes is taken")

    def _body_begins(self) -> None:
        """Before a body comes: refuse it where that can be told now, and remember a caller who waits for that."""
        coding = self.headers.get("transfer-encoding", "")
        if coding and (coding.lower() != "chunked" or self.version != "1.1"):
            # RFC 9112, 6.1: of a body that is coded otherwise, and of any by an old caller, nobody knows where it ends.
            words = f"{coding[:50]!r} is not taken by HTTP/{self.version}; send chunked by HTTP/1.1, or none"
            self.refuse(Refused(words, field="Transfer-Encoding"))
            return
        self._expected_bytes = int(self.headers.get("content-length", 0))
        if self._expected_bytes > self._limits.body_bytes:
            self._refuse_size()
            return
        expected = self.headers.get("expect", "").lower() if self.version == "1.1" else ""
        if expected not in ("", "100-continue"):
            self._turn_away(417, f"Expect: {expected[:50]} cannot be met; send 100-continue or none")
            return
        early = expected or self._expected_bytes > EARLY_BYTES or "transfer-encoding" in self.headers
        if early and not self._owner.admits(self._request(b"")):
            self._end()
            return
        self.owes_continue = bool(expected)

    def _request(self, body: bytes) -> Request:
        target = self._url.decode("latin-1")
        if not target.startswith("/") and "://" in target:
            # The form that is sent to proxies; what counts is the path.
            target = "/" + target.partition("://")[2].partition("/")[2]
        path, _, query = target.partition("?")
        return Request(self._method, path, query, self.headers, body)

    def _refuse_size(self) -> None:
        self.refuse(Refused(f"is larger than {self._limits.body_bytes} bytes", field="body"))

    def _turn_away(self, status: int, sentence: str) -> None:
        self._end()
        self._owner.refused(self._request(b""), None, status, sentence)

    def _end(self) -> None:
        self.deaf = True
        self.stays = False
        self._body = []


def _lower(name: bytes) -> str:
    known = name.decode("latin-1").lower()
    if len(_names) < NAMES_MAX and len(name) <= NAME_BYTES_MAX:
        _names[name] = known
    return known
