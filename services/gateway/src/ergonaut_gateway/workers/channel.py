"""The line between the parent and a worker: short messages with a kind, over a pair of connected sockets."""

import asyncio
from enum import IntEnum
from struct import Struct

_head = Struct(">BI")

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""Metrics of some thousand models have some megabytes; more is a fault."""


class Kind(IntEnum):
    """What is said."""

    READY = 1
    """A worker takes callers."""
    COUNT = 2
    """Tell your metrics."""
    METRICS = 3
    """Here they are."""
    LEAVE = 4
    """Another takes your place: part from your callers, and end."""


class Channel:
    """One end. Whoever is at the other end is gone where `next` gives nothing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, kind: Kind, content: bytes = b"") -> None:
        """Say something; where nobody listens any more it is dropped."""
        if not self._writer.is_closing():
            self._writer.write(_head.pack(kind, len(content)) + content)

    async def next(self) -> tuple[Kind, bytes] | None:
        """What the other end says next; nothing once it is gone."""
        try:
            kind, size = _head.unpack(await self._reader.readexactly(_head.size))
            assert size <= MESSAGE_BYTES_MAX, "both ends are ours"
            return Kind(kind), await self._reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError):
            return None

    def close(self) -> None:
        """Say no more."""
        self._writer.close()
