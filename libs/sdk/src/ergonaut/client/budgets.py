"""Budgets: limits on what runs, jobs, projects and the tenant may use, and how they stand."""

from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from ergonaut.api.ledger.v1 import budgets_pb2 as pb
from ergonaut.api.ledger.v1.budgets_pb2_grpc import BudgetServiceStub
from ergonaut.budgets import BudgetSpec
from ergonaut.client.connection import Connection, doing

if TYPE_CHECKING:
    from datetime import datetime

    from ergonaut.api.ledger.v1.budgets_pb2_grpc import BudgetServiceAsyncStub


class Budgets:
    """Limits on use."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "BudgetServiceAsyncStub":
        return BudgetServiceStub(self._connection.channel("ledger"))

    async def set(self, budget: BudgetSpec) -> pb.BudgetStanding:
        """Set a budget, new or instead of the one of its id, and tell how it stands."""
        with doing(f"setting the budget {budget.budget_id}"):
            answer = await self._stub.SetBudget(pb.SetBudgetRequest(budget=_message(budget)))
            standing: pb.BudgetStanding = answer.standing
            return standing

    async def get(self, budget_id: str) -> pb.BudgetStanding:
        """How one budget stands."""
        with doing(f"asking for the budget {budget_id}"):
            answer = await self._stub.GetBudget(pb.GetBudgetRequest(budget_id=budget_id))
            standing: pb.BudgetStanding = answer.standing
            return standing

    async def all(self) -> list[pb.BudgetStanding]:
        """The tenant's budgets and how they stand, in order of their ids."""
        with doing("listing budgets"):
            answer = await self._stub.ListBudgets(pb.ListBudgetsRequest())
            return [*answer.standings]

    async def remove(self, budget_id: str) -> None:
        """Remove a budget; jobs that it paused go on."""
        with doing(f"removing the budget {budget_id}"):
            await self._stub.RemoveBudget(pb.RemoveBudgetRequest(budget_id=budget_id))


def _message(budget: BudgetSpec) -> pb.Budget:
    return pb.Budget(
        budget_id=budget.budget_id,
        scope=budget.scope.value,
        scope_key=budget.scope_key,
        metric=budget.metric.value,
        limit=budget.limit,
        window=budget.window.value,
        starts_at=_stamp(budget.starts_at),
        ends_at=_stamp(budget.ends_at),
        action=budget.action.value,
        warn_fraction=budget.warn_fraction,
    )


def _stamp(moment: "datetime | None") -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
