"""Which rows are asked for: conditions on fields, joined by and, or and not. Read from JSON at the door; `matching.py` evaluates.

    {"and": [{"field": "price", "range": {"gte": 10, "lt": 20}}, {"not": {"field": "tags", "in": ["sold", "old"]}}]}

A condition holds for a row where any value of the field fulfils it; a `not` holds for every row for which its inside does not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ergonaut.errors import Refused
from ergonaut_vectors.domain.payload.fields import (
    FIELD_NAME_CHARACTERS_MAX,
    Place,
    microseconds_of,
    place_of,
)
from ergonaut_vectors.domain.payload.terms import words_of

CONDITIONS_MAX = 256
"""And, or and not counted too. Each costs a pass over a column."""

DEPTH_MAX = 16
VALUES_MAX = 4096
"""Values or ids of one condition; the cost of more is no longer hidden behind that of the search."""

CORNERS_MAX = 1024
"""Corners of a polygon; each is a pass over the places near it."""

RADIUS_METERS_MAX = 20_037_509.0
"""Half the way around the Earth: beyond is nothing."""


@dataclass(frozen=True, slots=True)
class And:
    """All of these hold; with none, every row does."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of these holds; with none, no row does."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold."""

    part: "Filter"


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value is one of these: numbers by size, 3 being 3.0, times by instant, strings by their characters."""

    field: str
    values: tuple[bool | int | float | str, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """An end of a range."""

    value: int | float
    inclusive: bool


@dataclass(frozen=True, slots=True)
class Range:
    """The number lies between these, or the time, with bounds in microseconds since 1970."""

    field: str
    low: Bound | None
    high: Bound | None
    of_times: bool = False


@dataclass(frozen=True, slots=True)
class Exists:
    """There is a value; null and an empty list are none."""

    field: str


@dataclass(frozen=True, slots=True)
class Near:
    """The place is at most so far from another, over the ground of a round Earth."""

    field: str
    centre: Place
    radius_meters: float


@dataclass(frozen=True, slots=True)
class Box:
    """The place lies between two parallels and from the western to the eastern meridian, over the date line if need be."""

    field: str
    south: float
    west: float
    north: float
    east: float


@dataclass(frozen=True, slots=True)
class Polygon:
    """The place lies within these corners, whose edges are straight on a map of degrees."""

    field: str
    corners: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """The text has all of these words, or any of them."""

    field: str
    words: tuple[str, ...]
    any: bool = False


@dataclass(frozen=True, slots=True)
class Ids:
    """The vector has one of these ids."""

    ids: tuple[str, ...]


Condition = OneOf | Range | Exists | Near | Box | Polygon | Text
Filter = And | Or | Not | Condition | Ids


def parsed(told: Any, *, where: str = "filter") -> Filter:
    """The filter that the JSON says, or Refused naming the part that is wrong."""
    reading = _Reading()
    return reading.filter(told, where, 1)


class _Reading:
    """Reads one filter; knows how much it has read."""

    def __init__(self) -> None:
        self._left = CONDITIONS_MAX

    def filter(self, told: Any, where: str, depth: int) -> Filter:
        if not isinstance(told, Mapping):
            raise Refused('must be an object, such as {"field": "tag", "eq": "new"}', field=where)
        self._left -= 1
        if self._left < 0 or depth > DEPTH_MAX:
            raise Refused(
                f"is more than {CONDITIONS_MAX} conditions, or {DEPTH_MAX} of them in each other", field=where
            )
        if "field" in told:
            return _condition(told, where)
        if len(told) != 1:
            raise Refused(f"must have exactly one of and, or, not, ids, or a field; has {_names(told)}", field=where)
        ((name, inside),) = told.items()
        if name == "and":
            return And(self._all(inside, f"{where}.and", depth))
        if name == "or":
            return Or(self._all(inside, f"{where}.or", depth))
        if name == "not":
            return Not(self.filter(inside, f"{where}.not", depth + 1))
        if name == "ids":
            return Ids(_ids(inside, f"{where}.ids"))
        raise Refused(f"has {name!r}; known are and, or, not, ids, field", field=where)

    def _all(self, told: Any, where: str, depth: int) -> tuple[Filter, ...]:
        if not isinstance(told, list | tuple):
            raise Refused("must be a list of filters", field=where)
        return tuple(self.filter(each, f"{where}[{at}]", depth + 1) for at, each in enumerate(told))


def _condition(told: Mapping[str, Any], where: str) -> Filter:
    name = told["field"]
    if not isinstance(name, str) or not 1 <= len(name) <= FIELD_NAME_CHARACTERS_MAX:
        raise Refused(f"must be a name of 1 to {FIELD_NAME_CHARACTERS_MAX} characters", field=f"{where}.field")
    operators = [key for key in told if key != "field"]
    if len(operators) != 1 or operators[0] not in _READERS:
        known = ", ".join(_READERS)
        raise Refused(f"must have exactly one of {known}; has {', '.join(map(str, operators)) or 'none'}", field=where)
    return _READERS[operators[0]](name, told[operators[0]], f"{where}.{operators[0]}")


def _equal(field: str, told: Any, where: str) -> Filter:
    return OneOf(field, (_scalar(told, where),))


def _in(field: str, told: Any, where: str) -> Filter:
    if not isinstance(told, list | tuple) or len(told) > VALUES_MAX:
        raise Refused(f"must be a list of at most {VALUES_MAX} values", field=where)
    return OneOf(field, tuple(_scalar(each, f"{where}[{at}]") for at, each in enumerate(told)))


def _range(field: str, told: Any, where: str) -> Filter:
    if not isinstance(told, Mapping) or not told or not told.keys() <= {"gt", "gte", "lt", "lte"}:
        raise Refused('must be an object with gt or gte, lt or lte, such as {"gte": 1, "lt": 5}', field=where)
    if {"gt", "gte"} <= told.keys() or {"lt", "lte"} <= told.keys():
        raise Refused("has two bounds at one end", field=where)
    bounds = {key: _bound(value, f"{where}.{key}") for key, value in told.items()}
    kinds = {isinstance(value, str) for value in told.values()}
    if len(kinds) > 1:
        raise Refused("has a number at one end and a time at the other", field=where)
    low = next((Bound(bounds[key], key == "gte") for key in ("gt", "gte") if key in bounds), None)
    high = next((Bound(bounds[key], key == "lte") for key in ("lt", "lte") if key in bounds), None)
    return Range(field, low, high, of_times=kinds == {True})


def _bound(told: Any, where: str) -> int | float:
    if isinstance(told, str):
        moment = microseconds_of(told)
        if moment is None:
            raise Refused(f"is {told[:40]!r}, neither a number nor a time such as 2026-01-31T12:00:00Z", field=where)
        return moment
    return _number(told, where)


def _exists(field: str, told: Any, where: str) -> Filter:
    if not isinstance(told, bool):
        raise Refused("must be true or false", field=where)
    return Exists(field) if told else Not(Exists(field))


def _empty(field: str, told: Any, where: str) -> Filter:
    if not isinstance(told, bool):
        raise Refused("must be true or false", field=where)
    return Not(Exists(field)) if told else Exists(field)


def _near(field: str, told: Any, where: str) -> Filter:
    if not isinstance(told, Mapping) or told.keys() != {"lat", "lon", "radius_meters"}:
        raise Refused("must be an object with lat, lon and radius_meters", field=where)
    centre = _place({"lat": told["lat"], "lon": told["lon"]}, where)
    radius = _number(told["radius_meters"], f"{where}.radius_meters")
    if radius < 0:
        raise Refused(f"is {radius}, but must be 0 or more", field=f"{where}.radius_meters")
    return Near(field, centre, min(float(radius), RADIUS_METERS_MAX))


def _box(field: str, told: Any, where: str) -> Filter:
    if not isinstance(told, Mapping) or told.keys() != {"south", "west", "north", "east"}:
        raise Refused("must be an object with south, west, north and east, in degrees", field=where)
    south, west = _place({"lat": told["south"], "lon": told["west"]}, where)
    north, east = _place({"lat": told["north"], "lon": told["east"]}, where)
    if south > north:
        raise Refused(f"has its south, {south}, north of its north, {north}", field=where)
    return Box(field, south, west, north, east)


def _polygon(field: str, told: Any, where: str) -> Filter:
    if not isinstance(told, list | tuple) or not 3 <= len(told) <= CORNERS_MAX:
        raise Refused(f'must be a list of 3 to {CORNERS_MAX} corners {{"lat": ..., "lon": ...}}', field=where)
    return Polygon(field, tuple(_place(each, f"{where}[{at}]") for at, each in enumerate(told)))


def _text(field: str, told: Any, where: str) -> Filter:
    return Text(field, _words(told, where))


def _text_any(field: str, told: Any, where: str) -> Filter:
    return Text(field, _words(told, where), any=True)


_READERS: dict[str, Callable[[str, Any, str], Filter]] = {
    "eq": _equal,
    "in": _in,
    "range": _range,
    "exists": _exists,
    "empty": _empty,
    "near": _near,
    "box": _box,
    "polygon": _polygon,
    "text": _text,
    "text_any": _text_any,
}


def _scalar(told: Any, where: str) -> bool | int | float | str:
    if told is None:
        raise Refused('is null; for a field without a value say {"field": ..., "empty": true}', field=where)
    if isinstance(told, bool | str):
        return told
    if not isinstance(told, int | float):
        raise Refused("must be a text, a number, true or false", field=where)
    return _number(told, where)


def _number(told: Any, where: str) -> int | float:
    if isinstance(told, bool) or not isinstance(told, int | float):
        raise Refused("must be a number", field=where)
    if not -1e308 <= told <= 1e308:
        raise Refused("is not a finite number", field=where)
    return told


def _place(told: Any, where: str) -> Place:
    place = place_of(told)
    if place is None:
        raise Refused("must have lat from -90 to 90 and lon from -180 to 180, and nothing else", field=where)
    return place


def _words(told: Any, where: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(words_of(told))) if isinstance(told, str) else ()
    if not 1 <= len(words) <= CONDITIONS_MAX:
        raise Refused(f"must be a text with 1 to {CONDITIONS_MAX} words", field=where)
    return words


def _ids(told: Any, where: str) -> tuple[str, ...]:
    if not isinstance(told, list | tuple) or len(told) > VALUES_MAX or not all(isinstance(each, str) for each in told):
        raise Refused(f"must be a list of at most {VALUES_MAX} ids", field=where)
    return tuple(told)


def _names(told: Mapping[str, Any]) -> str:
    return ", ".join(map(str, told)) or "none"
