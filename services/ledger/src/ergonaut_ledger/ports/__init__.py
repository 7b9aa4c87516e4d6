"""What the ledger needs of the world, one file a port."""

from ergonaut_ledger.ports.store import KeptEvent, Store
from ergonaut_ledger.ports.watching import UseWatcher

__all__ = ["KeptEvent", "Store", "UseWatcher"]
