"""Other gateways: what they tell each other by NATS, and how they ask each other by gRPC."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import grpc
from grpc import aio
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from ergonaut.api.openinference.v2.open_inference_pb2_grpc import GRPCInferenceServiceStub
from ergonaut.channels import MESSAGE_BYTES_MAX
from ergonaut.errors import Broken, Refused, Unavailable
from ergonaut.gateways import FORWARDED_BY, SUBJECT, GatewayAnnounced, sealed, unsealed
from ergonaut.tls import channel_credentials
from ergonaut_common.bus import Bus
from ergonaut_common.observe import get_logger, headers_under
from ergonaut_common.rpc import for_tenant
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceAnswer
from ergonaut_gateway.domain.peers import Errand, PeerAway
from ergonaut_gateway.open_inference import PUSHBACK
from ergonaut_gateway.protocol.peer_wire import decode_answer, encode_request, told_by
from ergonaut_gateway.service.footprint import ASKING, YES

TOLD_AGAIN_SECONDS = 60.0
"""How often it is logged that somebody tells what is not believed, however often he does."""

CLOSE_SECONDS = 30.0
"""How long what a gateway has may still be answered once it is sent nothing more: as long as a run may take."""

OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A machine that vanished sends no end of its connections: within five seconds it is noticed, and others are asked.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # Without it grpcio waits a minute for the answer to a ping, whatever the line above says.
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Each has a connection of its own, also where several processes listen at one address and share those that come.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

_NOT_THERE = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED)
_AWAY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)

log = get_logger(__name__)


class NatsAnnouncements:
    """Fills `Announcements`."""

    def __init__(self, bus: Bus, key: str) -> None:
        self._connection = bus.connection
        self._key = key
        self._logged_seconds = -TOLD_AGAIN_SECONDS

    async def tell(self, announced: GatewayAnnounced) -> None:
        if not self._connection.is_connected:
            # It would be kept and told when it is not true any more.
            raise Unavailable("telling other gateways of this one: NATS is away")
        try:
            await self._connection.publish(SUBJECT, sealed(announced, self._key))
        except NatsError as error:
            raise Unavailable(f"telling other gateways of this one: {error}") from error

    @asynccontextmanager
    async def heard(self, hear: Callable[[GatewayAnnounced], None]) -> AsyncIterator[None]:
        async def come(message: Msg) -> None:
            try:
                hear(unsealed(message.data, self._key, datetime.now(UTC)))
            except Refused as error:
                self._log(error)

        subscription = await self._connection.subscribe(SUBJECT, cb=come)
        try:
            yield
        finally:
            with suppress(NatsError):
                await subscription.unsubscribe()

    def _log(self, error: Refused) -> None:
        now = time.monotonic()
        if now - self._logged_seconds >= TOLD_AGAIN_SECONDS:
            self._logged_seconds = now
            log.warning("gateway not believed", error=str(error))


class GrpcPeerLinks:
    """Fills `PeerLinks`. To be closed by `closed`."""

    def __init__(self, key: str, replica: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._metadata = (("authorization", f"Bearer {key}"), (FORWARDED_BY, replica))
        self._credentials = credentials
        self._closing: set[asyncio.Task[None]] = set()

    def open(self, address: str, *, tls: bool) -> "GrpcPeerLink":
        if tls:
            channel = aio.secure_channel(address, self._credentials or channel_credentials(), options=OPTIONS)
        else:
            channel = aio.insecure_channel(address, options=OPTIONS)
        return GrpcPeerLink(channel, self._metadata, self._close)

    async def closed(self) -> None:
        """Return when all that were opened and closed are gone, with what was asked over them."""
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _close(self, channel: aio.Channel) -> None:
        task = asyncio.get_running_loop().create_task(channel.close(CLOSE_SECONDS))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class GrpcPeerLink:
    """Fills `PeerLink`."""

    def __init__(
        self, channel: aio.Channel, metadata: tuple[tuple[str, str], ...], close: Callable[[aio.Channel], None]
    ) -> None:
        self._channel = channel
        self._metadata = metadata
        self._close = close
        self._infer: Any = GRPCInferenceServiceStub(channel).ModelInfer

    async def ask(self, errand: Errand) -> InferenceAnswer:
        metadata = (*self._metadata, *for_tenant(errand.tenant))
        meter = errand.request.meter
        if meter is not None:
            metadata += ((ASKING, YES[0]), *_tracing(meter.trace))
        try:
            response = await self._infer(encode_request(errand), metadata=metadata, timeout=errand.timeout_seconds)
        except aio.AioRpcError as error:
            raise _error_of(error) from error
        except aio.UsageError as error:
            raise PeerAway("the connection was closed") from error
        answer = decode_answer(response, errand)
        if meter is not None:
            meter.told.append(told_by(response))
        return answer

    def close(self) -> None:
        self._close(self._channel)


def _tracing(trace: Any) -> tuple[tuple[str, str], ...]:
    return tuple(headers_under(trace).items()) if trace is not None else ()


def _error_of(error: aio.AioRpcError) -> Exception:
    code, words = error.code(), error.details() or ""
    if code in _NOT_THERE:
        # Where it lacks the model it has no room for this one request.
        pushed_back = dict(error.trailing_metadata() or ()).get(PUSHBACK, "0")
        return Busy(words, retry_after_seconds=int(pushed_back) / 1000 if str(pushed_back).isdigit() else 0.0)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("the deadline passed before another gateway had answered")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return Refused(words)
    if code in _AWAY:
        return PeerAway(f"{code.name}: {words}")
    return Broken(f"another gateway failed: {words}")
