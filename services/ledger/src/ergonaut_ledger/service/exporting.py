"""Hands the measurements out as one Parquet file, written while it is read. Called by the gRPC door."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

from pyarrow import parquet

from ergonaut_ledger.domain.exporting import Export, check, schema_of, shaped
from ergonaut_ledger.ports.exports import ExportBooks

CHUNK_BYTES = 1024 * 1024
"""Of one message; a plain gRPC client takes 4 MiB."""


class Exporting:
    """Writes exports; of a file no more than a slice is ever in memory."""

    def __init__(self, books: ExportBooks) -> None:
        self._books = books

    async def file(self, export: Export) -> AsyncIterator[bytes]:
        """The file's bytes in pieces of at most 1 MiB. Raises Refused before the first where it cannot be made."""
        check(export)
        schema = schema_of(export)
        key = await self._books.key(export.tenant) if export.anonymous else b""
        sink = _Sink()
        writer = await asyncio.to_thread(parquet.ParquetWriter, sink, schema, compression="zstd")
        async for rows in self._books.slices(export):
            table = await asyncio.to_thread(shaped, rows, schema, export, key)
            await asyncio.to_thread(writer.write_table, table)
            for piece in sink.taken():
                yield piece
        await asyncio.to_thread(writer.close)
        for piece in sink.taken():
            yield piece


class _Sink(io.RawIOBase):
    """Where the writer writes; what was written is taken away in pieces, and only its length is remembered."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._length += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._length

    def taken(self) -> list[bytes]:
        """What was written since it was last taken."""
        whole, self._pieces = b"".join(self._pieces), []
        return [whole[start : start + CHUNK_BYTES] for start in range(0, len(whole), CHUNK_BYTES)]
