"""ClickHouse owned by one thread: every call of the process goes through it, so the loop never waits and the engine has one
user."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from ergonaut.errors import Broken, Unavailable
from ergonaut_common.observe import get_logger

CALLS_WAITING_MAX = 64
"""Calls that may wait for the thread; more would only all miss their deadlines."""

OPEN_SECONDS_MAX = 60.0
"""Opening includes the engine's import and reading its parts; a large store after a crash may take a while."""

CLOSE_SECONDS_MAX = 2.0
"""Nothing unsafe is lost by leaving sooner: what was acknowledged is on disk."""

PASSING_CODES = frozenset({
    3, 159, 160,  # UNEXPECTED_END_OF_FILE, TIMEOUT_EXCEEDED, TOO_SLOW
    202, 209, 210,  # TOO_MANY_SIMULTANEOUS_QUERIES, SOCKET_TIMEOUT, NETWORK_ERROR
    241, 242, 243, 252,  # MEMORY_LIMIT_EXCEEDED, TABLE_IS_READ_ONLY, NOT_ENOUGH_SPACE, TOO_MANY_PARTS
    394, 425, 999, 1000,  # QUERY_WAS_CANCELLED, SYSTEM_ERROR, KEEPER_EXCEPTION, POCO_EXCEPTION
})  # fmt: skip
"""ClickHouse's error codes for trouble that passes by itself or when somebody makes room."""

T = TypeVar("T")
log = get_logger(__name__)


class Engine:
    """The one way to ClickHouse in this process."""

    def __init__(self, client: Client, executor: ThreadPoolExecutor) -> None:
        self._client = client
        self._executor = executor
        self._waiting = 0

    async def do(self, work: Callable[[Client], T], *, what: str, seconds: float) -> T:
        """Do something with the client in the engine's thread, within a time. Raises Unavailable or Broken."""
        if self._waiting >= CALLS_WAITING_MAX:
            raise Unavailable(f"{what}: the ledger is busy with {self._waiting} calls; ask again later")
        self._waiting += 1
        try:
            return await _in_thread(self._executor, lambda: work(self._client), what=what, seconds=seconds)
        finally:
            self._waiting -= 1

    async def ask(
        self, sql: str, parameters: Mapping[str, Any], *, what: str, seconds: float
    ) -> list[Mapping[str, Any]]:
        """The answer's rows. The engine itself gives up at the deadline too, so that the thread is free again."""

        def work(client: Client) -> list[Mapping[str, Any]]:
            answer = client.query(sql, parameters=dict(parameters), settings={"max_execution_time": seconds})
            return list(answer.named_results())

        return await self.do(work, what=what, seconds=seconds)


async def _in_thread(executor: ThreadPoolExecutor, work: Callable[[], T], *, what: str, seconds: float) -> T:
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(executor, work), seconds)
    except TimeoutError as error:
        raise Unavailable(f"{what}: ClickHouse did not answer within {seconds:g} s; ask again later") from error
    except OSError as error:
        raise Unavailable(f"{what}: {error}") from error
    except ClickHouseError as error:
        first_line = str(error).splitlines()[0][:500]
        # A failure without a code comes from the way to the engine, not from the engine.
        if getattr(error, "code", None) in (None, *PASSING_CODES):
            raise Unavailable(f"{what}: {first_line}") from error
        raise Broken(f"{what}: {first_line}") from error


@contextlib.asynccontextmanager
async def open_engine(connect: Callable[[], Client], *, what: str) -> AsyncIterator[Engine]:
    """The engine while the block runs; `connect` is called in the engine's thread. Raises Unavailable."""
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clickhouse")
    try:
        client = await _in_thread(executor, connect, what=f"opening {what}", seconds=OPEN_SECONDS_MAX)
        try:
            yield Engine(client, executor)
        finally:
            with contextlib.suppress(Unavailable, Broken):
                await _in_thread(executor, client.close, what=f"closing {what}", seconds=CLOSE_SECONDS_MAX)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def embedded(folder: Path) -> Callable[[], Client]:
    """How to connect to the engine in this process, its files in a folder. One folder a process, one process a folder."""

    def connect() -> Client:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return clickhouse_connect.get_client(interface="chdb", path=str(folder), tz_mode="aware")

    return connect


def server(dsn: str, *, seconds: float) -> Callable[[], Client]:
    """How to connect to a ClickHouse server."""

    def connect() -> Client:
        return clickhouse_connect.get_client(
            dsn=dsn, tz_mode="aware", connect_timeout=5, send_receive_timeout=seconds, autogenerate_session_id=False
        )

    return connect
