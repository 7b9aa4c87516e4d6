"""How named arrays stand in a file, so that it can be mapped and searched as it lies, and any damage to it is noticed.

    header      64 bytes: magic, version, bytes of a block
    arrays      each at a multiple of 64, filled up with zeros
    directory   JSON: what the file is about; name, type, shape and offset of each array
    checksums   CRC-32 of each block of everything before, of `BLOCK_BYTES` each, the last one shorter
    footer      64 bytes: magic, where the directory and the checksums stand, CRC-32 of the checksums and of the footer itself

A file that was cut off has no footer at its end; a flipped bit is in a block whose checksum it breaks. Little-endian.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Broken

BLOCK_BYTES = 256 * 1024
"""Small enough to say where a file is damaged, large enough that checksums take a ten-thousandth of it."""

ALIGNMENT = 64
"""A cache line; no kernel needs more."""

_MAGIC = b"ErgoSeg1"
_VERSION = 1
_HEADER = struct.Struct("<8sII48x")
_FOOTER = struct.Struct("<8sQQQQIII12x")
_WORD = 4

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds; the arrays lie where the file lies."""

    about: Mapping[str, Any]
    arrays: Arrays


def pieces(about: Mapping[str, Any], arrays: Arrays) -> Iterator[bytes | memoryview]:
    """The bytes of a file, in order; none are copied that do not have to be."""
    checksums = _Checksums()
    for piece in _content(about, arrays):
        checksums.add(piece)
        yield piece
    table = checksums.finished()
    directory = len(_directory(about, arrays))
    yield table
    start = checksums.total - directory
    parts = (_MAGIC, start, directory, checksums.total, len(table) // _WORD, BLOCK_BYTES, zlib.crc32(table))
    footer = _FOOTER.pack(*parts, 0)
    yield _FOOTER.pack(*parts, zlib.crc32(footer))


def opened(file: memoryview, name: str, *, verified: bool = True) -> Contents:
    """What the file holds. Broken, naming file and block, where it was cut off or damaged.

    Without `verified` only what is needed to find the arrays is read, and `verify` is to be called before they are trusted.
    """
    footer = _footer(file, name)
    if verified:
        verify(file, name)
    else:
        verify(file, name, first=0, after=_HEADER.size)
        verify(file, name, first=footer.directory, after=footer.content)
    magic, version, _ = _HEADER.unpack_from(file)
    if magic != _MAGIC or version != _VERSION:
        raise Broken(f"{name} is of version {version} of its format, which this version does not read")
    directory = json.loads(bytes(file[footer.directory : footer.content]))
    arrays = {each["name"]: _array(file, each) for each in directory["arrays"]}
    return Contents(directory["about"], arrays)


def verify(file: memoryview, name: str, *, first: int = 0, after: int | None = None) -> None:
    """Check the blocks that hold the bytes from `first` up to `after`, all by default; Broken at the first damaged one."""
    footer = _footer(file, name)
    end = footer.content if after is None else after
    blocks = range(first // footer.block, -(-end // footer.block))
    table = np.frombuffer(file, "<u4", footer.blocks, footer.content)
    for block in blocks:
        content = file[block * footer.block : min((block + 1) * footer.block, footer.content)]
        if zlib.crc32(content) != table[block]:
            raise Broken(f"{name} is damaged in block {block} of {footer.blocks} ({footer.block} bytes each)")


@dataclass(frozen=True, slots=True)
class _Footer:
    directory: int
    content: int
    """Bytes that have checksums: all before the checksums."""
    blocks: int
    block: int


def _footer(file: memoryview, name: str) -> _Footer:
    if len(file) < _HEADER.size + _FOOTER.size:
        raise Broken(f"{name} has {len(file)} bytes and was cut off")
    end = len(file) - _FOOTER.size
    magic, start, size, content, blocks, block, table, own = _FOOTER.unpack_from(file, end)
    whole = magic == _MAGIC and start + size == content and content + _WORD * blocks == end
    if not whole or own != zlib.crc32(_FOOTER.pack(magic, start, size, content, blocks, block, table, 0)):
        raise Broken(f"{name} was cut off, or its end is damaged")
    if any(file[end + _FOOTER.size - 12 :]) or zlib.crc32(file[content:end]) != table:
        raise Broken(f"{name} is damaged in its checksums")
    return _Footer(start, content, blocks, block)


class _Checksums:
    """CRC-32 of every block of what is added, however it is cut."""

    def __init__(self) -> None:
        self.total = 0
        self._table: list[int] = []
        self._crc = 0

    def add(self, piece: bytes | memoryview) -> None:
        """Go on with these bytes."""
        view = memoryview(piece).cast("B") if len(piece) else memoryview(b"")
        while len(view):
            room = BLOCK_BYTES - self.total % BLOCK_BYTES
            self._crc = zlib.crc32(view[:room], self._crc)
            self.total += min(room, len(view))
            view = view[room:]
            if self.total % BLOCK_BYTES == 0:
                self._end_block()

    def finished(self) -> bytes:
        """The checksums of all blocks."""
        if self.total % BLOCK_BYTES:
            self._end_block()
        return np.array(self._table, "<u4").tobytes()

    def _end_block(self) -> None:
        self._table.append(self._crc)
        self._crc = 0


def _content(about: Mapping[str, Any], arrays: Arrays) -> Iterator[bytes | memoryview]:
    yield _HEADER.pack(_MAGIC, _VERSION, BLOCK_BYTES)
    for array in arrays.values():
        if array.nbytes:
            yield memoryview(np.ascontiguousarray(array)).cast("B")  # type: ignore[arg-type]
            yield bytes(-array.nbytes % ALIGNMENT)
    yield _directory(about, arrays)


def _directory(about: Mapping[str, Any], arrays: Arrays) -> bytes:
    told, offset = [], _HEADER.size
    for name, array in arrays.items():
        told.append({"name": name, "type": array.dtype.str, "shape": list(array.shape), "offset": offset})
        offset += array.nbytes + -array.nbytes % ALIGNMENT
    return json.dumps({"about": about, "arrays": told}, ensure_ascii=False, separators=(",", ":")).encode()


def _array(file: memoryview, told: Mapping[str, Any]) -> npt.NDArray[Any]:
    dtype, shape = np.dtype(told["type"]), tuple(told["shape"])
    count = int(np.prod(shape, dtype=np.int64))
    if not count:
        return np.empty(shape, dtype)
    return np.frombuffer(file, dtype, count, told["offset"]).reshape(shape)
