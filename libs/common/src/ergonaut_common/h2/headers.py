"""Lists of headers: unpacked by hpack, remembered where that is safe, checked as RFC 9113 wants, and packed for answers."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from ergonaut_common.h2.frames import Code, ConnectionBroken

BLOCKS_MAX = 64
"""Packed lists remembered by connection; a caller has a few methods and models, not more."""

BLOCK_BYTES_MAX = 512
"""Longer lists are not remembered: they carry what changes from call to call."""

HOP_HEADERS = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"))
"""Headers that HTTP/2 forbids."""

REQUEST_PSEUDO = frozenset((":method", ":scheme", ":path", ":authority"))

Fields = dict[str, str]
Head = TypeVar("Head")


class Malformed(Exception):
    """A list of headers that HTTP/2 forbids; its stream ends."""


class _Table(HeaderTable):
    """Counts what is added, since that changes what later lists mean."""

    def __init__(self) -> None:
        super().__init__()
        self.added = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.added += 1
        super().add(name, value)


class HeaderBlocks(Generic[Head]):
    """Reads the header blocks of one connection."""

    def __init__(self, made: Callable[[Fields], Head], *, header_bytes_max: int) -> None:
        self._made = made
        self._decoder = Decoder(header_bytes_max)
        self._table = _Table()
        self._decoder.header_table = self._table
        self._added = 0
        self.known: dict[bytes, Head] = {}
        """Blocks that were read since the dynamic table last changed and did not change it: each still means the same."""

    def read(self, block: bytes) -> Head:
        """What is made of a block's headers. Raises ConnectionBroken where it cannot be read, Malformed where it may not be."""
        pairs, changed = self._decoded(block)
        head = self._made(check_request(checked(pairs)))
        if not changed and len(block) <= BLOCK_BYTES_MAX:
            if len(self.known) >= BLOCKS_MAX:
                self.known.clear()
            self.known[block] = head
        return head

    def read_trailers(self, block: bytes) -> None:
        """Take note of what comes after a body; nothing in it matters to us. Raises as `read` does."""
        pairs, _ = self._decoded(block)
        if any(name.startswith(":") for name in checked(pairs)):
            raise Malformed("trailers have no pseudo-headers")

    def _decoded(self, block: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
        """The headers, and whether what other blocks mean may have changed."""
        # Only at the beginning may the table be told another size.
        resized = bool(block) and block[0] & 0xE0 == 0x20
        try:
            pairs = cast("list[tuple[bytes, bytes]]", self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, str(error)) from error
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionBroken(Code.COMPRESSION_ERROR, f"the header block cannot be read: {error}") from error
        changed = resized or self._table.added != self._added
        if changed:
            self._added = self._table.added
            self.known.clear()
        return pairs, changed


def checked(pairs: Sequence[tuple[bytes, bytes]]) -> Fields:
    """Headers by name; one that came more than once is joined by commas. Raises Malformed."""
    fields: Fields = {}
    regular = False
    for raw_name, raw_value in pairs:
        name, value = str(raw_name, "latin-1"), str(raw_value, "utf-8", "replace")
        if name.startswith(":"):
            if regular or name in fields or name not in REQUEST_PSEUDO:
                raise Malformed(f"{name} may not stand there")
        else:
            regular = True
            _check(name, value)
        if "\r" in value or "\n" in value or "\0" in value or value != value.strip(" \t"):
            raise Malformed(f"{name} has a value with a forbidden character")
        fields[name] = f"{fields[name]},{value}" if name in fields else value
    return fields


def check_request(fields: Fields) -> Fields:
    """The same headers, if they can begin a request. Raises Malformed."""
    if not fields.get(":method") or not fields.get(":scheme") or not fields.get(":path"):
        raise Malformed(":method, :scheme and :path must be there")
    return fields


def _check(name: str, value: str) -> None:
    if not name or not name.isascii() or name != name.lower() or not name.isprintable() or " " in name or ":" in name:
        raise Malformed("a header's name has a forbidden character")
    if name in HOP_HEADERS or (name == "te" and value.lower() != "trailers"):
        raise Malformed(f"{name} has no place in HTTP/2")


_STATUS_INDEX = {200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}


def packed(status: int | None, fields: Sequence[tuple[str, str]]) -> bytes:
    """A header block of literals that are not indexed, so that it means the same whenever it is sent."""
    block = b""
    if status is not None:
        index = _STATUS_INDEX.get(status)
        # 8 is the index of `:status` in the static table, here as the name of a literal.
        block = bytes((0x80 | index,)) if index else b"\x08" + _string(str(status))
    return block + b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)


def _string(text: str) -> bytes:
    encoded = text.encode()
    length = len(encoded)
    if length < 127:
        return bytes((length,)) + encoded
    prefix, length = bytearray(b"\x7f"), length - 127
    while length >= 128:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + encoded
