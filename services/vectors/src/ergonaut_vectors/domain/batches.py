"""How writes stand in a shard's log: as messages that each carry a digest of themselves and that of the message before.

A write that is too large for one message is cut into parts that apply together. Parts of a batch follow each other directly;
a writer that dies between two of them leaves parts behind that never apply, for the next batch begins with a first part again.

One message, little-endian: the head below; lengths of the ids and the ids; lengths of the payloads and the payloads as JSON,
where there are any; zeros up to a multiple of `ALIGNMENT`; the vectors as their collection keeps them; and the digest
(BLAKE2b, 128 bits) of all that. So damage, a hole and another history are found out by whoever reads on, on whatever machine.
Messages of the first version are read by `batches_first.py`. A fence (`fences.py`) is a message of the same form, whose slots and
taker stand in the place of an id.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Broken
from ergonaut_vectors.domain import batches_first
from ergonaut_vectors.domain.fences import Fence
from ergonaut_vectors.domain.payload.documents import encoded, kept
from ergonaut_vectors.domain.payload.fields import Payload
from ergonaut_vectors.domain.placing.slots import SlotRange
from ergonaut_vectors.domain.segments.writes import Changes, Deletes, Upserts, Write

ENTRIES_MAX = 64
"""Vectors of one message. Fewer cost a disk's sync each, more make everybody behind them wait: with 16 to 64 a log takes most."""

MESSAGE_BYTES_MAX = 256 * 1024
"""The same in bytes, unless one entry alone has more: 64 vectors of 1,024 float32. NATS takes 1 MiB with headers by default,
and the largest entry has 82 kB."""

DIGEST_BYTES = 16
NO_DIGEST = bytes(DIGEST_BYTES)
"""Of the message before the first one; as the name of a batch, that it has none."""

ALIGNMENT = 16
"""Vectors are read where they lie, and this is where an array's entries may lie on every machine."""

_MAGIC = b"EVL2"
_HEAD = struct.Struct("<4sBBBxHHIIII16s16s")
"""Magic, kind, number of vectors, flags, part, parts, entries, width, bytes of ids, bytes of payloads, name, digest before."""

_UPSERTS, _DELETES, _CHANGES, _FENCE, _LAST_FENCE = 1, 2, 3, 4, 5
_MERGED, _WITH_PAYLOADS = 1, 2
_NUMBERS: dict[int, "np.dtype[Any]"] = {
    0: np.dtype("<f4"),
    1: np.dtype("<f2"),
    2: np.dtype("u1"),
    3: np.dtype("i1"),
}
_NUMBER_CODES = {dtype: code for code, dtype in _NUMBERS.items()}


@dataclass(frozen=True, slots=True)
class Batch:
    """A write, and what its writer called it; what has a name is written once however often it is sent."""

    write: Write | Fence
    name: bytes = NO_DIGEST


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a log: its last message's position and digest."""

    sequence: int = 0
    digest: bytes = NO_DIGEST


def lost_end(last: int, applied: int) -> Broken:
    """What is told of a log that ends before a message that was read once."""
    told = f"it ends at message {last}, but message {applied} was applied once: the log has lost its end"
    return Broken(f"{told}, and what was acknowledged with it; restore the collection to a snapshot or a moment before")


def check_not_behind(end: Head, applied: Head) -> None:
    """Raise Broken where a log ends before what was applied of it, or differently: it has lost something, or is another one."""
    if end.sequence < applied.sequence:
        raise lost_end(end.sequence, applied.sequence)
    if end.sequence == applied.sequence and end.digest != applied.digest:
        raise Broken(f"message {end.sequence} is not the one that was applied once: the log has another history")


@dataclass(frozen=True, slots=True)
class Part:
    """One message, read and found whole."""

    batch: Batch
    part: int
    parts: int
    digest_before: bytes
    digest: bytes


def name_of(text: str) -> bytes:
    """How a log has a batch's name; none for an empty text."""
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest() if text else NO_DIGEST


def messages_of(batch: Batch, digest_before: bytes) -> list[bytes]:
    """The messages that write a batch behind the message with this digest."""
    messages: list[bytes] = []
    pieces = [_fence(batch.write)] if isinstance(batch.write, Fence) else list(_pieces(batch.write))
    for part, piece in enumerate(pieces, 1):
        messages.append(_encoded(piece, batch.name, (part, len(pieces)), digest_before))
        digest_before = messages[-1][-DIGEST_BYTES:]
    return messages


def digest_of(message: bytes) -> bytes:
    """The digest that a message carries at its end; Broken where it is none of a log."""
    if message.startswith(batches_first.MAGIC):
        return _of_checksum(batches_first.checksum_of(message))
    if not message.startswith(_MAGIC) or len(message) < _HEAD.size + DIGEST_BYTES:
        raise Broken("the message is not one of a collection's log")
    return message[-DIGEST_BYTES:]


def part_of(message: bytes) -> Part:
    """A message as it was written; Broken where it is not whole."""
    if message.startswith(batches_first.MAGIC):
        first = batches_first.part_of(message)
        before, digest = _of_checksum(first.checksum_before), _of_checksum(first.checksum)
        return Part(Batch(first.write), first.part, first.parts, before, digest)
    digest = digest_of(message)
    content = memoryview(message)[:-DIGEST_BYTES]
    if blake2b(content, digest_size=DIGEST_BYTES).digest() != digest:
        raise Broken("the message's digest does not fit its content")
    _, kind, _, flags, part, parts, *_, name, before = _HEAD.unpack_from(message)
    return Part(Batch(_write(message, kind, flags), name), part, parts, before, digest)


class Chain:
    """Reads a log from a head on, message by message, and gives each batch when it is complete."""

    def __init__(self, head: Head | None = None) -> None:
        self.head = head or Head()
        self._parts: list[Part] = []

    def take(self, sequence: int, message: bytes) -> Batch | None:
        """The batch that this message completes, if any. Broken where something is missing or damaged before or in it."""
        if sequence <= self.head.sequence:
            return None
        part = _part_at(sequence, message)
        if sequence != self.head.sequence + 1:
            raise Broken(f"message {sequence} does not follow message {self.head.sequence}: the log has a hole")
        if part.digest_before != self.head.digest:
            told = f"message {sequence} does not follow message {self.head.sequence} as it was read: the log has a hole"
            raise Broken(f"{told}, or another history")
        self.head = Head(sequence, part.digest)
        if part.part == 1:
            self._parts = []
        if part.part != len(self._parts) + 1:
            raise Broken(f"message {sequence} is part {part.part} of a batch of which {len(self._parts)} came before")
        self._parts.append(part)
        if part.part < part.parts:
            return None
        complete, self._parts = _joined([each.batch for each in self._parts]), []
        return complete


def _of_checksum(checksum: int) -> bytes:
    """The checksum of a message of the first version in a digest's place, so that one chain goes on with the other."""
    return checksum.to_bytes(DIGEST_BYTES, "little")


def _part_at(sequence: int, message: bytes) -> Part:
    try:
        return part_of(message)
    except (Broken, ValueError) as error:
        raise Broken(f"message {sequence} is damaged: {error}") from error


def _joined(pieces: Sequence[Batch]) -> Batch:
    first = pieces[0]
    if len(pieces) == 1:
        return first
    writes = [piece.write for piece in pieces if not isinstance(piece.write, Fence)]
    ids = [name for write in writes for name in write.ids]
    payloads = [payload for write in writes for payload in _payloads(write)]
    upserts = [write.rows for write in writes if isinstance(write, Upserts)]
    if len(upserts) == len(writes):
        return replace(first, write=Upserts(ids, np.concatenate(upserts), payloads if any(payloads) else ()))
    if isinstance(first.write, Changes):
        return replace(first, write=Changes(ids, payloads, first.write.merged))
    return replace(first, write=Deletes(ids))


def _payloads(write: Write) -> Sequence[Any]:
    """One for each id."""
    if isinstance(write, Deletes):
        return ()
    return write.payloads or ({},) * len(write.ids)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What goes into one message."""

    write: Write | Fence
    ids: Sequence[bytes]
    payloads: Sequence[bytes]
    """None at all where no entry has one."""
    rows: bytes
    width: int
    number: int


def _pieces(write: Write) -> Iterator[_Piece]:
    """The write in pieces that each fit into one message."""
    ids = [name.encode() for name in write.ids]
    payloads = [encoded(payload) for payload in _payloads(write)]
    rows = np.ascontiguousarray(write.rows) if isinstance(write, Upserts) else np.empty((len(ids), 0), np.uint8)
    row_bytes = rows.shape[1] * rows.itemsize
    number = _NUMBER_CODES[rows.dtype.newbyteorder("<")]
    first, size = 0, 0
    for at, name in enumerate(ids):
        grown = len(name) + (len(payloads[at]) if payloads else 0) + row_bytes
        if at > first and (at - first == ENTRIES_MAX or size + grown > MESSAGE_BYTES_MAX):
            yield _piece(write, ids[first:at], payloads[first:at], rows[first:at], number)
            first, size = at, 0
        size += grown
    yield _piece(write, ids[first:], payloads[first:], rows[first:], number)


def _fence(fence: Fence) -> _Piece:
    """The slots and who takes them stand in an id's place."""
    told = f"{fence.slots.first}:{fence.slots.after}:{fence.taken_by}".encode()
    return _Piece(fence, [told], (), b"", 0, _NUMBER_CODES[np.dtype("u1")])


def _piece(write: Write, ids: Sequence[bytes], payloads: Sequence[bytes], rows: Any, number: int) -> _Piece:
    content = rows.astype(_NUMBERS[number], copy=False).tobytes()
    return _Piece(write, ids, payloads if any(payloads) else (), content, rows.shape[1], number)


def _encoded(piece: _Piece, name: bytes, place: tuple[int, int], digest_before: bytes) -> bytes:
    kind = {Upserts: _UPSERTS, Deletes: _DELETES, Changes: _CHANGES, Fence: _FENCE}[type(piece.write)]
    if isinstance(piece.write, Fence) and piece.write.is_last:
        kind = _LAST_FENCE
    flags = _WITH_PAYLOADS if piece.payloads else 0
    if isinstance(piece.write, Changes) and piece.write.merged:
        flags |= _MERGED
    ids, payloads = b"".join(piece.ids), b"".join(piece.payloads)
    sizes = (len(piece.ids), piece.width, len(ids), len(payloads))
    told = [
        _HEAD.pack(_MAGIC, kind, piece.number, flags, *place, *sizes, name, digest_before),
        np.array([len(each) for each in piece.ids], "<u2").tobytes(),
        ids,
        np.array([len(each) for each in piece.payloads], "<u4").tobytes(),
        payloads,
    ]
    filled = b"".join(told)
    content = b"".join((filled, bytes(-len(filled) % ALIGNMENT), piece.rows))
    return content + blake2b(content, digest_size=DIGEST_BYTES).digest()


def _write(message: bytes, kind: int, flags: int) -> Write | Fence:
    """What a message says whose digest fits."""
    _, _, number, _, _, _, entries, width, id_bytes, payload_bytes, _, _ = _HEAD.unpack_from(message)
    at = _HEAD.size
    lengths = np.frombuffer(message, "<u2", entries, at)
    ids = [each.decode() for each in _cut(message, at + lengths.nbytes, lengths)]
    at += lengths.nbytes + id_bytes
    payloads: list[Payload] = []
    if flags & _WITH_PAYLOADS:
        lengths = np.frombuffer(message, "<u4", entries, at)
        payloads = [kept(each) for each in _cut(message, at + lengths.nbytes, lengths)]
        at += lengths.nbytes + payload_bytes
    at += -at % ALIGNMENT
    if number not in _NUMBERS or kind not in (_UPSERTS, _DELETES, _CHANGES, _FENCE, _LAST_FENCE):
        raise Broken("the message is of a kind that this version does not know")
    dtype = _NUMBERS[number]
    if at + entries * width * dtype.itemsize != len(message) - DIGEST_BYTES:
        raise Broken("the message's sizes do not fit its length")
    if kind == _DELETES:
        return Deletes(ids)
    if kind in (_FENCE, _LAST_FENCE):
        first, after, taken_by = map(int, ids[0].split(":"))
        return Fence(SlotRange(first, after), taken_by, kind == _LAST_FENCE)
    if kind == _CHANGES:
        return Changes(ids, payloads or [{}] * entries, bool(flags & _MERGED))
    rows = np.frombuffer(message, dtype, entries * width, at).reshape(entries, width)
    return Upserts(ids, rows.astype(dtype.newbyteorder("="), copy=False), payloads)


def _cut(message: bytes, first: int, lengths: npt.NDArray[Any]) -> Iterator[bytes]:
    for length in lengths.tolist():
        yield message[first : first + length]
        first += length
