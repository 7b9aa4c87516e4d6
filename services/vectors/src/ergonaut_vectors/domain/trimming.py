"""Decides when a shard's state is brought to the shelf, and how far its log may be forgotten then. Used by `archive/trimming.py`.

A log is bounded. Whenever it has grown by some, the state that was saved last goes to the shelf; when it is half full, what
came before one of the states there is forgotten. So any moment since that state can be come back to, and whoever lost his own
state begins at one on the shelf.
"""

from collections.abc import Sequence
from dataclasses import dataclass

KEPT_PART = 8
"""A state is kept whenever the log has grown by this part of its bound: more often costs the shelf, less often leaves a choice of
two or three moments to trim at."""

TRIMMED_PART = 2
"""From this part of the bound on a log is trimmed; the rest is for what is written while a state is on its way to the shelf."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a log and the states of its shard stand."""

    first: int
    """Position of the log's first message."""
    last: int
    size_bytes: int
    saved: int
    """Position of the state that was saved last, on this machine."""
    kept: Sequence[int] = ()
    """Positions of the states on the shelf that the log still reaches, ascending."""

    def bytes_after(self, position: int) -> int:
        """About how many bytes of the log stand behind a position."""
        behind = self.last - max(position, self.first - 1)
        return self.size_bytes * max(behind, 0) // max(self.last - self.first + 1, 1)


@dataclass(frozen=True, slots=True)
class Keep:
    """Bring the state that was saved last to the shelf."""

    save_first: bool
    """Whether it is so old that another one is to be saved before."""


@dataclass(frozen=True, slots=True)
class Trim:
    """Forget what came before a state that is on the shelf."""

    position: int


def next_step(now: Standing, bytes_max: int) -> Keep | Trim | None:
    """What is due.

    >>> next_step(Standing(1, 100, 1000, saved=90, kept=[20, 60]), 1600)
    Trim(position=20)
    >>> next_step(Standing(20, 100, 800, saved=90, kept=[20, 60]), 1600)
    Keep(save_first=False)
    >>> next_step(Standing(20, 100, 700, saved=90, kept=[20, 90]), 1600)
    """
    if now.kept and now.size_bytes * TRIMMED_PART >= bytes_max:
        small = [position for position in now.kept if now.bytes_after(position) * TRIMMED_PART <= bytes_max]
        position = small[0] if small else now.kept[-1]
        if position > now.first:
            return Trim(position)
    since = now.bytes_after(now.kept[-1] if now.kept else 0)
    if since * KEPT_PART < bytes_max:
        return None
    return Keep(save_first=2 * now.bytes_after(now.saved) > since)


def is_small(first: int, size_bytes: int, bytes_max: int) -> bool:
    """Whether a log is so small that nothing of its shard was ever brought to the shelf, also where its bound was less before."""
    return first <= 1 and size_bytes * 4 * KEPT_PART < bytes_max
