"""What a caller is told of an error: the status by the table of `ergonaut.statuses`, and one clear sentence."""

import grpc
from pydantic import ValidationError

from ergonaut.faults import in_words
from ergonaut.statuses import STATUS_OF_ERROR, error_of

__all__ = ["error_of", "status_of"]


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The code and the message that a caller gets for an error."""
    if isinstance(error, ValidationError):
        return grpc.StatusCode.INVALID_ARGUMENT, in_words(error)
    for kind, code in STATUS_OF_ERROR:
        if isinstance(error, kind):
            return code, str(error)
    # The words of an unforeseen error may hold what is not the caller's to see; they are in the log.
    return grpc.StatusCode.INTERNAL, f"an unforeseen {type(error).__name__}; the service's log tells more"
