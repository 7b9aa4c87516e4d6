"""Models that run in this process behind the port that servers fill: asked, timed, left alone and replaced as those are."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import orjson

from ergonaut.errors import ErgonautError, NotFound, Refused
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.inference import Busy
from ergonaut_gateway.openai.domain.breaker import Breaker
from ergonaut_gateway.openai.domain.measured import BrokenOff, Measured
from ergonaut_gateway.openai.domain.usage import NOT_MEASURED
from ergonaut_gateway.openai.errors import OpenAiError, too_long, wrong
from ergonaut_gateway.openai.routes import OnnxConfig, RouteConfig
from ergonaut_gateway.openai.upstream import Asked, Reply, UpstreamFailed
from ergonaut_gateway.service import embedding, generation

JSON, EVENTS = "application/json", "text/event-stream"

Pieces = AsyncGenerator[bytes, None]

log = get_logger(__name__)


class Answer:
    """What one answer used, told by who makes it once it is whole."""

    def __init__(self) -> None:
        self.used = Measured(None, NOT_MEASURED)
        self.part: BrokenOff | None = None

    def broken_off(self) -> BrokenOff | None:
        """What it took, once it was let go of, whole or not."""
        return self.part

    def measured(self) -> Measured:
        """What it used; not measured before it is whole."""
        return self.used


class Made(Protocol):
    """Makes answers of a model."""

    def pieces(self, asked: Asked, answer: Answer) -> Pieces:
        """An answer piece by piece. Raises OpenAiError or Refused for a request that is wrong, before anything comes, and
        Unavailable or NotFound where the model cannot answer. Closing it ends the work."""
        ...


class LocalUpstream:
    """One model of one route. Fills `Asking`."""

    def __init__(self, name: str, config: OnnxConfig, route: RouteConfig, made: Made, clock: Clock) -> None:
        self.config = config
        self.weight = config.weight
        self.breaker = Breaker(config.breaker)
        self._name = name
        self._route = route
        self._made = made
        self._clock = clock

    async def ask(self, asked: Asked) -> Reply:
        """Answer, as far as the first piece. Raises UpstreamFailed where the model cannot, or not in time."""
        streams = asked.streams and asked.path != "embeddings"
        answer = Answer()
        pieces = self._guarded(self._made.pieces(asked, answer))
        within_seconds = self._route.first_seconds if streams else self._route.whole_seconds
        status, content_type = 200, EVENTS if streams else JSON
        try:
            async with asyncio.timeout(within_seconds):
                first = await anext(pieces, b"")
        except TimeoutError:
            raise UpstreamFailed(f"no answer within {within_seconds:g} s") from None
        except OpenAiError as error:
            # Told as a server would tell it: the model is well, and no other would do better.
            status, content_type, first = error.status, JSON, orjson.dumps(error.document)
        return Reply(
            status,
            content_type,
            first,
            pieces,
            self._route.between_seconds,
            asked.until_seconds,
            self.breaker,
            self._clock,
            close=pieces.aclose,
            measured=answer.measured,
            broken_off=answer.broken_off,
        )

    async def _guarded(self, pieces: Pieces) -> Pieces:
        """The same pieces; what goes wrong is told as of any upstream, or in OpenAI's words where it is the caller's fault."""
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece
        except OpenAiError:
            raise
        except (embedding.TooLong, generation.TooLong) as error:
            raise too_long(str(error)) from error
        except Refused as error:
            raise wrong(str(error), error.field or None) from error
        except ErgonautError as error:
            raise self._failure(error) from error

    def _failure(self, error: ErgonautError) -> UpstreamFailed:
        if isinstance(error, Busy):
            return UpstreamFailed("busy", busy=True, retry_after_seconds=error.retry_after_seconds, is_well=True)
        # The sentence may name files of this machine, which are not the caller's to see.
        log.warning("text model failed", route=self._name, error=str(error))
        return UpstreamFailed(
            "its model is not served" if isinstance(error, NotFound) else "its model is not available"
        )
