"""Watches that outlive a restart of the service that answers them. Used by every area of the client that has one."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from time import monotonic
from typing import Any

import grpc

from ergonaut.client.connection import doing

AWAY_SECONDS_MAX = 120.0
"""How long a service that is away is waited for; then the caller is told."""

_PAUSE_SECONDS = 0.5


async def watched(call: Callable[[], Any], what: str) -> AsyncGenerator[Any, None]:
    """The answers of a watch until its service ends it; while the service is away, the watch is begun again."""
    away_since: float | None = None
    while True:
        answers = call()
        try:
            async for answer in answers:
                away_since = None
                yield answer
            return
        except grpc.RpcError as error:
            away_since = away_since or monotonic()
            if error.code() != grpc.StatusCode.UNAVAILABLE or monotonic() - away_since > AWAY_SECONDS_MAX:
                with doing(what):
                    raise
        finally:
            with contextlib.suppress(Exception):
                answers.cancel()
        await asyncio.sleep(_PAUSE_SECONDS)
