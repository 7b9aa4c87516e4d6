"""JSON objects of which a part is changed and all else passes as it was written: numbers of any size, spelling, order."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Document:
    """An object as it was read, and its parts as they were written."""

    read: dict[str, Any]
    parts: Mapping[str, orjson.Fragment]

    def changed(self, names: Collection[str]) -> dict[str, Any]:
        """The object to be written by orjson: these parts as they are in `read` by now, all others untouched."""
        return {**self.parts, **{name: self.read[name] for name in names if name in self.read}}


def document_of(text: bytes | memoryview) -> Document:
    """Read a JSON object. Raises ValueError where it is none."""
    read = orjson.loads(text)
    if not isinstance(read, dict):
        raise ValueError("is no JSON object")
    try:
        parts = _parts.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from error
    return Document(read, {name: orjson.Fragment(bytes(part)) for name, part in parts.items()})
