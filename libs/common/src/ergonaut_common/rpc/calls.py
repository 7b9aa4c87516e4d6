"""What surrounds every call that comes in: who calls, whether they may, spans, metrics, and errors as status codes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import grpc
from grpc import aio
from prometheus_client import Counter, Histogram

from ergonaut.channels import TRANSFER_TIMEOUT_SECONDS
from ergonaut.errors import NotAllowed, Unavailable
from ergonaut.keys import Scope
from ergonaut_common.auth import Caller, KeyRing
from ergonaut_common.observe import carried_context, get_logger, span
from ergonaut_common.rpc.errors import status_of

READ_VERBS = ("Get", "List", "Watch", "Describe", "Forecast", "Search", "Plan", "Estimate", "Download", "Check")
"""Methods that begin so only look; all others change something."""

OPEN_SERVICES = ("/grpc.health.v1.Health/",)
"""Doors for anybody: a probe has no key."""

READ_SERVICES = ("/inference.GRPCInferenceService/", "/grpc.reflection.")
"""Doors whose methods only look, whatever their names."""

ANSWER_SECONDS_MAX = TRANSFER_TIMEOUT_SECONDS
"""How long a call that answers once may work here, whatever deadline its caller has set or forgotten to set."""

TENANT_METADATA = "x-ergonaut-tenant"
"""With it a service says for whom it acts."""

log = get_logger(__name__)
_caller: ContextVar[Caller] = ContextVar("caller")
_calls = Counter("ergonaut_rpc_calls_total", "Calls by method and status.", ["method", "code"])
_seconds = Histogram("ergonaut_rpc_seconds", "Time of unary calls.", ["method"])


def caller() -> Caller:
    """Who made the call that is being answered."""
    return _caller.get()


def scope_needed(method: str) -> Scope:
    """What a caller must hold for a method's full name.

    >>> str(scope_needed("/ergonaut.api.pricing.v1.PricingService/ListOffers"))
    'read'
    """
    name = method.rpartition("/")[2]
    reads = name.startswith(READ_VERBS) or method.startswith(READ_SERVICES)
    return Scope.READ if reads else Scope.WRITE


def counted(method: str, code: grpc.StatusCode) -> Counter:
    """The counter of a method's calls that end so, for doors that answer calls without `Calls`."""
    return _calls.labels(method, code.name)


class Calls(aio.ServerInterceptor):
    """Lets callers in and turns what goes wrong into a status with one clear sentence."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler that gRPC has found for a call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(OPEN_SERVICES):
            return handler
        metadata = {key: _text(value) for key, value in handler_call_details.invocation_metadata or ()}
        around = _Around(self._keys, method, metadata)
        replaced = {
            name: around.stream(getattr(handler, name))
            if name.endswith("stream")
            else around.unary(getattr(handler, name))
            for name in ("unary_unary", "stream_unary", "unary_stream", "stream_stream")
            if getattr(handler, name) is not None
        }
        return handler._replace(**replaced)


class _Around:
    """One call's surroundings."""

    def __init__(self, keys: KeyRing, method: str, metadata: dict[str, str]) -> None:
        self._keys = keys
        self._method = method
        self._metadata = metadata

    def unary(self, handler: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        """Around a method that answers once."""

        async def answer(request: Any, context: Any) -> Any:
            started = time.perf_counter()
            async with self._guarded(context), _deadline(ANSWER_SECONDS_MAX):
                response = await handler(request, context)
                _seconds.labels(self._method).observe(time.perf_counter() - started)
                return response

        return answer

    def stream(self, handler: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
        """Around a method that answers many times."""

        async def answer(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._guarded(context):
                responses = handler(request, context)
                try:
                    async for response in responses:
                        yield response
                finally:
                    # Ended with its call; by itself it would be when its memory is let go, in whatever task that is.
                    if isinstance(responses, AsyncGenerator):
                        await responses.aclose()

        return answer

    @contextlib.asynccontextmanager
    async def _guarded(self, context: Any) -> AsyncIterator[None]:
        # What leaves by neither way below was cancelled: by the caller, by a deadline, or by a stop.
        code, message = grpc.StatusCode.CANCELLED, ""
        try:
            with self._let_in(), carried_context(self._metadata), span(self._method):
                yield
            code = grpc.StatusCode.OK
        except aio.AbortError:
            raise
        except Exception as error:
            code, message = status_of(error)
            if code == grpc.StatusCode.INTERNAL:
                log.exception("call failed", method=self._method)
        finally:
            _calls.labels(self._method, code.name).inc()
        if code != grpc.StatusCode.OK:
            await context.abort(code, message)

    @contextlib.contextmanager
    def _let_in(self) -> Iterator[None]:
        who = self._keys.authenticate(self._metadata.get("authorization", ""))
        who.require(scope_needed(self._method))
        if tenant := self._metadata.get(TENANT_METADATA):
            who = who.acting_for(tenant)
        if not who.tenant:
            raise NotAllowed(f"{who.principal} belongs to no tenant; say for whom you act in {TENANT_METADATA}")
        token = _caller.set(who)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):
                # A stream that is closed from another task has another context; there is nothing left to reset then.
                _caller.reset(token)


@contextlib.asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise Unavailable(f"no answer within {seconds:g} s; ask again with less, or later") from error


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
