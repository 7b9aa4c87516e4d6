"""Who wants to know that samples were kept."""

from collections.abc import Sequence
from typing import Protocol

from ergonaut_ledger.domain.touched import Touched


class UseWatcher(Protocol):
    """Is told of every batch after it is safely kept, repeats included."""

    def kept(self, touched: Sequence[Touched]) -> None:
        """Take note and return at once: the batch is acknowledged only after this."""
        ...
