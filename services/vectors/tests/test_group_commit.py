"""Small writes that go into a log together: fewer messages, the same order, and nobody pays for another's trouble."""

import asyncio
import random
from collections.abc import Awaitable

import numpy as np
import pytest

from ergonaut.errors import Unavailable
from ergonaut_vectors.appending import Appender
from ergonaut_vectors.domain.batches import ENTRIES_MAX, Batch, Chain, name_of
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts, Write
from ergonaut_vectors.group_commit import BUSY_MESSAGES, SMALL_MAX, GroupCommit

from .hindered import KEY, Hindered, Uncertain, ids_of, rows

Writing = asyncio.Task[int]


class Busy:
    """A log that has as much under way as keeps it busy, and who writes to it."""

    def __init__(self) -> None:
        self.log = Hindered()
        self._group_commit = GroupCommit(Appender(KEY, self.log))
        self.before: list[Writing] = []

    async def begin(self) -> "Busy":
        await self.log.make(KEY)
        for at in range(BUSY_MESSAGES):
            self.before.append(self.write(rows(f"before-{at}")))
            await self.log.has_begun(at + 1)
        return self

    def write(self, write: Write, name: str = "") -> Writing:
        return asyncio.create_task(self._group_commit.append(Batch(write, name_of(name))))

    async def looked(self) -> None:
        """Return when all who write have looked whether the log is busy."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def answers(self, *writes: Writing) -> list[int | BaseException]:
        """Of these, when the log has gone on."""
        await self.looked()
        self.log.go.set()
        await asyncio.gather(*self.before)
        return list(await asyncio.gather(*writes, return_exceptions=True))

    @property
    def written(self) -> list[list[str]]:
        """The ids of each message behind those that kept the log busy."""
        return [ids for ids in ids_of(self.log) if not ids[0].startswith("before")]


@pytest.fixture
async def busy() -> Busy:
    return await Busy().begin()


async def test_while_a_log_is_busy_small_writes_go_together(busy: Busy) -> None:
    names = [str(at) for at in range(ENTRIES_MAX + 10)]
    writes = [busy.write(rows(name)) for name in names[:ENTRIES_MAX]]
    await busy.looked()
    assert len(busy.log.begun) == BUSY_MESSAGES
    writes += [busy.write(rows(name)) for name in names[ENTRIES_MAX:]]
    positions = await busy.answers(*writes)
    assert busy.written == [names[:ENTRIES_MAX], names[ENTRIES_MAX:]]
    first = BUSY_MESSAGES + 1
    assert positions == [first] * ENTRIES_MAX + [first + 1] * 10


async def test_a_write_to_a_log_that_is_not_busy_waits_for_nobody() -> None:
    log = Hindered()
    await log.make(KEY)
    group_commit = GroupCommit(Appender(KEY, log))
    writing = asyncio.create_task(group_commit.append(Batch(rows("a"))))
    await log.has_begun(1)
    log.go.set()
    assert await writing == 1


async def test_what_is_no_small_write_stands_between_those_before_and_those_behind_it(busy: Busy) -> None:
    many = [f"many-{at}" for at in range(SMALL_MAX + 1)]
    writes = [
        busy.write(rows("a")),
        busy.write(rows("b")),
        busy.write(rows(*many)),
        busy.write(rows("c")),
        busy.write(Deletes(["a"])),
        busy.write(rows("d")),
        busy.write(rows("named"), "name"),
        busy.write(rows("e")),
    ]
    await busy.answers(*writes)
    assert busy.written == [["a", "b"], many, ["c"], ["a"], ["d"], ["named"], ["e"]]


async def test_who_leaves_takes_nobody_elses_write_along(busy: Busy) -> None:
    leaving, staying = busy.write(rows("a")), busy.write(rows("b"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await busy.answers(staying) == [BUSY_MESSAGES + 1]
    assert leaving.cancelled()
    assert busy.written == [["a", "b"]]


async def test_all_who_wrote_together_are_told_where_it_failed_and_the_next_ones_go_on(busy: Busy) -> None:
    busy.log.fails = {BUSY_MESSAGES}
    names = [str(at) for at in range(ENTRIES_MAX + 2)]
    answers = await busy.answers(*(busy.write(rows(name)) for name in names))
    assert all(isinstance(answer, Unavailable) for answer in answers[:ENTRIES_MAX])
    assert answers[ENTRIES_MAX:] == [BUSY_MESSAGES + 1] * 2
    assert busy.written == [names[ENTRIES_MAX:]]


async def test_each_keeps_its_payload_and_of_one_id_the_last_counts(busy: Busy) -> None:
    ones = np.ones((1, 4), np.float32)
    writes = [
        busy.write(Upserts(["a"], ones)),
        busy.write(Upserts(["b"], 2 * ones, [{"n": 2}])),
        busy.write(Upserts(["a"], 3 * ones, [{"n": 3}])),
    ]
    await busy.answers(*writes)
    chain = Chain()
    *_, batch = [chain.take(at, content) for at, content in enumerate(busy.log.logs[KEY], 1)]
    assert batch is not None
    assert isinstance(batch.write, Upserts)
    assert list(batch.write.ids) == ["a", "b", "a"]
    assert batch.write.rows[:, 0].tolist() == [1, 2, 3]
    assert [dict(each) for each in batch.write.payloads] == [{}, {"n": 2}, {"n": 3}]


@pytest.mark.parametrize("writers", [1, 2, 3])
@pytest.mark.parametrize("seed", range(10))
async def test_whatever_fails_what_is_acknowledged_stands_in_the_order_of_its_writer(seed: int, writers: int) -> None:
    dice = random.Random(seed)
    log = Uncertain(dice)
    await log.make(KEY)
    group_commits = [GroupCommit(Appender(KEY, log)) for _ in range(writers)]
    writes: list[Awaitable[int]] = []
    for at in range(120):
        write = rows(*(f"{at}-{i}" for i in range(dice.choice([1, 1, 1, 5, SMALL_MAX + 1]))))
        writes.append(asyncio.create_task(group_commits[at % writers].append(Batch(write))))
        for _ in range(dice.randrange(3)):
            await asyncio.sleep(0)
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(answer, int | Unavailable) for answer in answers)
    found = [name for ids in ids_of(log) for name in ids]
    assert len(found) == len(set(found))
    order = [int(name.split("-")[0]) for name in found]
    for writer in range(writers):
        mine = [at for at in order if at % writers == writer]
        assert mine == sorted(mine)
    assert {at for at, answer in enumerate(answers) if isinstance(answer, int)} <= set(order)
    assert len(log.logs[KEY]) < 120
