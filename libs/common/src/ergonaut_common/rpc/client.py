"""Calls from one service to another: with the services' key, the trace, a deadline and keep-alive."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from grpc import aio

from ergonaut_common.observe import trace_headers
from ergonaut_common.rpc.calls import TENANT_METADATA
from ergonaut_common.rpc.server import MESSAGE_BYTES_MAX
from ergonaut_common.settings import PlatformSettings

CALL_TIMEOUT_SECONDS = 10.0
"""Deadline of a unary call that names none: the control plane answers within a second or is in trouble."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A peer that was killed must be noticed within seconds, and tried again soon after it is back.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def for_tenant(tenant: str) -> Sequence[tuple[str, str]]:
    """Metadata with which a service acts for a tenant."""
    return ((TENANT_METADATA, tenant),)


@contextlib.asynccontextmanager
async def channel(address: str, platform: PlatformSettings, *, service: str) -> AsyncIterator[aio.Channel]:
    """A channel to another service; `service` says who calls."""
    carry = _Carry(platform.service_key(), service)
    options = (*CHANNEL_OPTIONS, ("grpc.primary_user_agent", f"ergonaut-{service}"))
    async with aio.insecure_channel(
        address, options=options, interceptors=[_UnaryUnary(carry), _UnaryStream(carry), _StreamUnary(carry)]
    ) as opened:
        yield opened


class _Carry:
    """What every call of a service carries along."""

    def __init__(self, key: str, service: str) -> None:
        self._key = key
        self._service = service

    def details(self, given: aio.ClientCallDetails, *, timeout_seconds: float | None) -> aio.ClientCallDetails:
        """The call's details with key, trace and deadline."""
        metadata = aio.Metadata(*(given.metadata or ()))
        if self._key:
            metadata.add("authorization", f"Bearer {self._key}")
        for name, value in trace_headers().items():
            metadata.add(name, value)
        timeout = given.timeout if given.timeout is not None else timeout_seconds
        return aio.ClientCallDetails(given.method, timeout, metadata, given.credentials, given.wait_for_ready)


class _UnaryUnary(aio.UnaryUnaryClientInterceptor):
    def __init__(self, carry: _Carry) -> None:
        self._carry = carry

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(
            self._carry.details(client_call_details, timeout_seconds=CALL_TIMEOUT_SECONDS), request
        )


class _UnaryStream(aio.UnaryStreamClientInterceptor):
    def __init__(self, carry: _Carry) -> None:
        self._carry = carry

    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: aio.ClientCallDetails, request: Any
    ) -> Any:
        # A watch has no natural end, so no deadline is put on it here.
        return await continuation(self._carry.details(client_call_details, timeout_seconds=None), request)


class _StreamUnary(aio.StreamUnaryClientInterceptor):
    def __init__(self, carry: _Carry) -> None:
        self._carry = carry

    async def intercept_stream_unary(
        self, continuation: Callable[..., Any], client_call_details: aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        details = self._carry.details(client_call_details, timeout_seconds=CALL_TIMEOUT_SECONDS * 6)
        return await continuation(details, request_iterator)
