"""gRPC channels that carry a key along, put a deadline on every call, and find a restarted service within seconds.

Used by the client, and by services that call each other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from grpc import aio

from ergonaut.tls import bare, channel_credentials, is_secure

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""The largest message given or taken: a batch of 1,024 vectors of 4,096 numbers. Larger things are streamed in pieces."""

CALL_TIMEOUT_SECONDS = 10.0
"""Deadline of a call that answers once: the control plane answers within a second or is in trouble."""

TRANSFER_TIMEOUT_SECONDS = 600.0
"""Deadline of a call that carries a file."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A peer that was killed must be noticed within seconds, and tried again soon after it is back.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    # A watch may be silent for hours, and its peer may die at the end of them.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

Headers = Callable[[], Mapping[str, str]]


def open_channel(address: str, headers: Headers, *, agent: str) -> aio.Channel:
    """A channel whose every call carries what `headers` gives at that moment; `agent` tells who calls. By TLS where the address
    begins with https://. Raises Refused where what that needs is wrong."""
    options = (*_OPTIONS, ("grpc.primary_user_agent", agent))
    kinds = (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)
    interceptors: Sequence[aio.ClientInterceptor] = [kind(headers) for kind in kinds]
    if is_secure(address):
        return aio.secure_channel(bare(address), channel_credentials(), options=options, interceptors=interceptors)
    return aio.insecure_channel(address, options=options, interceptors=interceptors)


class _Carrying:
    """What the interceptors share."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def _details(self, given: aio.ClientCallDetails, timeout_seconds: float | None) -> aio.ClientCallDetails:
        metadata = aio.Metadata(*(given.metadata or ()))
        for name, value in self._headers().items():
            metadata.add(name, value)
        timeout = given.timeout if given.timeout is not None else timeout_seconds
        return aio.ClientCallDetails(given.method, timeout, metadata, given.credentials, given.wait_for_ready)


class _UnaryUnary(_Carrying, aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(self._details(client_call_details, CALL_TIMEOUT_SECONDS), request)


class _UnaryStream(_Carrying, aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: aio.ClientCallDetails, request: Any
    ) -> Any:
        # A watch has no natural end, so no deadline is put on it here.
        return await continuation(self._details(client_call_details, None), request)


class _StreamUnary(_Carrying, aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Callable[..., Any], client_call_details: aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(self._details(client_call_details, TRANSFER_TIMEOUT_SECONDS), request_iterator)


class _StreamStream(_Carrying, aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        # Its caller says how long it may take; it ends when its requests do.
        return await continuation(self._details(client_call_details, None), request_iterator)
