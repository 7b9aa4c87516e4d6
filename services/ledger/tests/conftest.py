"""One embedded engine for all tests of a process, since a process can open one folder only; each test has a tenant of its own."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from ergonaut_ledger.adapters.clickhouse import ClickHouseStore
from ergonaut_ledger.adapters.engine import Engine, embedded
from ergonaut_ledger.adapters.migrating import migrate, packaged_migrations
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.ports import Store

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def engine_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine") / "ledger"


@pytest.fixture(scope="session")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool


@pytest.fixture(scope="session")
def client(engine_folder: Path, executor: ThreadPoolExecutor) -> Iterator[Client]:
    opened = executor.submit(embedded(engine_folder)).result()
    executor.submit(migrate, opened, packaged_migrations()).result()
    yield opened
    executor.submit(opened.close).result()


@pytest.fixture(scope="session")
def engine(client: Client, executor: ThreadPoolExecutor) -> Engine:
    return Engine(client, executor)


@pytest.fixture(params=["fake", "clickhouse"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "fake":
        return FakeStore()
    return ClickHouseStore(request.getfixturevalue("engine"), insert_seconds=60, query_seconds=60)


@pytest.fixture
def tenant() -> str:
    return f"tenant-{next(_numbers)}"
