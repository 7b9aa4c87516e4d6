"""What a request's headers mean to gRPC, worked out once for all calls that begin with the same ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from ergonaut.gateways import FORWARDED_BY
from ergonaut_common.h2.answers import CallFailed, failure
from ergonaut_common.h2.headers import Fields, Malformed
from ergonaut_common.h2.streams import HeaderFrame

_TYPE = "application/grpc"
_UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
TIMEOUT_DIGITS_MAX = 8


@dataclass(frozen=True, slots=True)
class CallHead:
    """How a call begins."""

    method: Any
    """What the door has for its path."""
    path: str
    fields: Mapping[str, str]
    content_length: int
    """-1 where it is not told."""
    timeout_seconds: float | None
    encoding: str
    """Of the messages that come, empty where they are not packed."""
    answer_encoding: str
    """Of the messages that go."""
    refusal: HeaderFrame | None
    """The answer to a request that is none for us."""
    forwarded: bool
    """Whether another gateway has sent it on."""


def head_of(fields: Fields, methods: Mapping[str, Any]) -> CallHead:
    """Read a request's headers. Raises Malformed."""
    path = fields[":path"]
    encoding = fields.get("grpc-encoding", "")
    if encoding == "identity":
        encoding = ""
    accepted = [each.strip() for each in fields.get("grpc-accept-encoding", "").split(",")]
    return CallHead(
        method=methods.get(path),
        path=path,
        fields=fields,
        content_length=_content_length(fields),
        timeout_seconds=_timeout_seconds(fields.get("grpc-timeout", "")),
        encoding=encoding,
        answer_encoding=encoding if encoding in accepted else "",
        refusal=_refusal(fields, encoding, known=path in methods),
        forwarded=FORWARDED_BY in fields,
    )


def _refusal(fields: Fields, encoding: str, *, known: bool) -> HeaderFrame | None:
    content_type = fields.get("content-type", "")
    if not content_type.startswith(_TYPE) or content_type[len(_TYPE) : len(_TYPE) + 1] not in ("", "+", ";"):
        return HeaderFrame(415, ("content-length", "0"))
    if fields[":method"] != "POST":
        return HeaderFrame(405, ("allow", "POST"), ("content-length", "0"))
    failed = None
    if not known:
        failed = CallFailed(grpc.StatusCode.UNIMPLEMENTED, f"there is no method {fields[':path']} here")
    elif encoding not in ("", "gzip", "deflate"):
        failed = CallFailed(grpc.StatusCode.UNIMPLEMENTED, f"grpc-encoding {encoding} is not known")
    elif "grpc-timeout" in fields and _timeout_seconds(fields["grpc-timeout"]) is None:
        failed = CallFailed(grpc.StatusCode.INTERNAL, f"grpc-timeout {fields['grpc-timeout']} cannot be read")
    return failure(failed) if failed is not None else None


def _content_length(fields: Fields) -> int:
    text = fields.get("content-length")
    if text is None:
        return -1
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise Malformed("content-length is no number")
    return int(text)


def _timeout_seconds(text: str) -> float | None:
    """A grpc-timeout.

    >>> _timeout_seconds("250m"), _timeout_seconds("S")
    (0.25, None)
    """
    digits, unit = text[:-1], _UNIT_SECONDS.get(text[-1:])
    if unit is None or not (digits.isascii() and digits.isdigit()) or len(digits) > TIMEOUT_DIGITS_MAX:
        return None
    return int(digits) * unit
