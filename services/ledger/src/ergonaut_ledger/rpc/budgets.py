"""The door BudgetService: sets budgets and tells how they stand, for the caller's tenant."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from pydantic import ValidationError

from ergonaut.api.ledger.v1 import budgets_pb2 as pb
from ergonaut.api.ledger.v1.budgets_pb2_grpc import BudgetServiceServicer, add_BudgetServiceServicer_to_server
from ergonaut.budgets import BudgetSpec
from ergonaut.errors import Refused
from ergonaut.faults import field_errors
from ergonaut.ids import NAME_RULE, is_name
from ergonaut_common.rpc import caller
from ergonaut_ledger.rpc.translating import timestamp
from ergonaut_ledger.service.budgeting import Budgeting, Standing


def budget_door(budgeting: Budgeting) -> Callable[[aio.Server], None]:
    """What puts the budgets' service on a server."""

    def add(server: aio.Server) -> None:
        add_BudgetServiceServicer_to_server(BudgetDoor(budgeting), server)

    return add


class BudgetDoor(BudgetServiceServicer):
    """Translates calls to use cases and their answers to messages."""

    def __init__(self, budgeting: Budgeting) -> None:
        self._budgeting = budgeting

    async def SetBudget(self, request: pb.SetBudgetRequest, context: Any) -> pb.SetBudgetResponse:
        who = caller()
        standing = await self._budgeting.set(who.tenant, _spec(request.budget), who.principal)
        return pb.SetBudgetResponse(standing=_standing(standing))

    async def GetBudget(self, request: pb.GetBudgetRequest, context: Any) -> pb.GetBudgetResponse:
        standing = await self._budgeting.standing(caller().tenant, _id(request.budget_id))
        return pb.GetBudgetResponse(standing=_standing(standing))

    async def ListBudgets(self, request: pb.ListBudgetsRequest, context: Any) -> pb.ListBudgetsResponse:
        standings = await self._budgeting.standings(caller().tenant)
        return pb.ListBudgetsResponse(standings=[_standing(each) for each in standings])

    async def RemoveBudget(self, request: pb.RemoveBudgetRequest, context: Any) -> pb.RemoveBudgetResponse:
        who = caller()
        await self._budgeting.remove(who.tenant, _id(request.budget_id), who.principal)
        return pb.RemoveBudgetResponse()


def _id(budget_id: str) -> str:
    if not is_name(budget_id):
        raise Refused(f"{budget_id!r} is no budget's id; it must be {NAME_RULE}", field="budget_id")
    return budget_id


def _spec(budget: pb.Budget) -> BudgetSpec:
    """The budget as asked for; what is empty stands for its default. Raises Refused naming the field."""
    plain = {
        "scope_key": budget.scope_key,
        "window": budget.window,
        "action": budget.action,
        "warn_fraction": budget.warn_fraction,
        "starts_at": _moment(budget, "starts_at"),
        "ends_at": _moment(budget, "ends_at"),
    }
    given = {name: value for name, value in plain.items() if value}
    asked = {"budget_id": budget.budget_id, "scope": budget.scope, "metric": budget.metric, "limit": budget.limit}
    try:
        spec = BudgetSpec.model_validate(asked | given)
    except ValidationError as error:
        first = field_errors(error, BudgetSpec)[0]
        raise Refused(first.message, field=first.field) from error
    if spec.scope_key and not is_name(spec.scope_key):
        raise Refused(f"{spec.scope_key!r} names no run, job or project; it must be {NAME_RULE}", field="scope_key")
    return spec


def _moment(budget: pb.Budget, field: str) -> datetime | None:
    if not budget.HasField(field):  # type: ignore[arg-type]
        return None
    stamp: Timestamp = getattr(budget, field)
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Refused("is no time that a calendar knows", field=field) from error


def _standing(standing: Standing) -> pb.BudgetStanding:
    record, seen, window, expected = standing.record, standing.seen, standing.window, standing.ends_at_expected
    budget = record.budget
    return pb.BudgetStanding(
        budget=pb.Budget(
            budget_id=budget.budget_id,
            scope=budget.scope.value,
            scope_key=budget.scope_key,
            metric=budget.metric.value,
            limit=budget.limit,
            window=budget.window.value,
            starts_at=timestamp(budget.starts_at) if budget.starts_at else None,
            ends_at=timestamp(budget.ends_at) if budget.ends_at else None,
            action=budget.action.value,
            warn_fraction=budget.warn_fraction,
        ),
        used=seen.used,
        used_range=seen.used_range,
        used_per_second=seen.mean_per_second,
        state=standing.state.value,
        window_started_at=timestamp(window.started_at),
        window_ends_at=timestamp(window.ends_at) if window.ends_at else None,
        ends_at_expected=timestamp(expected) if expected else None,
        paused_job_ids=record.paused_jobs,
    )
