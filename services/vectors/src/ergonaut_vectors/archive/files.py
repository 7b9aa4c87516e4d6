"""Files of snapshots: their digests, and the one that says what belongs together, with a checksum of its own."""

import zlib
from hashlib import blake2b
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ergonaut.errors import Broken
from ergonaut_vectors.domain.snapshots import Snapshot

READ_BYTES = 1024 * 1024

_SNAPSHOTS = TypeAdapter(Snapshot)


def digest_of_file(path: Path) -> str:
    """What names a file by what is in it."""
    digest = blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def write_snapshot(snapshot: Snapshot, path: Path) -> None:
    """Write what belongs together: the checksum in hexadecimal, a line's end, and JSON."""
    content = _SNAPSHOTS.dump_json(snapshot)
    path.write_bytes(f"{zlib.crc32(content):08x}\n".encode() + content)


def read_snapshot(path: Path) -> Snapshot:
    """What was written. Raises Broken."""
    checksum, _, content = path.read_bytes().partition(b"\n")
    if checksum != f"{zlib.crc32(content):08x}".encode():
        raise Broken("the snapshot is damaged: its checksum does not fit its content")
    try:
        return _SNAPSHOTS.validate_json(content).checked()
    except ValidationError as error:
        raise Broken(f"the snapshot cannot be read: {error}") from error
