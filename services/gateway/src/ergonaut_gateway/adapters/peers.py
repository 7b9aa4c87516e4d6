"""How gateways ask each other by gRPC."""

from collections.abc import Callable
from typing import Any

import grpc
from grpc import aio

from ergonaut.api.openinference.v2.open_inference_pb2_grpc import GRPCInferenceServiceStub
from ergonaut.errors import Broken, Refused
from ergonaut.gateways import FORWARDED_BY
from ergonaut_common.observe import headers_under
from ergonaut_common.rpc import for_tenant
from ergonaut_common.rpc.fellows import FellowChannels
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceAnswer
from ergonaut_gateway.domain.peers import Errand, PeerAway
from ergonaut_gateway.open_inference import PUSHBACK
from ergonaut_gateway.protocol.peer_wire import decode_answer, encode_request, told_by
from ergonaut_gateway.service.footprint import ASKING, YES

CLOSE_SECONDS = 30.0
"""How long what a gateway has may still be answered once it is sent nothing more: as long as a run may take."""

_NOT_THERE = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED)
_AWAY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)


class GrpcPeerLinks:
    """Fills `PeerLinks`. To be closed by `closed`."""

    def __init__(self, key: str, replica: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._metadata = (("authorization", f"Bearer {key}"), (FORWARDED_BY, replica))
        self._channels = FellowChannels(close_seconds=CLOSE_SECONDS, credentials=credentials)

    def open(self, address: str, *, tls: bool) -> "GrpcPeerLink":
        return GrpcPeerLink(self._channels.open(address, tls=tls), self._metadata, self._channels.close)

    async def closed(self) -> None:
        """Return when all that were opened and closed are gone, with what was asked over them."""
        await self._channels.closed()


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
