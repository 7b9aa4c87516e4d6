"""A connection to NATS that only publishes to JetStream and awaits each acknowledgement; used once a second, for ever.

nats-py wakes four tasks for that, which on a processor that has slept is half of what the agent may use at all. This speaks the
few words of the protocol that publishing takes (docs.nats.io/reference/reference-protocols/nats-protocol): plain TCP, with a
user and a password or without. Everything else, and links with TLS, is nats-py's.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from nats.errors import AuthorizationError, ConnectionClosedError, MaxPayloadError, ProtocolError
from nats.js.errors import APIError, NoStreamResponseError

from ergonaut.ids import new_id
from ergonaut_common.settings import PlatformSettings

OPEN_SECONDS_MAX = 2.0
"""How long a server may take to greet."""

ANSWER_SECONDS_MAX = 2.0
"""How long an acknowledgement may take; a link that is dead is noticed by this."""

BUFFER_BYTES_MAX = 64 * 1024
"""Acknowledgements are some hundred bytes; whoever sends more without an end speaks another protocol."""

_PORT = 4222
_HEADERS_BEGIN = "NATS/1.0"


class NotPlain(Exception):
    """The server wants TLS or another proof than a password; nats-py can do that."""


class PublishingLink(asyncio.Protocol):
    """One such connection. A link that has closed stays closed; the owner opens another."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._inbox = f"_INBOX.{new_id('link')}"
        self._asked = 0
        self._answers: dict[bytes, asyncio.Future[bytes]] = {}
        self._payload_max = 0
        loop = asyncio.get_running_loop()
        self._info: asyncio.Future[Mapping[str, Any]] = loop.create_future()
        self._greeted: asyncio.Future[None] = loop.create_future()

    @property
    def is_open(self) -> bool:
        """Whether something may be published."""
        return self._transport is not None and not self._transport.is_closing()

    async def publish(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> None:
        """Return once the stream has stored the message. Raises nats-py's errors, and TimeoutError without an answer."""
        if self._transport is None or not self.is_open:
            raise ConnectionClosedError
        if len(payload) > self._payload_max:
            raise MaxPayloadError
        self._asked += 1
        reply = b"%b.%d" % (self._inbox.encode(), self._asked)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{_HEADERS_BEGIN}\r\n{lines}\r\n".encode()
        command = b"HPUB %b %b %d %d\r\n" % (subject.encode(), reply, len(head), len(head) + len(payload))
        answer = self._answers[reply] = asyncio.get_running_loop().create_future()
        self._transport.write(b"%b%b%b\r\n" % (command, head, payload))
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                _check(await answer)
        finally:
            del self._answers[reply]

    async def greet(self, user: str, password: str) -> None:
        """Introduce ourselves. Raises NotPlain, nats-py's errors, and TimeoutError."""
        info = await self._info
        if info.get("tls_required") or (info.get("auth_required") and not user):
            raise NotPlain
        self._payload_max = int(info["max_payload"])
        words = {"verbose": False, "headers": True, "no_responders": True, "lang": "python", "name": "ergonaut-samples"}
        credentials = {"user": user, "pass": password} if user else {}
        assert self._transport is not None
        self._transport.write(
            b"CONNECT %b\r\nSUB %b.* 1\r\nPING\r\n" % (json.dumps(words | credentials).encode(), self._inbox.encode())
        )
        await self._greeted

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's contract
        self._fail(ConnectionClosedError())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while self._take():
                pass
        except (ValueError, IndexError):
            self._fail(ProtocolError("what came over the link is not NATS"))
        if len(self._buffer) > BUFFER_BYTES_MAX:
            self._fail(ProtocolError("the server sends what a publisher does not expect"))

    def _take(self) -> bool:
        """Take one message of the server's from the buffer; whether there was a whole one."""
        line, found, rest = self._buffer.partition(b"\r\n")
        if not found:
            return False
        verb, *words = line.split(b" ")
        if verb in (b"MSG", b"HMSG"):
            length = int(words[-1])
            if len(rest) < length + 2:
                return False
            self._answered(words[0], rest[:length])
            rest = rest[length + 2 :]
        elif verb == b"PING" and self._transport is not None:
            self._transport.write(b"PONG\r\n")
        elif verb == b"PONG" and not self._greeted.done():
            self._greeted.set_result(None)
        elif verb == b"INFO" and not self._info.done():
            self._info.set_result(json.loads(line[5:]))
        elif verb == b"-ERR":
            text = line[5:].decode(errors="replace")
            self._fail(AuthorizationError(text) if "Authorization" in text else ProtocolError(text))
        self._buffer = rest
        return True

    def _answered(self, reply: bytes, body: bytes) -> None:
        answer = self._answers.get(reply)
        if answer is not None and not answer.done():
            answer.set_result(body)

    def _fail(self, error: Exception) -> None:
        waiting: list[asyncio.Future[Any]] = [self._info, self._greeted, *self._answers.values()]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(error)
                # Nobody may be waiting for it, as for a greeting that came before; that is no fault to be logged.
                answer.exception()
        self.close()


def _check(answer: bytes) -> None:
    """Raise what an acknowledgement says is wrong."""
    if answer.startswith(_HEADERS_BEGIN.encode()):
        # Only the server itself answers with headers: nobody listens, so there is no stream.
        raise NoStreamResponseError
    if b'"error"' in answer and (error := json.loads(answer).get("error")):
        raise APIError.from_error(error)


async def open_link(platform: PlatformSettings) -> PublishingLink:
    """Connect. Raises NotPlain where only nats-py can, else OSError, TimeoutError and nats-py's errors."""
    url = urlsplit(platform.nats_url)
    if url.scheme != "nats" or url.hostname is None or url.username:
        raise NotPlain
    async with asyncio.timeout(OPEN_SECONDS_MAX):
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(PublishingLink, url.hostname, url.port or _PORT)
        with contextlib.ExitStack() as stack:
            stack.callback(link.close)
            await link.greet(platform.nats_user, platform.nats_password())
            stack.pop_all()
    return link
