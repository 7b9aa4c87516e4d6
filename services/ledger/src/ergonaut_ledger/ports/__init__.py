"""What the ledger needs of the world, one file a port."""

from ergonaut_ledger.ports.store import KeptEvent, Store

__all__ = ["KeptEvent", "Store"]
