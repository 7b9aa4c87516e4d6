"""Remembers the names of batches that were applied lately, so that one which is sent again, however late, changes nothing.

Whether a batch is a repeat depends on positions of the log alone: two replicas, of which one was started anew, agree.
"""

import struct
from collections.abc import Mapping

from ergonaut_vectors.domain.batches import DIGEST_BYTES, NO_DIGEST

REMEMBERED_MESSAGES = 65_536
"""A name is known for so many messages. At the rate that a log takes at most it is two minutes, which is how long NATS knows
ids; at any usual rate it is days. More would cost memory: 100 bytes a name."""

_ENTRY = struct.Struct(f"<{DIGEST_BYTES}sQ")


class Repeats:
    """Names and where their batches stand. For the writer of a shard."""

    def __init__(self, known: Mapping[bytes, int] | None = None) -> None:
        self._known = dict(known or {})

    def first_of(self, name: bytes, position: int) -> int | None:
        """Where a batch of this name stands, of those that the one at `position` would repeat."""
        if name == NO_DIGEST:
            return None
        first = self._known.get(name)
        return first if first is not None and first >= position - REMEMBERED_MESSAGES else None

    def add(self, name: bytes, position: int) -> None:
        """A batch of this name was applied."""
        if name != NO_DIGEST:
            self._known.pop(name, None)  # so that the order is that of positions
            self._known[name] = position

    def forget(self, durable: int) -> None:
        """Let go of what not even a replay from this position would ask for."""
        gone = []
        for name, position in self._known.items():
            if position >= durable - REMEMBERED_MESSAGES:
                break
            gone.append(name)
        for name in gone:
            del self._known[name]

    def written(self, position: int) -> bytes:
        """What has to be written down beside the state at this position."""
        return b"".join(_ENTRY.pack(name, at) for name, at in self._known.items() if at <= position)

    @classmethod
    def read(cls, content: bytes) -> "Repeats":
        """What was written, of any number of whole entries."""
        return cls(dict(_ENTRY.iter_unpack(content)))
