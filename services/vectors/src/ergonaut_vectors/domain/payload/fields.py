"""What the values of a payload are: types of fields, declared or seen from the values, and the walk that finds every value.

A payload is a JSON object. A field is the path of a value in it, names joined by dots; lists add their entries to the field
they stand in, however deep, so that a field may have many values, of several types. Filters ask values by their own type; a
declaration says more: that a text is to be searched by words, that a string which looks like a time is none, and what a
writer may not write there. Used by columns, filters and the check of what is written.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from ergonaut.errors import Refused
from ergonaut_vectors.domain.payload.stems import check_language

Payload = Mapping[str, Any]
"""What comes with a vector: a JSON object."""

KEYWORD_CHARACTERS_MAX = 256
"""A longer string is text unless it was declared a keyword: nobody picks it from a list, and a dictionary of such is no smaller
than they are."""

FIELD_NAME_CHARACTERS_MAX = 256
FIELDS_DECLARED_MAX = 128
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1


class FieldType(StrEnum):
    """What a value is."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    FLOAT = "float"
    TIME = "time"
    """A string as RFC 3339 has it, with its offset; times are equal where the instants are, to the microsecond."""
    GEO = "geo"
    """An object with `lat` and `lon` in degrees, and nothing else."""
    KEYWORD = "keyword"
    """A string that is equal to another or not."""
    TEXT = "text"
    """A string that is searched by its words."""


@dataclass(frozen=True, slots=True)
class Field:
    """How a field was declared."""

    type: FieldType
    language: str = ""
    """Of a text: which words are forms of one another, "english"; empty takes words as they stand."""


Fields = Mapping[str, Field]
"""Declared fields by name."""

Place = tuple[float, float]
"""Latitude and longitude in degrees."""

Leaf = tuple[str, FieldType, Any]
"""A value found: its field, its type, and itself as columns have it: times in microseconds, places as pairs."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RFC_3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(?:([Zz])|([+-]\d{2}:\d{2}))", re.ASCII
)
_TIME_CHARACTERS_MIN = len("2026-01-01T00:00:00Z")
_TIME_CHARACTERS_MAX = len("2026-01-01T00:00:00.123456789+00:00")


def microseconds_of(text: str) -> int | None:
    """Microseconds since 1970 of an RFC 3339 time, finer fractions cut off; None where the text is none."""
    # Nearly all strings are none, and are told so before the expression is asked.
    if not _TIME_CHARACTERS_MIN <= len(text) <= _TIME_CHARACTERS_MAX or text[4] != "-":
        return None
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    day, hours, fraction, utc, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{hours}.{(fraction or '0')[:6]:0<6}{'+00:00' if utc else offset}")
    except ValueError:  # the 30th of February, hour 25
        return None
    return (moment - _EPOCH) // _MICROSECOND


def place_of(value: Any) -> Place | None:
    """The place that an object is; None where it is none."""
    if not isinstance(value, Mapping) or value.keys() != {"lat", "lon"}:
        return None
    latitude, longitude = value["lat"], value["lon"]
    if not _is_number(latitude) or not _is_number(longitude):
        return None
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        return None
    return float(latitude), float(longitude)


def leaves_of(payload: Payload, fields: Fields) -> list[Leaf]:
    """Every value of a payload, in the order in which it is written."""
    leaves: list[Leaf] = []
    for key, value in payload.items():
        _collect(key, value, fields, leaves)
    return leaves


_SCALARS = frozenset((str, int, float, bool))
"""By far the most values are of exactly these types, which is faster to see than what is like a list or an object."""


def _collect(name: str, value: Any, fields: Fields, leaves: list[Leaf]) -> None:
    if type(value) in _SCALARS:
        declared = fields.get(name) if fields else None
        leaves.append((name, *typed(value, declared.type if declared else None)))
    elif isinstance(value, list | tuple):
        for each in value:
            _collect(name, each, fields, leaves)
    elif isinstance(value, Mapping):
        place = place_of(value)
        if place is not None:
            leaves.append((name, FieldType.GEO, place))
            return
        for key, each in value.items():
            _collect(f"{name}.{key}", each, fields, leaves)


def typed(value: Any, declared: FieldType | None = None) -> tuple[FieldType, Any]:
    """A scalar's type, and itself as columns have it; the declared type where it fits, its own otherwise."""
    if isinstance(value, str):
        return _typed_string(value, declared)
    if isinstance(value, bool):
        return FieldType.BOOLEAN, value
    if isinstance(value, int):
        if declared is FieldType.FLOAT or not INTEGER_MIN <= value <= INTEGER_MAX:
            return FieldType.FLOAT, float(value)
        return FieldType.INTEGER, value
    # Clients whose JSON has one type of number write 3.0 for 3.
    if declared is FieldType.INTEGER and value.is_integer() and INTEGER_MIN <= value <= INTEGER_MAX:
        return FieldType.INTEGER, int(value)
    return FieldType.FLOAT, float(value)


def alike(kind: FieldType, value: Any) -> tuple[FieldType, Any]:
    """A value as it is counted and grouped: a whole number as an integer, for 3 equals 3.0."""
    if kind is FieldType.FLOAT and value.is_integer() and INTEGER_MIN <= value <= INTEGER_MAX:
        return FieldType.INTEGER, int(value)
    return kind, value


def _typed_string(value: str, declared: FieldType | None) -> tuple[FieldType, Any]:
    if declared is FieldType.KEYWORD or declared is FieldType.TEXT:
        return declared, value
    moment = microseconds_of(value)
    if moment is not None:
        return FieldType.TIME, moment
    return (FieldType.KEYWORD if len(value) <= KEYWORD_CHARACTERS_MAX else FieldType.TEXT), value


def declared(told: Mapping[str, Any], *, where: str = "fields") -> dict[str, Field]:
    """Fields that somebody declares now, or Refused: as `fields_of` reads them, and of languages whose stems are known here."""
    fields = fields_of(told, where=where)
    for name, field in fields.items():
        check_language(field.language, f"{where}.{name}.language")
    return fields


def fields_of(told: Mapping[str, Any], *, where: str = "fields") -> dict[str, Field]:
    """Fields as they are written in JSON, {"title": {"type": "text", "language": "english"}, "price": "float"}, or Refused."""
    if len(told) > FIELDS_DECLARED_MAX:
        raise Refused(f"has {len(told)} fields; at most {FIELDS_DECLARED_MAX} can be declared", field=where)
    return {name: _declared(name, each, f"{where}.{name}") for name, each in told.items()}


def _declared(name: str, told: Any, where: str) -> Field:
    if not 1 <= len(name) <= FIELD_NAME_CHARACTERS_MAX:
        raise Refused(f"has {len(name)} characters; 1 to {FIELD_NAME_CHARACTERS_MAX} are taken", field=where)
    parts = {"type": told} if isinstance(told, str) else told
    if not isinstance(parts, Mapping) or not {"type"} <= parts.keys() <= {"type", "language"}:
        raise Refused('must be a type, or an object with "type" and, for a text, "language"', field=where)
    try:
        kind = FieldType(parts["type"])
    except ValueError as error:
        known = ", ".join(FieldType)
        raise Refused(f"is {parts['type']!r}; types are {known}", field=f"{where}.type") from error
    language = parts.get("language", "")
    if not isinstance(language, str) or (language and kind is not FieldType.TEXT):
        raise Refused("only a text has a language, such as english", field=f"{where}.language")
    return Field(kind, language)


def told_of(fields: Fields) -> dict[str, Any]:
    """Declared fields as JSON; `fields_of` reads it back."""
    return {
        name: {"type": str(field.type)} | ({"language": field.language} if field.language else {})
        for name, field in fields.items()
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
