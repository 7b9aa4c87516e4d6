"""Which slot an id falls into. A shard owns a run of slots, and a split hands half of them to another: no other id moves.

Used by whoever writes to or reads a collection of several shards, and by a shard that is split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Refused
from ergonaut_vectors.domain.segments import ids

SLOT_BITS = 10
SLOTS = 1 << SLOT_BITS
"""As many shards a collection can be cut into at most; it is fixed for ever, for it says where every id is."""

Slots = npt.NDArray[np.int64]


def slots_of(names: Sequence[str]) -> Slots:
    """The slot of each id; the same on every machine and in every version.

    >>> slots_of(["a", "b", "a"]).tolist()
    [11, 248, 11]
    """
    return slots_of_hashes(ids.asked(names).hashes)


def slots_of_hashes(hashes: npt.NDArray[np.uint64]) -> Slots:
    """The slot of each hash of an id: its highest bits, since a shard's table of ids is entered by the lowest."""
    return (hashes >> np.uint64(64 - SLOT_BITS)).astype(np.int64)


@dataclass(frozen=True, slots=True, order=True)
class SlotRange:
    """A run of slots."""

    first: int = 0
    after: int = SLOTS

    def __contains__(self, slot: int) -> bool:
        return self.first <= slot < self.after

    def __len__(self) -> int:
        return self.after - self.first

    @property
    def halves(self) -> "tuple[SlotRange, SlotRange]":
        """The lower and the upper half. Raises Refused where there is one slot only."""
        if len(self) < 2:
            raise Refused(f"a shard of one slot cannot be split; a collection has {SLOTS}", field="shard")
        middle = (self.first + self.after) // 2
        return SlotRange(self.first, middle), SlotRange(middle, self.after)

    def mask(self, slots: Slots) -> npt.NDArray[np.bool_]:
        """Which of these slots are in it."""
        return (slots >= self.first) & (slots < self.after)


def equal_ranges(shards: int) -> list[SlotRange]:
    """All slots in as many runs of about one length.

    >>> [(each.first, each.after) for each in equal_ranges(3)]
    [(0, 341), (341, 682), (682, 1024)]
    """
    bounds = [SLOTS * at // shards for at in range(shards + 1)]
    return [SlotRange(first, after) for first, after in pairwise(bounds)]
