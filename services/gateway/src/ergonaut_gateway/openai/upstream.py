"""One request to one upstream over HTTP, up to the first byte of its answer. The service chooses whom to ask."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import httpx
import orjson

from ergonaut_common.clock import Clock
from ergonaut_gateway.openai.domain.breaker import Breaker
from ergonaut_gateway.openai.domain.measured import Breaking, Measuring, elsewhere
from ergonaut_gateway.openai.routes import AnyUpstream, RouteConfig, UpstreamConfig, key_of

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""A whole answer that is not streamed; embeddings of many texts take some MB."""

RETRY_AFTER_SECONDS_MAX = 3600.0
"""What is told beyond it is not believed."""

FAILED_STATUSES = frozenset({401, 402, 403, 408, 409, 425, 429})
"""Not the caller's fault, beside 5xx: our key or quota there, or the upstream is busy. Another upstream may do better."""


class UpstreamFailed(Exception):
    """An upstream did not answer, or said that it cannot. Its words are not kept, since they may hold a key."""

    def __init__(
        self, reason: str, *, busy: bool = False, retry_after_seconds: float = 0.0, is_well: bool = False
    ) -> None:
        super().__init__(reason)
        self.busy = busy
        self.retry_after_seconds = retry_after_seconds
        self.is_well = is_well
        """Whether it only has no room now, as it says itself, so that to leave it alone would help nobody."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of a caller, as upstreams are asked it."""

    tenant: str
    path: str
    """One of the door's, as chat/completions."""
    body: dict[str, Any]
    """To be written by orjson."""
    until_seconds: float
    """When the whole answer must be there, on the monotonic clock."""

    @property
    def streams(self) -> bool:
        """Whether the answer is wanted piece by piece."""
        return self.body.get("stream") is True


@dataclass(slots=True)
class Reply:
    """An answer that has begun; `close` must be awaited."""

    status: int
    """As of HTTP."""
    content_type: str
    first: bytes
    pieces: AsyncIterator[bytes]
    between_seconds: float
    until_seconds: float
    """When the whole must be there, on the monotonic clock."""
    breaker: Breaker
    clock: Clock
    close: Callable[[], Awaitable[object]]
    """Lets go of it; where the answer is not whole this tells the upstream to stop."""
    key: bytes = b""
    measured: Measuring = elsewhere
    """What the answer used, where it is made here and once it is whole."""
    broken_off: Breaking = elsewhere
    """What it used where it is made here and was let go of before it was whole."""

    async def each(self) -> AsyncIterator[bytes]:
        """The body piece by piece as it comes. Raises UpstreamFailed where it ends too soon."""
        piece = self.first
        while piece:
            yield piece
            try:
                left_seconds = self.until_seconds - self.clock.monotonic()
                if left_seconds <= 0:
                    raise UpstreamFailed("its answer is not whole in time")
                piece = await _next(self.pieces, min(self.between_seconds, left_seconds))
            except UpstreamFailed:
                self.breaker.failed(self.clock.monotonic())
                raise

    async def whole(self) -> bytes:
        """The whole body. Raises UpstreamFailed."""
        body = bytearray()
        async for piece in self.each():
            body += piece
            if len(body) > ANSWER_BYTES_MAX:
                raise UpstreamFailed("its answer is too long")
        # A careless server tells the key that it was shown; callers are not to see it.
        return bytes(body.replace(self.key, b"[key]") if self.key and self.status != 200 else body)


class Asking(Protocol):
    """An upstream of a route, wherever it runs."""

    weight: float
    breaker: Breaker

    @property
    def config(self) -> AnyUpstream:
        """By which its answers are weighed, and where it says that it runs."""
        ...

    async def ask(self, asked: Asked) -> Reply:
        """Ask, and wait for the beginning of an answer. Raises UpstreamFailed."""
        ...


class Upstream:
    """One server of one route. Fills `Asking`."""

    def __init__(self, config: UpstreamConfig, route: RouteConfig, client: httpx.AsyncClient, clock: Clock) -> None:
        self.config = config
        self.weight = config.weight
        self.breaker = Breaker(config.breaker)
        self._client = client
        self._clock = clock
        self._route = route
        self._key = key = key_of(config)
        self._headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"

    async def ask(self, asked: Asked) -> Reply:
        """Send a request and wait for the first byte of its answer. Raises UpstreamFailed."""
        route, body = self._route, asked.body
        if self.config.model:
            body = body | {"model": self.config.model}
        # Waiting has bounds of its own below; httpx's would fire for a slow first token.
        timeout = httpx.Timeout(None, connect=route.connect_seconds, pool=route.connect_seconds)
        url = f"{self.config.base}/{asked.path}"
        request = self._client.build_request(
            "POST", url, content=orjson.dumps(body), headers=self._headers, timeout=timeout
        )
        # An answer that is not streamed has its first byte when it is whole.
        within_seconds = route.first_seconds if asked.streams else route.whole_seconds
        try:
            async with asyncio.timeout(within_seconds):
                response = await self._client.send(request, stream=True)
                return await self._begun(response, asked.until_seconds)
        except TimeoutError:
            raise UpstreamFailed(f"no answer within {within_seconds:g} s") from None
        except httpx.HTTPError as error:
            raise UpstreamFailed(type(error).__name__) from None

    async def _begun(self, response: httpx.Response, until_seconds: float) -> Reply:
        try:
            status = response.status_code
            if status >= 500 or status in FAILED_STATUSES or 300 <= status < 400:
                wait_seconds = told_seconds(response.headers.get("retry-after", ""), self._clock.now())
                raise UpstreamFailed(f"status {status}", busy=status == 429, retry_after_seconds=wait_seconds)
            pieces = response.aiter_raw()
            first = await anext(pieces, b"")
        except BaseException:
            await response.aclose()
            raise
        return Reply(
            status,
            str(response.headers.get("content-type", "application/json")),
            first,
            pieces,
            self._route.between_seconds,
            until_seconds,
            self.breaker,
            self._clock,
            close=response.aclose,
            key=self._key.encode(),
        )


async def _next(pieces: AsyncIterator[bytes], within_seconds: float) -> bytes:
    try:
        async with asyncio.timeout(within_seconds):
            return await anext(pieces, b"")
    except TimeoutError:
        raise UpstreamFailed(f"silent for {within_seconds:g} s") from None
    except httpx.HTTPError as error:
        raise UpstreamFailed(type(error).__name__) from None


def told_seconds(retry_after: str, now: datetime) -> float:
    """The seconds that a Retry-After tells, as a number or by a date (RFC 9110); 0 for none that can be understood.

    >>> from datetime import UTC
    >>> told_seconds("Fri, 27 Nov 2026 10:00:30 GMT", datetime(2026, 11, 27, 10, 0, 0, tzinfo=UTC))
    30.0
    """
    if retry_after.isdecimal():
        seconds = float(retry_after)
    else:
        try:
            seconds = (parsedate_to_datetime(retry_after) - now).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
