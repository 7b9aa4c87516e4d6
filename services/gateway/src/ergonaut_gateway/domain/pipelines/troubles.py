"""Errors of steps as those of their pipelines."""

from ergonaut.errors import Broken, Conflict, ErgonautError, NotFound, Refused, Unavailable
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded


def told_in_place(error: ErgonautError, place: str) -> ErgonautError:
    """An error of a step as one of its pipeline: the same kind, with the place in its sentence."""
    sentence = f"{place}: {error}"
    retry_seconds = getattr(error, "retry_after_seconds", None)
    if retry_seconds is not None:
        return Busy(sentence, retry_after_seconds=retry_seconds)
    if isinstance(error, NotFound):
        # The caller's name was found; that the pipeline's was not is no fault of the caller.
        return Unavailable(sentence)
    for kind in (DeadlineExceeded, Unavailable, Refused, Conflict, Broken):
        if isinstance(error, kind):
            return kind(sentence)
    return error
