"""How batches of writes stand in a collection's log: as messages that each carry their own checksum and that of the one before.

A batch that is too large for one message is cut into parts that apply together. Parts of a batch follow each other directly;
a writer that dies between two of them leaves parts behind that never apply, for the next batch begins with a first part again.

One message, little-endian: magic, kind, part, parts, entries, dimension, length of the text, checksum of the message before;
then the text (JSON: ids, or ids with attributes), the vectors as float32, and the checksum (CRC-32) of all that.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ergonaut.errors import Broken
from ergonaut_vectors.domain.schema import Batch, Deletes, Upserts

MESSAGE_BYTES_MAX = 900_000
"""NATS takes 1 MiB with headers by default; the largest single point, about 34 kB, fits many times."""

_HEAD = struct.Struct("<4sBHHIIII")
_TAIL = struct.Struct("<I")
_MAGIC = b"EVL1"
_UPSERTS, _DELETES = 1, 2


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a log: its last message's position and checksum; both 0 for an empty log."""

    sequence: int = 0
    checksum: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """One message, read and found whole."""

    batch: Batch
    part: int
    parts: int
    checksum_before: int
    checksum: int


def messages_of(batch: Batch, checksum_before: int) -> list[bytes]:
    """The messages that write a batch behind the message with this checksum."""
    messages: list[bytes] = []
    pieces = list(_pieces(batch))
    for part, piece in enumerate(pieces, 1):
        messages.append(_encoded(piece, (part, len(pieces)), checksum_before))
        checksum_before = checksum_of(messages[-1])
    return messages


def checksum_of(message: bytes) -> int:
    """The checksum that a message carries at its end; Broken where it is too short to carry one."""
    if len(message) < _TAIL.size:
        raise Broken("the message is not one of a collection's log")
    return int(_TAIL.unpack_from(message, len(message) - _TAIL.size)[0])


def part_of(message: bytes) -> Part:
    """A message as it was written; Broken where it is not whole."""
    if len(message) < _HEAD.size + _TAIL.size or not message.startswith(_MAGIC):
        raise Broken("the message is not one of a collection's log")
    checksum = checksum_of(message)
    if zlib.crc32(message[: -_TAIL.size]) != checksum:
        raise Broken("the message's checksum does not fit its content")
    _, kind, part, parts, entries, dimension, text_bytes, before = _HEAD.unpack_from(message)
    text = json.loads(message[_HEAD.size : _HEAD.size + text_bytes])
    if kind == _DELETES:
        return Part(Deletes(tuple(text)), part, parts, before, checksum)
    numbers = np.frombuffer(message, "<f4", entries * dimension, _HEAD.size + text_bytes)
    vectors = numbers.reshape(entries, dimension).astype(np.float32)
    ids, attributes = zip(*text, strict=True)
    return Part(Upserts(ids, vectors, attributes), part, parts, before, checksum)


class Chain:
    """Reads a log from its beginning, message by message, and gives each batch when it is complete."""

    def __init__(self) -> None:
        self.head = Head()
        self._parts: list[Part] = []

    def take(self, sequence: int, message: bytes) -> Batch | None:
        """The batch that this message completes, if any. Broken where something is missing or damaged before or in it."""
        if sequence <= self.head.sequence:
            return None
        part = _part_at(sequence, message)
        if sequence != self.head.sequence + 1 or part.checksum_before != self.head.checksum:
            raise Broken(f"message {sequence} does not follow message {self.head.sequence}: the log has a hole")
        self.head = Head(sequence, part.checksum)
        if part.part == 1:
            self._parts = []
        if part.part != len(self._parts) + 1:
            raise Broken(f"message {sequence} is part {part.part} of a batch of which {len(self._parts)} came before")
        self._parts.append(part)
        if part.part < part.parts:
            return None
        complete, self._parts = _joined([each.batch for each in self._parts]), []
        return complete


def _part_at(sequence: int, message: bytes) -> Part:
    try:
        return part_of(message)
    except (Broken, ValueError) as error:
        raise Broken(f"message {sequence} is damaged: {error}") from error


def _joined(pieces: Sequence[Batch]) -> Batch:
    if len(pieces) == 1:
        return pieces[0]
    ids = tuple(name for piece in pieces for name in piece.ids)
    upserts = [piece for piece in pieces if isinstance(piece, Upserts)]
    if not upserts:
        return Deletes(ids)
    attributes = tuple(each for piece in upserts for each in piece.attributes)
    return Upserts(ids, np.concatenate([piece.vectors for piece in upserts]), attributes)


def _pieces(batch: Batch) -> Iterator[Batch]:
    """The batch in pieces that each fit into one message."""
    texts = [_text([entry]) for entry in _entries(batch)]
    vector_bytes = batch.vectors.shape[1] * 4 if isinstance(batch, Upserts) else 0
    room = MESSAGE_BYTES_MAX - _HEAD.size - _TAIL.size
    first, size = 0, 0
    for at, text in enumerate(texts):
        grown = size + len(text) + vector_bytes
        if grown > room:
            yield _slice(batch, first, at)
            first, grown = at, len(text) + vector_bytes
        size = grown
    yield _slice(batch, first, len(texts))


def _slice(batch: Batch, first: int, after: int) -> Batch:
    if isinstance(batch, Deletes):
        return Deletes(batch.ids[first:after])
    return Upserts(batch.ids[first:after], batch.vectors[first:after], batch.attributes[first:after])


def _entries(batch: Batch) -> list[object]:
    if isinstance(batch, Deletes):
        return list(batch.ids)
    return [(name, dict(each)) for name, each in zip(batch.ids, batch.attributes, strict=True)]


def _text(entries: Sequence[object]) -> bytes:
    return json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()


def _encoded(batch: Batch, place: tuple[int, int], checksum_before: int) -> bytes:
    text = _text(_entries(batch))
    kind, dimension, vectors = _DELETES, 0, b""
    if isinstance(batch, Upserts):
        kind, dimension, vectors = _UPSERTS, batch.vectors.shape[1], batch.vectors.astype("<f4").tobytes()
    head = _HEAD.pack(_MAGIC, kind, *place, len(batch.ids), dimension, len(text), checksum_before)
    content = head + text + vectors
    return content + _TAIL.pack(zlib.crc32(content))
