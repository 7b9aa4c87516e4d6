"""Arrays that grow while they are read: one writer appends, any thread takes what was complete."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_CAPACITY_FIRST = 16


class GrowingArray:
    """Entries that are appended by one writer; `taken` gives any thread those that were complete."""

    def __init__(self, dtype: "np.dtype[Any]") -> None:
        self._state: tuple[npt.NDArray[Any], int] = (np.empty(0, dtype), 0)
        self._dtype = dtype

    def extend(self, entries: Sequence[Any]) -> None:
        """Append entries."""
        filled, used = self._state
        after = used + len(entries)
        if after > len(filled):
            grown = np.empty(max(after, _CAPACITY_FIRST, 2 * len(filled)), self._dtype)
            grown[:used] = filled[:used]
            filled = grown
        filled[used:after] = entries
        self._state = (filled, after)  # in one step, for readers

    def taken(self, count: int | None = None) -> npt.NDArray[Any]:
        """The first entries, or all there are now."""
        filled, used = self._state
        return filled[: used if count is None else min(count, used)]
