"""What a caller is told of an error: the status by the table of `ergonaut.statuses`, and one clear sentence."""

import grpc
from pydantic import ValidationError

from ergonaut.statuses import STATUS_OF_ERROR, error_of

__all__ = ["error_of", "in_words", "status_of"]


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The code and the message that a caller gets for an error."""
    if isinstance(error, ValidationError):
        return grpc.StatusCode.INVALID_ARGUMENT, in_words(error)
    for kind, code in STATUS_OF_ERROR:
        if isinstance(error, kind):
            return code, str(error)
    # The words of an unforeseen error may hold what is not the caller's to see; they are in the log.
    return grpc.StatusCode.INTERNAL, f"an unforeseen {type(error).__name__}; the service's log tells more"


def in_words(error: ValidationError) -> str:
    """Every field that is wrong, and why, in one line."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{where}: {message}" if where else message)
    return "; ".join(problems)
