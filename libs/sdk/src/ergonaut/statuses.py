"""The one table between our errors and gRPC status codes, read in both directions by clients and by doors."""

import grpc

from ergonaut.errors import Broken, Conflict, ErgonautError, NotAllowed, NotFound, Refused, Unavailable

# In order: a subclass stands before its base.
STATUS_OF_ERROR: tuple[tuple[type[ErgonautError], grpc.StatusCode], ...] = (
    (NotAllowed, grpc.StatusCode.PERMISSION_DENIED),
    (Refused, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Conflict, grpc.StatusCode.ALREADY_EXISTS),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (Broken, grpc.StatusCode.INTERNAL),
)

# Codes that gRPC itself gives.
_ALSO: dict[grpc.StatusCode, type[ErgonautError]] = {
    grpc.StatusCode.UNAUTHENTICATED: NotAllowed,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Unavailable,
}

CUT_OFF = "Internal error from Core"
"""What asyncio's gRPC says, as INTERNAL, where a call ended while it was still being sent, whatever ended it
(https://github.com/grpc/grpc/issues/36066): mostly a server that stops."""


def error_of(error: grpc.RpcError, *, doing: str) -> ErgonautError:
    """Our error for the failure of a call that we made; `doing` is what was attempted, in the caller's words."""
    code = error.code() if callable(getattr(error, "code", None)) else grpc.StatusCode.UNKNOWN
    details = error.details() if callable(getattr(error, "details", None)) else str(error)
    if code == grpc.StatusCode.INTERNAL and details == CUT_OFF:
        return Unavailable(f"{doing}: the call was cut off while it was being sent; try it again")
    kind = _ALSO.get(code) or next((kind for kind, known in STATUS_OF_ERROR if known == code), Broken)
    return kind(f"{doing}: {details}")
