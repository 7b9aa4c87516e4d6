"""What a message is, and what the engine's columns can hold of one. Used by both ways of understanding."""

from dataclasses import dataclass
from datetime import UTC, datetime

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Times outside are a broken clock; a row that the engine's calendar cannot hold would hold up its whole batch."""

INTEGER_MAX = 2**63 - 1
"""The widest whole number that a column holds."""

TEXT_CHARACTERS_MAX = 4096
"""Longer texts in a sample or offer are a bug or an attack; bodies are bounded by the bus."""

EVENT_ID_CHARACTERS_MAX = 200
"""Ours have 32; the rest is room for those of other programs."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the bus delivered it."""

    stream: str
    sequence: int
    subject: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that can never be kept, and why."""

    because: str
