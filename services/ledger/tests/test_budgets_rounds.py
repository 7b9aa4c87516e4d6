"""Whose budgets are judged when: whoever has much to judge, or much that is unlimited, keeps nobody else waiting."""

from collections.abc import Sequence

import pytest

from ergonaut.errors import Unavailable
from ergonaut.events import BudgetExceeded, BudgetRenewed, JobSubmitted
from ergonaut.jobs import JobSpec
from ergonaut_ledger.domain.budgets import Answer, Asked, Question
from ergonaut_ledger.ports import StoredBudget

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


async def test_a_budget_that_cannot_be_judged_is_tried_once_a_round(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.budgeting.set("slow", budget(), "eve")
    for number in range(50):
        key = f"run-{number}"
        await ledger.budgeting.set("t", budget(budget_id=key, scope="run", scope_key=key), "ada")
    tried = 0
    answer = ledger.sums.answer

    async def overloaded(question: Question, asked: Asked) -> Answer:
        nonlocal tried
        if question.tenant == "slow":
            tried += 1
            raise Unavailable("ClickHouse did not answer")
        return await answer(question, asked)

    monkeypatch.setattr(ledger.sums, "answer", overloaded)
    facts = [
        reading(tenant, n + 1, cpu_sample(0, 1.0, run_id=f"run-{n}")) for n in range(50) for tenant in ("slow", "t")
    ]
    await ledger.keeping.keep([message(event, 10 + n) for n, event in enumerate(facts)])
    for rounds in (1, 2):
        await ledger.rounds.round()
        assert tried == rounds


async def test_a_budget_that_cannot_be_looked_at_keeps_no_other_from_beginning_anew(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tenant in ("slow", "t"):
        await ledger.budgeting.set(tenant, budget(window="day"), "ada")
        await ledger.keep(reading(tenant, 1, cpu_sample(0, 120.0, started_at=NOON, ended_at=NOON)))
    answer = ledger.sums.answer

    async def overloaded(question: Question, asked: Asked) -> Answer:
        if question.tenant == "slow":
            raise Unavailable("ClickHouse did not answer")
        return await answer(question, asked)

    monkeypatch.setattr(ledger.sums, "answer", overloaded)
    await ledger.clock.advance(86_400)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await ledger.rounds.look_once()
    assert [each.tenant for each in ledger.announcer.told.values() if isinstance(each, BudgetRenewed)] == ["t"]


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


@pytest.mark.parametrize("after_death", [False, True], ids=["by the next look", "after a death"])
async def test_a_removed_budget_leaves_the_book_though_forgetting_it_failed_at_first(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, *, after_death: bool
) -> None:
    async def away(_: StoredBudget) -> None:
        raise Unavailable("NATS is away")

    await ledger.budgeting.set("t", budget(), "ada")
    with monkeypatch.context() as patched:
        patched.setattr(ledger.book, "forget", away)
        with pytest.raises(Unavailable):
            await ledger.budgeting.remove("t", "b", "ada")
    if after_death:
        ledger.restart()
        await ledger.rounds.start()
        await ledger.rounds.round()
    await ledger.rounds.look_once()
    assert await ledger.book.everything() == []
    assert ledger.kinds == ["Changed", "Changed"]


async def test_a_budget_that_is_set_again_while_its_former_self_is_forgotten_holds(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget = ledger.book.forget

    async def outrun(stored: StoredBudget) -> None:
        monkeypatch.setattr(ledger.book, "forget", forget)
        await ledger.budgeting.set("t", budget(limit=5.0), "ada")
        await forget(stored)

    await ledger.budgeting.set("t", budget(), "ada")
    monkeypatch.setattr(ledger.book, "forget", outrun)
    await ledger.budgeting.remove("t", "b", "ada")
    await ledger.use(1, 10.0)
    assert ledger.kinds[-1] == "Exceeded"


async def test_a_budget_that_is_set_while_the_book_is_read_holds(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = ledger.book.everything

    async def outrun() -> Sequence[StoredBudget]:
        found = await everything()
        await ledger.budgeting.set("t", budget(limit=5.0), "ada")
        return found

    monkeypatch.setattr(ledger.book, "everything", outrun)
    await ledger.budgeting.shelf.look()
    await ledger.use(1, 10.0)
    assert ledger.kinds[-1] == "Exceeded"


async def test_one_sample_with_a_clock_ahead_lets_a_budget_act_no_later(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(limit=1000.0, action="stop"), "ada")
    await ledger.keep(start())
    await ledger.keep(ledger.reading(1, 1.0, age_seconds=-3600, run_id="run-ahead"))
    for number in range(2, 102):
        await ledger.use(number, 10.0)
        if ledger.kinds[-1] == "Exceeded":
            break
    assert 990.0 <= ledger.last.used < 1000.0
