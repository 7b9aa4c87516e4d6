"""What can go wrong between a caller and the upstreams, in OpenAI's words. The service raises it, the door writes it."""

from collections.abc import Mapping
from typing import Any

from ergonaut.errors import ErgonautError


class OpenAiError(ErgonautError):
    """A failure with the status, type and code that OpenAI's clients know."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        kind: str,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def document(self) -> dict[str, Any]:
        """As it stands in an answer."""
        return {"error": {"message": str(self), "type": self.kind, "code": self.code, "param": self.param}}


def wrong(message: str, param: str | None = None) -> OpenAiError:
    """The request cannot be understood."""
    return OpenAiError(message, status=400, kind="invalid_request_error", code="invalid_value", param=param)


def too_long(message: str, param: str | None = None) -> OpenAiError:
    """A text has more tokens than the model takes."""
    kind, code = "invalid_request_error", "context_length_exceeded"
    return OpenAiError(message, status=400, kind=kind, code=code, param=param)


def no_model(model: str) -> OpenAiError:
    """There is no such route for this tenant, which is told alike whether another tenant has it or not."""
    sentence = f"there is no model {model[:200]!r} that you may use; GET models lists those there are"
    return OpenAiError(sentence, status=404, kind="invalid_request_error", code="model_not_found", param="model")


def limited(what: str, headers: Mapping[str, str]) -> OpenAiError:
    """The tenant asked for more than the route gives it in a minute."""
    sentence = f"too many {what} a minute; come back after what Retry-After says"
    return OpenAiError(sentence, status=429, kind=what, code="rate_limit_exceeded", headers=headers)


def crowded(model: str) -> OpenAiError:
    """The route has as many requests at work as it may."""
    sentence = f"{model} has as many requests at work as it may; ask again"
    return OpenAiError(sentence, status=503, kind="server_error", code="overloaded", headers={"retry-after": "1"})


def too_late(model: str) -> OpenAiError:
    """The route's time for a whole request is over."""
    return OpenAiError(f"{model} took longer than its route allows", status=504, kind="server_error", code="timeout")


def no_upstream(model: str, status: int, reasons: str, retry_after: str = "1") -> OpenAiError:
    """Every upstream failed or is left alone."""
    sentence = f"no upstream of {model} answers ({reasons}); ask again"
    headers = {"retry-after": retry_after}
    return OpenAiError(sentence, status=status, kind="server_error", code="upstream_unavailable", headers=headers)
