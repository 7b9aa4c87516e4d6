"""How much memory an ONNX file says that its constants take, read field by field without loading any of them.

A few bytes may declare a tensor of terabytes, which whoever loads the file would try to make room for.
"""

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ergonaut.errors import Refused

DEPTH_MAX = 64
"""Of graphs within graphs; a file that goes deeper is not read by onnxruntime either."""

Span = tuple[int, int]
"""From where to where something stands in the file."""

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
"""How protobuf writes a field's value."""

_INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""By kind of message and number of field, what kind of message stands there."""

_DIMENSIONS = {"tensor": 1, "sparse": 3}
_KIND, _NAME, _EXTERNAL, _LOCATION = 2, 8, 13, 14
"""Fields of a tensor."""

_ELEMENT_BYTES = {1: 4, 4: 2, 5: 2, 6: 4, 7: 8, 8: 16, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2}
"""By ONNX's number of a type, where an element has more than a byte. Of texts it is what an empty one takes."""


@dataclass(slots=True)
class Declared:
    """What a file declares."""

    tensor_bytes: int = 0
    """Of all its constants together."""
    largest: str = ""
    """Its largest constant, in words."""
    largest_bytes: int = 0
    external: str = ""
    """A constant that lies in another file."""

    def add(self, name: str, dimensions: list[int], element_bytes: int) -> None:
        """Take a constant into account."""
        size_bytes = math.prod(dimensions) * element_bytes
        self.tensor_bytes += size_bytes
        if size_bytes >= self.largest_bytes:
            self.largest, self.largest_bytes = f"{name or 'a constant'} {dimensions}", size_bytes


def declared(path: Path) -> Declared:
    """What a file declares. Raises Refused where it is none that protobuf can read."""
    told = Declared()
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise Refused("the file is empty", field="chunk") from error
        with content:
            try:
                _read(content, "model", (0, len(content)), told, depth=0)
            except (ValueError, IndexError) as error:
                raise Refused("is not an ONNX model: it ends before it should, or is none", field="chunk") from error
    return told


def _read(content: mmap.mmap, kind: str, span: Span, told: Declared, *, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise ValueError("too deep")
    if kind in _DIMENSIONS:
        _read_tensor(content, kind, span, told)
    inside = _INSIDE.get(kind, {})
    for number, value in _fields(content, span):
        if number in inside and isinstance(value, tuple):
            _read(content, inside[number], value, told, depth=depth + 1)


def _read_tensor(content: mmap.mmap, kind: str, span: Span, told: Declared) -> None:
    """A tensor, or one that is written by what is not nought in it and made whole when it is loaded."""
    dimensions: list[int] = []
    name, element_bytes = "", 1
    for number, value in _fields(content, span):
        if number == _DIMENSIONS[kind]:
            dimensions += [value] if isinstance(value, int) else _varints(content, value)
        elif kind == "tensor" and number == _KIND and isinstance(value, int):
            element_bytes = _ELEMENT_BYTES.get(value, 1)
        elif kind == "tensor" and number == _NAME and isinstance(value, tuple):
            name = content[value[0] : value[1]][:100].decode(errors="replace")
        elif kind == "tensor" and (number == _EXTERNAL or (number == _LOCATION and value == 1)):
            told.external = name or told.external or "a constant"
    told.add(name, dimensions, element_bytes if kind == "tensor" else _ELEMENT_BYTES[11])


def _fields(content: mmap.mmap, span: Span) -> Iterator[tuple[int, int | Span]]:
    """The fields of a message: numbers as they are, all else by where it stands. Raises ValueError or IndexError."""
    at, end = span
    while at < end:
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(content, at)
            yield number, value
        elif wire == _BYTES:
            length, at = _varint(content, at)
            if at + length > end:
                raise ValueError("longer than what holds it")
            yield number, (at, at + length)
            at += length
        elif wire in (_FIXED_64, _FIXED_32):
            at += 8 if wire == _FIXED_64 else 4
        else:
            raise ValueError(f"no such kind of field: {wire}")


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number of more than 64 bits")


def _varints(content: mmap.mmap, span: Span) -> list[int]:
    numbers, at = [], span[0]
    while at < span[1]:
        number, at = _varint(content, at)
        numbers.append(number)
    return numbers
