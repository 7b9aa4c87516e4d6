"""Payloads as they are written down: JSON in UTF-8, which gives back exactly what was written. Checked once, at the door.

The door calls `checked`; logs and segments keep the bytes, columns and answers read them.
"""

import json
from collections.abc import Mapping
from typing import Any

from ergonaut.errors import Refused
from ergonaut_vectors.domain.payload.fields import Field, Fields, FieldType, Payload, place_of, typed

PAYLOAD_BYTES_MAX = 65_536
"""A payload describes a vector and is sent back with every hit; what is larger belongs into a store of files."""

DEPTH_MAX = 16
"""Objects and lists within each other: more than anybody writes by hand, far less than a reader's stack holds."""

KEY_CHARACTERS_MAX = 256
NUMBER_MAX = 1e308
"""Integers of JSON have no bound, floats do; beyond this a number could not be compared with one."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Written(dict[str, Any]):
    """A payload that was read from its bytes, or checked, and keeps them: whoever writes it down again need not make them anew.

    It must not be changed; `|` gives one that may be.
    """

    __slots__ = ("document",)

    def __init__(self, payload: Payload, document: bytes) -> None:
        super().__init__(payload)
        self.document = document


def encoded(payload: Payload) -> bytes:
    """The payload's bytes; none for an empty one."""
    if type(payload) is Written:
        return payload.document
    if not payload:
        return b""
    return _ENCODER.encode(payload).encode()


def decoded(document: bytes) -> dict[str, Any]:
    """The payload that was encoded; it may be changed."""
    if not document:
        return {}
    payload: dict[str, Any] = json.loads(document)
    return payload


def kept(document: bytes) -> Payload:
    """The payload that was encoded, with its bytes: for those who will write it down again as it is."""
    return Written(json.loads(document), document) if document else {}


_PLAIN = frozenset((str, bool, type(None)))
"""What is right wherever nothing was declared; most values are, and need not be told where they stand."""


def checked(payload: Any, fields: Fields, where: str) -> bytes:
    """The payload's bytes, or Refused naming the first part that is no JSON, too large, or not of its field's declared type."""
    if not isinstance(payload, Mapping):
        raise Refused("must be an object, names with values", field=where)
    for key, value in payload.items():
        if not (
            type(value) in _PLAIN and type(key) is str and 0 < len(key) <= KEY_CHARACTERS_MAX and key not in fields
        ):
            _check_key(key, where)
            _check(value, key, fields, f"{where}.{key}", 1)
    try:
        document = encoded(payload)
    except UnicodeEncodeError as error:
        raise Refused("has a character that is half of a pair, which UTF-8 cannot say", field=where) from error
    if len(document) > PAYLOAD_BYTES_MAX:
        raise Refused(f"has {len(document)} bytes as JSON; at most {PAYLOAD_BYTES_MAX} are taken", field=where)
    return document


def _check(value: Any, name: str, fields: Fields, where: str, depth: int) -> None:
    if isinstance(value, list | tuple | Mapping):
        _check_within(value, name, fields, where, depth)
        return
    if value is None:
        return
    if not isinstance(value, bool | int | float | str):
        raise Refused(f"is a {type(value).__name__}, which JSON does not have", field=where)
    if (
        isinstance(value, int | float) and not -NUMBER_MAX <= value <= NUMBER_MAX
    ):  # what is no number is not within either
        raise Refused("is not a finite number", field=where)
    declared = fields.get(name)
    if declared is not None and typed(value, declared.type)[0] is not declared.type:
        raise Refused(f"is {_told(value)}, but the field is declared {declared.type}", field=where)


def _check_within(value: Any, name: str, fields: Fields, where: str, depth: int) -> None:
    if depth >= DEPTH_MAX:
        raise Refused(f"is more than {DEPTH_MAX} objects and lists deep", field=where)
    if not isinstance(value, Mapping):
        for at, each in enumerate(value):
            _check(each, name, fields, f"{where}[{at}]", depth + 1)
        return
    declared = fields.get(name)
    if declared is not None and (declared.type is not FieldType.GEO or place_of(value) is None):
        raise Refused(_no_object(declared), field=where)
    for key, each in value.items():
        _check_key(key, where)
        _check(each, f"{name}.{key}", fields, f"{where}.{key}", depth + 1)


def _no_object(declared: Field) -> str:
    if declared.type is FieldType.GEO:
        return 'is not a place: {"lat": -90 to 90, "lon": -180 to 180}'
    return f"is an object, but the field is declared {declared.type}"


def _check_key(key: Any, where: str) -> None:
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        raise Refused(f"a name in it must be a string of 1 to {KEY_CHARACTERS_MAX} characters", field=where)


def _told(value: Any) -> str:
    """The value, short enough for a message; a long one may be private, and helps nobody."""
    told = repr(value)
    return told if len(told) <= 40 else f"{told[:37]}..."
