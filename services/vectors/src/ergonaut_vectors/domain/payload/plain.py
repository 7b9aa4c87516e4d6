"""What a filter means, said of one payload at a time: the twin that tests hold `matching.py` to. It also answers, slowly, for
fields that have no column."""

import math
from collections.abc import Collection, Sequence
from typing import Any

from ergonaut_vectors.domain.payload.fields import Fields, FieldType, Leaf, Payload, Place, leaves_of, microseconds_of
from ergonaut_vectors.domain.payload.filters import (
    And,
    Box,
    Condition,
    Exists,
    Filter,
    Ids,
    Near,
    Not,
    OneOf,
    Or,
    Polygon,
    Range,
    Text,
)
from ergonaut_vectors.domain.payload.stems import stemmed
from ergonaut_vectors.domain.payload.terms import words_of


def matches(wanted: Filter, payload: Payload, fields: Fields, name: str = "") -> bool:
    """Whether the vector of this id, with this payload under these declared fields, fulfils the filter."""
    if isinstance(wanted, And):
        return all(matches(part, payload, fields, name) for part in wanted.parts)
    if isinstance(wanted, Or):
        return any(matches(part, payload, fields, name) for part in wanted.parts)
    if isinstance(wanted, Not):
        return not matches(wanted.part, payload, fields, name)
    if isinstance(wanted, Ids):
        return name in wanted.ids
    declared = fields.get(wanted.field)
    return fulfils(wanted, leaves_of(payload, fields), declared.language if declared else "")


def fulfils(condition: Condition, leaves: Sequence[Leaf], language: str = "") -> bool:
    """Whether any of these values of a payload fulfils the condition on its field."""
    values = [(kind, value) for field, kind, value in leaves if field == condition.field]
    if isinstance(condition, Text):
        return _has_text(condition, values, language)
    return any(_holds(condition, kind, value) for kind, value in values)


def has_words(condition: Text, words: Collection[str], language: str = "") -> bool:
    """Whether these words are what the condition asks for."""
    wanted = set(stemmed(condition.words, language))
    return bool(wanted & set(words)) if condition.any else wanted <= set(words)


def _has_text(condition: Text, values: Sequence[tuple[FieldType, Any]], language: str) -> bool:
    """The words of a text may stand in several of a list's entries; those of a keyword in one."""
    texts = [word for kind, value in values if kind is FieldType.TEXT for word in words_of(value)]
    if texts and has_words(condition, stemmed(texts, language), language):
        return True
    return any(has_words(condition, words_of(value)) for kind, value in values if kind is FieldType.KEYWORD)


def _holds(condition: Condition, kind: FieldType, value: Any) -> bool:
    if isinstance(condition, Exists):
        return True
    if isinstance(condition, OneOf):
        return any(_equal(kind, value, wanted) for wanted in condition.values)
    if isinstance(condition, Range):
        return _between(condition, kind, value)
    return kind is FieldType.GEO and isinstance(condition, Near | Box | Polygon) and _within(condition, value)


def _equal(kind: FieldType, value: Any, wanted: bool | int | float | str) -> bool:
    if kind is FieldType.BOOLEAN:
        return isinstance(wanted, bool) and value is wanted
    if kind is FieldType.TIME:
        return isinstance(wanted, str) and microseconds_of(wanted) == value
    if kind in (FieldType.KEYWORD, FieldType.TEXT):
        return bool(value == wanted)
    return not isinstance(wanted, bool | str) and bool(value == wanted)


def _between(condition: Range, kind: FieldType, value: Any) -> bool:
    if kind not in ((FieldType.TIME,) if condition.of_times else (FieldType.INTEGER, FieldType.FLOAT)):
        return False
    low, high = condition.low, condition.high
    if low is not None and not (value > low.value or (low.inclusive and value == low.value)):
        return False
    return high is None or value < high.value or (high.inclusive and bool(value == high.value))


def _within(shape: Near | Box | Polygon, place: Place) -> bool:
    latitude, longitude = place
    if isinstance(shape, Box):
        return shape.south <= latitude <= shape.north and _within_meridians(longitude, shape.west, shape.east)
    if isinstance(shape, Near):
        return _far_meters(place, shape.centre) <= shape.radius_meters
    return _crossings(place, shape) % 2 == 1


def _within_meridians(longitude: float, west: float, east: float) -> bool:
    turns = (longitude, longitude - 360, longitude + 360)
    return any(west <= turn <= (east if west <= east else east + 360) for turn in turns)


def _far_meters(one: Place, other: Place) -> float:
    """By the chord through the Earth between the two, where `geo.py` uses the haversine."""
    (a, b, c), (x, y, z) = _on_sphere(one), _on_sphere(other)
    return 2 * 6_371_008.8 * math.asin(min(1.0, math.dist((a, b, c), (x, y, z)) / 2))


def _on_sphere(place: Place) -> tuple[float, float, float]:
    latitude, longitude = map(math.radians, place)
    return (
        math.cos(latitude) * math.cos(longitude),
        math.cos(latitude) * math.sin(longitude),
        math.sin(latitude),
    )


def _crossings(place: Place, polygon: Polygon) -> int:
    """Edges east of the place on its parallel, each edge taking the shorter way around the Earth."""
    longitudes = [polygon.corners[0][1]]
    for _, longitude in polygon.corners[1:]:
        longitudes.append(longitude - 360 * round((longitude - longitudes[-1]) / 360))
    latitudes = [corner[0] for corner in polygon.corners]
    middle = (min(longitudes) + max(longitudes)) / 2
    latitude, longitude = place[0], place[1] + 360 * round((middle - place[1]) / 360)
    crossed = 0
    for at in range(len(latitudes)):
        if (latitudes[at] > latitude) != (latitudes[at - 1] > latitude):
            slope = (longitudes[at - 1] - longitudes[at]) / (latitudes[at - 1] - latitudes[at])
            crossed += longitude < longitudes[at] + slope * (latitude - latitudes[at])
    return crossed
