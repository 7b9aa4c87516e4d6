"""The books' form: each step once, never changed, repaired after a crash."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from ergonaut.errors import Broken
from ergonaut_ledger.adapters.migrating import Migration, migrate, packaged_migrations

STEPS = [
    Migration(1, "first", "-- why\nCREATE TABLE IF NOT EXISTS a (n UInt8) ENGINE = MergeTree ORDER BY n;\n"),
    Migration(2, "second", "INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (2);\n"),
]


@pytest.fixture
def books(
    client: Client, engine_folder: Path, executor: ThreadPoolExecutor, tenant: str
) -> Iterator[Callable[[Callable[[Client], Any]], Any]]:
    """Calls something with a client of an empty database, in the engine's thread."""
    database = tenant.replace("-", "_")

    def connect() -> Client:
        client.command(f"CREATE DATABASE {database}")
        return clickhouse_connect.get_client(interface="chdb", path=str(engine_folder), database=database)

    empty = executor.submit(connect).result()
    yield lambda work: executor.submit(work, empty).result()
    executor.submit(empty.close).result()


def test_each_step_is_applied_once(books: Callable[..., Any]) -> None:
    assert books(lambda client: migrate(client, STEPS)) == [1, 2]
    assert books(lambda client: migrate(client, STEPS)) == []
    assert books(lambda client: client.query("SELECT n FROM a ORDER BY n").result_rows) == [(1,), (2,)]


def test_new_steps_are_added_to_old_books(books: Callable[..., Any]) -> None:
    books(lambda client: migrate(client, STEPS[:1]))
    assert books(lambda client: migrate(client, STEPS)) == [2]


def test_a_step_that_was_changed_after_it_was_applied_is_refused(books: Callable[..., Any]) -> None:
    books(lambda client: migrate(client, STEPS))
    changed = [STEPS[0], replace(STEPS[1], sql="INSERT INTO a VALUES (9);\n")]
    with pytest.raises(Broken, match="migration 2"):
        books(lambda client: migrate(client, changed))


def test_books_of_a_newer_version_are_refused(books: Callable[..., Any]) -> None:
    books(lambda client: migrate(client, STEPS))
    with pytest.raises(Broken, match="newer version"):
        books(lambda client: migrate(client, STEPS[:1]))


def test_the_packaged_steps_can_be_run_again_after_a_crash_in_the_middle(books: Callable[..., Any]) -> None:
    steps = packaged_migrations()
    books(lambda client: migrate(client, steps))
    books(lambda client: client.command("TRUNCATE TABLE schema_migrations"))
    assert books(lambda client: migrate(client, steps)) == [step.number for step in steps]


EVENTS = """
CREATE TABLE IF NOT EXISTS events (occurred_at DateTime) ENGINE = MergeTree PARTITION BY toYYYYMM(occurred_at) ORDER BY tuple();
INSERT INTO events VALUES ('2026-02-28 23:00:00'), ('2026-04-01 00:00:00');
CREATE TABLE IF NOT EXISTS days (day Date, events UInt64) ENGINE = MergeTree ORDER BY day;
"""
BY_DAY = "INSERT INTO days SELECT {day:Date}, count() FROM events WHERE toDate(occurred_at) = {day:Date};\n"


def test_a_long_step_goes_day_by_day_and_after_a_crash_on_from_there(books: Callable[..., Any]) -> None:
    broken = "SELECT throwIf({day:Date} = '2026-04-03');\n"
    steps = [Migration(1, "events", EVENTS), Migration(2, "days", BY_DAY)]
    assert books(lambda client: migrate(client, steps[:1])) == [1]
    with pytest.raises(ClickHouseError):
        books(lambda client: migrate(client, [steps[0], replace(steps[1], sql=broken)]))
    assert books(lambda client: migrate(client, steps)) == [2]
    days = books(lambda client: client.query("SELECT day, events FROM days ORDER BY day").result_rows)
    assert [str(day) for day, _ in days] == [f"2026-04-{number:02}" for number in range(3, 31)]
    told = "SELECT day FROM schema_migration_days ORDER BY day"
    remembered = [str(day) for (day,) in books(lambda client: client.query(told).result_rows)]
    assert remembered == [
        f"2026-{month}-{n:02}" for month, last in (("02", 28), ("04", 30)) for n in range(1, last + 1)
    ]


MESSAGES = """
INSERT INTO events (tenant, area, type, key, event_id, occurred_at, producer, producer_sequence)
SELECT 'a', 'telemetry', 'telemetry.power.sampled', 'host-1', toString(number),
    toDateTime('2026-03-31 12:00:00', 'UTC') + number * 60, 'agent-1', number
FROM numbers(1, 2000) WHERE number % 100 != 0
"""
NUMBERS = (
    "SELECT hour, min(first), max(last), groupBitmapMerge(numbers) FROM message_numbers GROUP BY hour ORDER BY hour"
)


def test_numbers_of_messages_kept_before_are_those_of_messages_kept_since(books: Callable[..., Any]) -> None:
    steps = packaged_migrations()
    books(lambda client: migrate(client, [step for step in steps if step.number < 10]))
    books(lambda client: client.command(MESSAGES))
    books(lambda client: migrate(client, steps))
    made = books(lambda client: client.query(NUMBERS).result_rows)
    assert sum(row[3] for row in made) == 1980
    assert len(made) == 34
    books(lambda client: client.command(MESSAGES))
    assert books(lambda client: client.query(NUMBERS).result_rows) == made, "the same told again changes nothing"
    books(lambda client: client.command("TRUNCATE TABLE message_numbers"))
    books(lambda client: client.command(MESSAGES))
    assert books(lambda client: client.query(NUMBERS).result_rows) == made


def test_the_packaged_steps_are_numbered_without_a_gap() -> None:
    steps = packaged_migrations()
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
