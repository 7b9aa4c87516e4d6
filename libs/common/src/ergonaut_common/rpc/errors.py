"""The one table between our errors and gRPC status codes, read in both directions."""

import grpc
from pydantic import ValidationError

from ergonaut.errors import Broken, Conflict, ErgonautError, NotAllowed, NotFound, Refused, Unavailable

# In order: a subclass stands before its base.
_TABLE: tuple[tuple[type[ErgonautError], grpc.StatusCode], ...] = (
    (NotAllowed, grpc.StatusCode.PERMISSION_DENIED),
    (Refused, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Conflict, grpc.StatusCode.ALREADY_EXISTS),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (Broken, grpc.StatusCode.INTERNAL),
)

_ALSO: dict[grpc.StatusCode, type[ErgonautError]] = {
    grpc.StatusCode.UNAUTHENTICATED: NotAllowed,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Unavailable,
}


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The code and the message that a caller gets for an error."""
    if isinstance(error, ValidationError):
        return grpc.StatusCode.INVALID_ARGUMENT, in_words(error)
    for kind, code in _TABLE:
        if isinstance(error, kind):
            return code, str(error)
    # The words of an unforeseen error may hold what is not the caller's to see; they are in the log.
    return grpc.StatusCode.INTERNAL, f"an unforeseen {type(error).__name__}; the service's log tells more"


def error_of(error: grpc.RpcError, *, doing: str) -> ErgonautError:
    """Our error for the failure of a call that we made."""
    code = error.code() if callable(getattr(error, "code", None)) else grpc.StatusCode.UNKNOWN
    message = f"{doing}: {error.details() if callable(getattr(error, 'details', None)) else error}"
    kind = _ALSO.get(code) or next((kind for kind, known in _TABLE if known == code), Broken)
    return kind(message)


def in_words(error: ValidationError) -> str:
    """Every field that is wrong, and why, in one line."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{where}: {message}" if where else message)
    return "; ".join(problems)
