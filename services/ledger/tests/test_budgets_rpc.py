"""The door BudgetService, in process, on a free port, over fakes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from ergonaut.api.ledger.v1 import budgets_pb2 as pb
from ergonaut.api.ledger.v1.budgets_pb2_grpc import BudgetServiceStub
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import FakeClock
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_ledger.fakes.budgets import FakeAnnouncer, FakeBudgetBook, FakeBudgetGauges, FakeBudgetSums
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.rpc import SERVICE_NAMES, budget_door
from ergonaut_ledger.service.budgeting import Budgeting, BudgetWorld

from .told import T0, batch_of, cpu_sample, reading

NOW = T0 + timedelta(minutes=30)


class Visitor:
    """Somebody with a key at the door."""

    def __init__(self, stub: Any, key: str) -> None:
        self._stub = stub
        self._metadata = (("authorization", f"Bearer {key}"),)

    async def ask(self, method: str, request: Any) -> Any:
        return await getattr(self._stub, method)(request, metadata=self._metadata, timeout=30)

    async def refused(self, method: str, request: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(aio.AioRpcError) as caught:
            await self.ask(method, request)
        return caught.value.code(), caught.value.details() or ""


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
async def visitors(store: FakeStore, tmp_path: Path) -> AsyncIterator[dict[str, Visitor]]:
    path, keys = key_ring_file(tmp_path, ("alpha", "beta"))
    world = BudgetWorld(
        FakeBudgetBook(), FakeBudgetSums(store), store, FakeAnnouncer(), FakeBudgetGauges(), FakeClock(NOW)
    )
    add = budget_door(Budgeting(world))
    async with (
        serving("127.0.0.1:0", service="ledger", add=add, keys=KeyRing.load(path), names=SERVICE_NAMES) as server,
        aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield {tenant: Visitor(BudgetServiceStub(channel), keys[tenant]) for tenant in ("alpha", "beta")}


def request(**changes: Any) -> pb.SetBudgetRequest:
    values: dict[str, Any] = {"budget_id": "gpu-march", "scope": "tenant", "metric": "energy_joules", "limit": 100.0}
    return pb.SetBudgetRequest(budget=pb.Budget(**(values | changes)))


async def test_a_budget_is_set_told_listed_and_removed(visitors: dict[str, Visitor], store: FakeStore) -> None:
    samples = [reading("alpha", n, cpu_sample(n - 1 + 1750, 1.0)) for n in range(1, 51)]
    await store.keep(batch_of(*samples))
    set_to = (await visitors["alpha"].ask("SetBudget", request(window="month", action="pause"))).standing
    assert (set_to.budget.window, set_to.budget.action, set_to.budget.warn_fraction) == ("month", "pause", 0.8)
    assert (set_to.used, set_to.used_range, set_to.state) == (50.0, pytest.approx(15.0), "within")
    assert set_to.used_per_second == pytest.approx(1.0)
    assert set_to.ends_at_expected.ToDatetime(tzinfo=UTC) == NOW + timedelta(seconds=50)
    assert set_to.window_started_at.ToDatetime(tzinfo=UTC) == datetime(2026, 3, 1, tzinfo=UTC)
    assert set_to.window_ends_at.ToDatetime(tzinfo=UTC) == datetime(2026, 4, 1, tzinfo=UTC)
    assert (await visitors["alpha"].ask("GetBudget", pb.GetBudgetRequest(budget_id="gpu-march"))).standing == set_to
    assert [*(await visitors["alpha"].ask("ListBudgets", pb.ListBudgetsRequest())).standings] == [set_to]
    await visitors["alpha"].ask("RemoveBudget", pb.RemoveBudgetRequest(budget_id="gpu-march"))
    assert not (await visitors["alpha"].ask("ListBudgets", pb.ListBudgetsRequest())).standings


async def test_a_lifetime_budget_has_no_end(visitors: dict[str, Visitor]) -> None:
    standing = (await visitors["alpha"].ask("SetBudget", request())).standing
    assert standing.budget.window == "lifetime"
    assert not standing.HasField("window_ends_at")
    assert not standing.HasField("ends_at_expected")


async def test_a_tenant_sees_and_removes_its_own_only(visitors: dict[str, Visitor]) -> None:
    await visitors["alpha"].ask("SetBudget", request())
    assert not (await visitors["beta"].ask("ListBudgets", pb.ListBudgetsRequest())).standings
    for method, asked in (
        ("GetBudget", pb.GetBudgetRequest(budget_id="gpu-march")),
        ("RemoveBudget", pb.RemoveBudgetRequest(budget_id="gpu-march")),
    ):
        assert (await visitors["beta"].refused(method, asked))[0] is grpc.StatusCode.NOT_FOUND
    assert (await visitors["alpha"].ask("ListBudgets", pb.ListBudgetsRequest())).standings


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"budget_id": "../etc"}, "budget_id"),
        ({"scope": "planet"}, "scope"),
        ({"scope": "run"}, "scope_key"),
        ({"scope": "run", "scope_key": "a.b"}, "scope_key"),
        ({"metric": "apples"}, "metric"),
        ({"limit": 0.0}, "limit"),
        ({"limit": float("inf")}, "limit"),
        ({"limit": float("nan")}, "limit"),
        ({"window": "fortnight"}, "window"),
        ({"action": "shout"}, "action"),
        ({"warn_fraction": 1.5}, "warn_fraction"),
        ({"starts_at": Timestamp(seconds=9), "ends_at": Timestamp(seconds=5)}, "ends_at"),
        ({"ends_at": Timestamp(seconds=9**18)}, "ends_at"),
    ],
)
async def test_a_wrong_budget_is_refused_by_the_name_of_its_field(
    visitors: dict[str, Visitor], changes: dict[str, Any], field: str
) -> None:
    code, sentence = await visitors["alpha"].refused("SetBudget", request(**changes))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert sentence.startswith(f"{field}: "), sentence
