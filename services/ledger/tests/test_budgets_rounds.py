"""Whose budgets are judged when: whoever has much to judge, or much that is unlimited, keeps nobody else waiting."""

import pytest

from ergonaut.events import BudgetExceeded, JobSubmitted
from ergonaut.jobs import JobSpec

from .test_budgets_service import NOON, Ledger, budget, start
from .told import cpu_sample, message, reading


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def test_thousands_of_other_tenants_jobs_delay_no_budget(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(action="stop"), "ada")
    await ledger.keep(start())
    others = [reading("other", n + 1, cpu_sample(0, 1.0, run_id=f"run-{n}", job_id=f"job-{n}")) for n in range(2_000)]
    await ledger.keeping.keep([message(event, 10 + n) for n, event in enumerate(others)])
    await ledger.use(1, 120.0)
    assert ledger.kinds == ["Changed", "Exceeded"]


async def test_tenants_take_turns_however_many_budgets_one_has(ledger: Ledger) -> None:
    for number in range(150):
        key = f"run-{number}"
        await ledger.budgeting.set("many", budget(budget_id=key, scope="run", scope_key=key, limit=5.0), "eve")
    await ledger.budgeting.set("t", budget(), "ada")
    of_many = [reading("many", n + 1, cpu_sample(0, 10.0, run_id=f"run-{n}")) for n in range(150)]
    await ledger.keeping.keep([message(event, 10 + n) for n, event in enumerate(of_many)])
    await ledger.use(1, 120.0)
    assert [event.tenant for event in ledger.announcer.told.values() if isinstance(event, BudgetExceeded)].count("t")


async def test_a_job_without_limits_is_looked_up_once_and_one_that_nobody_told_of_ever_more_seldom(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    newest_body = ledger.store.newest_body

    async def counted(tenant: str, event_type: str, key: str) -> str | None:
        asked.append(key)
        return await newest_body(tenant, event_type, key)

    monkeypatch.setattr(ledger.store, "newest_body", counted)
    free = JobSpec(name="d", command=("true",), duration_seconds_expected=1)
    await ledger.keep(JobSubmitted(tenant="t", job_id="free", job=free, occurred_at=NOON))
    for number in range(1, 301):
        await ledger.use(2 * number, 1.0, run_id="run-1", job_id="free")
        await ledger.keep(ledger.reading(2 * number + 1, 1.0, run_id="run-2", job_id="untold"))
    assert asked.count("free") == 1
    assert 7 <= asked.count("untold") <= 9
