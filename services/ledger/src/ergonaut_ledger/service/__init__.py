"""The ledger's use cases, one file each: keep what is told, tell what was used. Called by the doors."""

from ergonaut_ledger.service.keeping import Keeping
from ergonaut_ledger.service.reporting import Estimates, Reporting
from ergonaut_ledger.service.rolling import Rolling
from ergonaut_ledger.service.using import Using

__all__ = ["Estimates", "Keeping", "Reporting", "Rolling", "Using"]
