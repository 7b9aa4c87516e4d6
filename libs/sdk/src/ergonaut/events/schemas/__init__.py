"""What has been promised about each event: one JSON Schema a type, written by `make docs`, shipped for readers in any language.

A promise grows only by optional fields: whoever wrote or reads an event of an older v1 must still be understood.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ergonaut.events import EVENT_TYPES, Event

FOLDER = Path(__file__).parent

Schema = dict[str, Any]

_PROSE = {"title", "description", "default", "examples", "$defs"}
"""What may be reworded: it tells people something and decides about no message. References are followed where they are used."""


def concrete_types() -> dict[str, type[Event]]:
    """Every event that is really told; bases that only share fields are left out."""
    return {name: event_type for name, event_type in sorted(EVENT_TYPES.items()) if not event_type.__subclasses__()}


def schema_of(event_type: type[Event]) -> Schema:
    """An event's schema as the code has it now."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_open(event_type.model_json_schema())}


def _open(part: Any) -> Any:
    """A schema that forbids no unknown field: what a person writes is checked for slips of the pen, what is told is not."""
    if isinstance(part, dict):
        return {key: _open(value) for key, value in part.items() if (key, value) != ("additionalProperties", False)}
    return [_open(item) for item in part] if isinstance(part, list) else part


def text_of(schema: Schema) -> str:
    """How a schema is written down, the same for the same schema."""
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def snapshot_file(type_name: str) -> Path:
    """Where the promise about a type is kept."""
    return FOLDER / f"{type_name}.json"


def promised(type_name: str) -> Schema | None:
    """What was promised about a type; None where nothing was yet."""
    path = snapshot_file(type_name)
    return _open(json.loads(path.read_text())) if path.exists() else None


def broken_promises(before: Schema, now: Schema) -> list[str]:
    """Where a schema keeps less than was promised, as sentences; none where only optional fields were added.

    >>> broken_promises({"properties": {"watts": {"type": "number"}}}, {"properties": {}})
    ['watts was promised and is gone']
    """
    return list(_compare(_Side(before, before), _Side(now, now), ""))


class _Side:
    """A part of a schema, and the whole in which its references are looked up."""

    def __init__(self, part: Any, whole: Schema) -> None:
        self.whole = whole
        self.part = part
        while isinstance(self.part, dict) and "$ref" in self.part:
            self.part = whole["$defs"][self.part["$ref"].removeprefix("#/$defs/")]

    def at(self, key: Any) -> "_Side":
        return _Side(self.part[key], self.whole)

    def keywords(self) -> set[str]:
        return set(self.part) - _PROSE - {"properties", "required"}

    def fields(self) -> set[str]:
        return set(self.part.get("properties", {}))

    def required(self) -> set[str]:
        return set(self.part.get("required", ()))


def _compare(before: _Side, now: _Side, where: str) -> Iterator[str]:
    if isinstance(before.part, dict) and isinstance(now.part, dict):
        yield from _compare_fields(before, now, where)
        for key in sorted(before.keywords() | now.keywords()):
            if key in before.part and key in now.part:
                yield from _compare(before.at(key), now.at(key), where)
            else:
                yield f"{where or 'the event'} {'no longer has' if key in before.part else 'now has'} {key}"
    elif isinstance(before.part, list) and isinstance(now.part, list) and len(before.part) == len(now.part):
        for index in range(len(before.part)):
            yield from _compare(before.at(index), now.at(index), where)
    elif before.part != now.part:
        yield f"{where or 'the event'} was {before.part!r} and is {now.part!r}"


def _compare_fields(before: _Side, now: _Side, where: str) -> Iterator[str]:
    def named(field: str) -> str:
        return f"{where}.{field}" if where else field

    for field in sorted(before.fields() - now.fields()):
        yield f"{named(field)} was promised and is gone"
    for field in sorted(now.required() - before.required()):
        yield f"{named(field)} is required now; events told before lack it"
    for field in sorted(before.required() - now.required() & now.fields()):
        yield f"{named(field)} was always there and may be absent now"
    for field in sorted(before.fields() & now.fields()):
        yield from _compare(before.at("properties").at(field), now.at("properties").at(field), named(field))
