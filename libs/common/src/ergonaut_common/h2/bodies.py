"""Bodies: how many bytes of them are held at once, and how they are packed and unpacked within bounds."""

import zlib

from ergonaut.errors import Refused, Unavailable

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

ENCODINGS = tuple(_WINDOW)
"""How bodies and messages may be packed."""

RATIO_MAX = 250
"""How many times larger a body may become by unpacking. JSON of digits packs to a third, tensors of zeros to a thousandth."""

RATIO_FREE_BYTES = 1024 * 1024
"""Up to here any ratio is taken; so little does no harm."""

PACKED_FROM_BYTES = 1024
"""Smaller answers fit one packet either way."""

PACK_LEVEL = 1
"""The fastest; digits hardly pack better with more."""


class BodyRoom:
    """Counts the bytes of bodies that are held, and refuses more than there is room for."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self.held_bytes = 0

    def hold(self, size_bytes: int) -> None:
        """Count bytes as held. Raises Unavailable where that would be too many."""
        if self.held_bytes + size_bytes > self._size_bytes:
            raise Unavailable("too many large requests are at work; ask again")
        self.held_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Count them no longer."""
        self.held_bytes -= size_bytes
        assert self.held_bytes >= 0, "what is released was held"


def unpacked(packed: bytes, encoding: str, *, size_bytes_max: int) -> bytes:
    """A body without its encoding. Raises Refused where it is none, or becomes too large."""
    window = _WINDOW.get(encoding)
    if window is None:
        raise Refused(f"{encoding!r} is not known; send gzip, deflate or none", field="Content-Encoding")
    allowed_bytes = min(size_bytes_max, max(RATIO_FREE_BYTES, RATIO_MAX * len(packed)))
    unpacking = zlib.decompressobj(window)
    try:
        # One byte more than allowed, to tell a body that just fits from one that does not.
        whole = unpacking.decompress(packed, allowed_bytes + 1)
    except zlib.error as error:
        raise Refused(f"is not {encoding}: {error}", field="body") from error
    if len(whole) > size_bytes_max:
        raise Refused(f"is larger than {size_bytes_max} bytes when unpacked", field="body")
    if len(whole) > allowed_bytes:
        raise Refused(f"becomes more than {RATIO_MAX} times larger when unpacked; send it as it is", field="body")
    if not unpacking.eof:
        raise Refused(f"ends within its {encoding} data", field="body")
    if unpacking.unused_data:
        raise Refused(f"goes on after its {encoding} data", field="body")
    return whole


def packed(body: bytes, encoding: str) -> bytes:
    """A body in one of the encodings."""
    packing = zlib.compressobj(PACK_LEVEL, wbits=_WINDOW[encoding])
    return packing.compress(body) + packing.flush()
