"""The books' form: each step once, never changed, repaired after a crash."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

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
    books(lambda client: [client.command(statement) for step in steps for statement in step.statements])
    assert books(lambda client: migrate(client, steps)) == [step.number for step in steps]


def test_the_packaged_steps_are_numbered_without_a_gap() -> None:
    steps = packaged_migrations()
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
