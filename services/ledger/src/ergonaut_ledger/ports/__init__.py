"""What the ledger needs of the world, one file a port."""

from ergonaut_ledger.ports.announcing import Announcer
from ergonaut_ledger.ports.budgets import BudgetBook, BudgetGauges, BudgetSums, StoredBudget
from ergonaut_ledger.ports.store import KeptEvent, Store
from ergonaut_ledger.ports.watching import UseWatcher

__all__ = ["Announcer", "BudgetBook", "BudgetGauges", "BudgetSums", "KeptEvent", "Store", "StoredBudget", "UseWatcher"]
