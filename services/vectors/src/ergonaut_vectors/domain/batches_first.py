"""Reads messages of the first version of the log, which hold float32 and attributes; nothing writes them any more.

One message, little-endian: magic, kind, part, parts, entries, dimension, length of the text, checksum of the message before;
then the text (JSON: ids, or ids with attributes), the vectors as float32, and the checksum (CRC-32) of all that. Called by
`batches.py`.
"""

import json
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from ergonaut.errors import Broken
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts

MAGIC = b"EVL1"

_HEAD = struct.Struct("<4sBHHIIII")
_TAIL = struct.Struct("<I")
_DELETES = 2


@dataclass(frozen=True, slots=True)
class Part:
    """One message, read and found whole."""

    write: Upserts | Deletes
    part: int
    parts: int
    checksum_before: int
    checksum: int


def checksum_of(message: bytes) -> int:
    """The checksum that a message carries at its end; Broken where it is too short to carry one."""
    if len(message) < _HEAD.size + _TAIL.size:
        raise Broken("the message is not one of a collection's log")
    return int(_TAIL.unpack_from(message, len(message) - _TAIL.size)[0])


def part_of(message: bytes) -> Part:
    """A message as it was written; Broken where it is not whole."""
    checksum = checksum_of(message)
    if zlib.crc32(message[: -_TAIL.size]) != checksum:
        raise Broken("the message's checksum does not fit its content")
    _, kind, part, parts, entries, dimension, text_bytes, before = _HEAD.unpack_from(message)
    text = json.loads(message[_HEAD.size : _HEAD.size + text_bytes])
    if kind == _DELETES:
        return Part(Deletes(tuple(text)), part, parts, before, checksum)
    numbers = np.frombuffer(message, "<f4", entries * dimension, _HEAD.size + text_bytes)
    ids, attributes = zip(*text, strict=True)
    rows = numbers.reshape(entries, dimension).astype(np.float32)
    return Part(Upserts(ids, rows, attributes), part, parts, before, checksum)
