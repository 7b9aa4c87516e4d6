"""How long a report over a month of a thousand hosts takes, from roll-ups made by ClickHouse's own numbers. Called by `run.py`.

Two books are made. In the small one, a hundredth of the fleet, every second's sample is there and is rolled up by the ledger's
own roller. In the large one the sums by hour and day are those of the whole fleet, and the samples and sums by minute are those
that an answer of this moment needs beside them: the last hour by minute, the last two minutes, not yet rolled up, by sample.
Statements and compliance reports are asked of the large one as a whole, with the numbers of every host's messages by hour.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from clickhouse_connect.driver.client import Client

from ergonaut_common.clock import FakeClock
from ergonaut_ledger.adapters import rollups
from ergonaut_ledger.adapters.engine import Engine, embedded
from ergonaut_ledger.adapters.migrating import migrate, packaged_migrations
from ergonaut_ledger.adapters.rollups import ClickHouseRollUps, ClickHouseUsage
from ergonaut_ledger.adapters.statement_books import ClickHouseCertificateBook, ClickHouseStatementBooks
from ergonaut_ledger.domain.certificates import Period
from ergonaut_ledger.domain.statements import Asked
from ergonaut_ledger.domain.usage import Span, Step, UsageQuestion
from ergonaut_ledger.service.rolling import Rolling
from ergonaut_ledger.service.statements import Statements
from ergonaut_ledger.service.using import Using

MONTH = Span(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
NOW = MONTH.ends_at - timedelta(minutes=2)
"""The last two minutes are not rolled up yet."""

KEYS = 18
"""Sums of a host at a time: two runs of four components and their machine, and the idle and others' part of the four."""

ROUNDS = 7

STATEMENT, COMPLIANCE = "statement", "compliance report"
"""Questions with a bar of their own."""

MISSING_OF_A_HOST = 259
"""One message of 10,000 of the month's 2,592,000."""

# A host has two runs at a time, new ones each day; `n` counts time and keys, `width` is the seconds of one row.
_ROWS = """
SELECT
    number, 'default' AS tenant,
    toDateTime({{start:Int64}} + intDiv(number, {keys} * {{hosts:UInt64}}) * {{width:UInt64}}, 'UTC') AS at,
    intDiv(number, {keys}) % {{hosts:UInt64}} AS host_number,
    number % {keys} AS k,
    multiIf(k < 10, 'run', k < 14, 'others', 'idle') AS share,
    if(k < 10, concat('run-', toString(toYYYYMMDD(at)), '-', toString(host_number), '-', toString(intDiv(k, 5))), '') AS run_id,
    if(k < 10, concat('job-', toString(host_number), '-', toString(intDiv(k, 5))), '') AS job_id,
    if(k < 10, concat('project-', toString(host_number % 20)), '') AS project,
    concat('host-', leftPad(toString(host_number), 4, '0')) AS host,
    if(k < 10 AND k % 5 = 4, 'machine', ['cpu', 'dram', 'gpu0', 'gpu1'][1 + if(k < 10, k % 5, (k - 10) % 4)]) AS component,
    if(component = 'machine', 'not-measured', if(component LIKE 'gpu%', 'counter', 'model')) AS method,
    component AS source,
    if(host_number % 3 = 0, 'FR', 'DE') AS zone,
    'yearly' AS intensity_kind, 'table' AS intensity_source, 'average' AS intensity_signal,
    'location-based' AS intensity_accounting, 'life-cycle' AS intensity_boundary,
    if(component = 'machine', NULL, {{width:UInt64}} * (20 + sipHash64(7, number) % 300)) AS joules,
    joules / 3.6e6 * 344 AS carbon_grams_co2e,
    if(component = 'machine', {{width:UInt64}} * 0.000003, NULL) AS embodied_grams_co2e,
    if(component = 'machine', {{width:UInt64}} * 0.0004, joules / 3.6e6 * 0.31) AS cost_usd
FROM numbers({{rows:UInt64}})
"""

_SUMS = """
INSERT INTO {table} (
    tenant, at, share, run_id, job_id, project, host, component, method, source, zone, intensity_kind, intensity_source,
    intensity_signal, intensity_accounting, intensity_boundary, energy_joules, energy_joules_range, building_joules,
    carbon_grams_co2e, embodied_grams_co2e, cost_usd, seconds, samples
)
SELECT
    tenant, at, share, run_id, job_id, project, host, component, method, source, zone, intensity_kind, intensity_source,
    intensity_signal, intensity_accounting, intensity_boundary, joules, joules * 0.2, joules * 1.2,
    carbon_grams_co2e, embodied_grams_co2e, cost_usd, {{width:UInt64}}, {{width:UInt64}}
FROM ({rows})
"""

_SAMPLES = """
INSERT INTO power_samples (
    tenant, started_at, ended_at, share, run_id, job_id, project, host, component, method, source, zone, intensity_kind,
    intensity_source, intensity_signal, intensity_accounting, intensity_boundary, energy_joules, range_fraction, pue,
    intensity_grams_per_kwh, carbon_grams_co2e, embodied_grams_co2e, cost_usd, event_id, position, stream, sequence, producer,
    producer_sequence
)
SELECT
    tenant, at, at + 1, share, run_id, job_id, project, host, component, method, source, zone, intensity_kind,
    intensity_source, intensity_signal, intensity_accounting, intensity_boundary, joules, 0.2, 1.2,
    344, carbon_grams_co2e, embodied_grams_co2e, cost_usd, concat('event-', host, '-', toString(toUnixTimestamp(at))), k,
    'S', number, host, toUnixTimestamp(at)
FROM ({rows})
"""

# Each host's agent tells a message a second; the numbers of one host are made message by message and stand for all.
_NUMBERS = """
INSERT INTO message_numbers (tenant, host, producer, hour, first, last, earliest_at, latest_at, numbers)
SELECT
    'default', concat('host-', leftPad(toString(hosts.number), 4, '0')) AS host, host, hour, first, last, hour, hour + 3599, told
FROM
(
    SELECT
        toStartOfHour(toDateTime({start:Int64} + number, 'UTC'), 'UTC') AS hour,
        min(number + 1) AS first, max(number + 1) AS last, groupBitmapState(toUInt64(number + 1)) AS told
    FROM numbers({seconds:UInt64})
    WHERE number % 10000 != 5000
    GROUP BY hour
) AS hours
CROSS JOIN numbers({hosts:UInt64}) AS hosts
"""

_TOUCH = "INSERT INTO touched_minutes (tenant, minute, sign) SELECT 'default', arrayJoin({minutes:Array(DateTime('UTC'))}), 1"


@dataclass(frozen=True, slots=True)
class Reported:
    """One question's time."""

    question: str
    rows: int
    median_seconds: float


class Books:
    """An engine on a folder, filled by SQL."""

    def __init__(self, client: Client, executor: ThreadPoolExecutor) -> None:
        self._client = client
        self.engine = Engine(client, executor)

    def fill(self, table: str, span: Span, width: int, *, hosts: int, keys: int = KEYS) -> int:
        """Rows of one table over a time; gives their number."""
        steps = int((span.ends_at - span.starts_at).total_seconds()) // width
        rows = steps * hosts * keys
        whole = (_SAMPLES if table == "power_samples" else _SUMS).format(table=table, rows=_ROWS.format(keys=keys))
        numbers = {"start": int(span.starts_at.timestamp()), "hosts": hosts, "width": width, "rows": rows}
        self._client.query(whole, parameters=numbers, settings={"max_partitions_per_insert_block": 0})
        return rows

    def fill_numbers(self, span: Span, *, hosts: int) -> int:
        """The numbers of every host's messages by hour, one of 10,000 missing; gives the rows."""
        seconds = int((span.ends_at - span.starts_at).total_seconds())
        numbers = {"start": int(span.starts_at.timestamp()), "hosts": hosts, "seconds": seconds}
        self._client.query(_NUMBERS, parameters=numbers)
        return seconds // 3_600 * hosts

    def days_from_hours(self) -> None:
        """By the ledger's own statement."""
        days = [MONTH.starts_at + timedelta(days=day) for day in range(30)]
        parameters = {"tenant": "default", "starts_at": days[0], "ends_at": MONTH.ends_at, "buckets": days}
        self._client.query(rollups._ROLL_DAY, parameters=parameters)

    def touch(self, span: Span) -> None:
        """Say of every minute of a time that it is not rolled up."""
        minutes = int((span.ends_at - span.starts_at).total_seconds()) // 60
        listed = [span.starts_at + timedelta(minutes=minute) for minute in range(minutes)]
        self._client.query(_TOUCH, parameters={"minutes": listed})

    def settle(self) -> None:
        """Wait until nothing is merged any more, as on a machine that has had its month."""
        while self._client.query("SELECT count() FROM system.merges").result_rows[0][0]:
            time.sleep(0.2)

    def size_mib(self) -> float:
        """On disk."""
        asked = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()"
        return float(self._client.query(asked).result_rows[0][0] or 0) / 2**20


def with_books(work: Callable[[Books], list[Reported]]) -> list[Reported]:
    """Do something with empty books."""
    with tempfile.TemporaryDirectory(prefix="ergonaut-bench-") as folder, ThreadPoolExecutor(1) as executor:
        client = executor.submit(embedded(Path(folder) / "ledger")).result()
        migrate(client, packaged_migrations())
        try:
            return work(Books(client, executor))
        finally:
            executor.submit(client.close).result()


def month_at_full_scale(books: Books) -> list[Reported]:
    """A thousand hosts: 46.7 billion samples of 18 a second, 2.6 billion host-seconds."""
    last_hour = Span(MONTH.ends_at - timedelta(hours=1), NOW)
    hours = books.fill("power_hours", Span(MONTH.starts_at, MONTH.ends_at - timedelta(hours=1)), 3_600, hosts=1_000)
    books.days_from_hours()
    minutes = books.fill("power_minutes", last_hour, 60, hosts=1_000)
    samples = books.fill("power_samples", Span(NOW, MONTH.ends_at), 1, hosts=1_000)
    books.touch(Span(NOW, MONTH.ends_at))
    numbers = books.fill_numbers(MONTH, hosts=1_000)
    books.settle()
    print(
        f"full scale: {hours:,} sums by hour, those by day, {minutes:,} by minute, {samples:,} samples not rolled up, "
        f"{numbers:,} hours of messages' numbers; {books.size_mib():,.0f} MiB on disk"
    )
    return asyncio.run(_asked(books, "full scale")) + asyncio.run(_stated(books))


def month_at_a_hundredth(books: Books) -> list[Reported]:
    """Ten hosts, one sample of each every second: 25.9 million samples, rolled up by the roller."""
    samples = 0
    for day in range(30):
        start = MONTH.starts_at + timedelta(days=day)
        samples += books.fill("power_samples", Span(start, start + timedelta(days=1)), 1, hosts=10, keys=1)
    books.touch(MONTH)
    began = time.perf_counter()
    asyncio.run(_rolled(books))
    seconds = time.perf_counter() - began
    books.settle()
    print(
        f"a hundredth: {samples:,} samples rolled up in {seconds:.0f} s ({samples / seconds:,.0f} a second); "
        f"{books.size_mib():,.0f} MiB on disk"
    )
    return asyncio.run(_asked(books, "a hundredth"))


async def _rolled(books: Books) -> None:
    rolling = Rolling(ClickHouseRollUps(books.engine, seconds=120), FakeClock(NOW))
    # Touches are read some at a time; a month's are more than one look gives.
    for _ in range(5):
        await rolling.catch_up()


async def _stated(books: Books) -> list[Reported]:
    """Statement and compliance report of the whole tenant, each with all of its questions."""
    statements = Statements(
        ClickHouseStatementBooks(books.engine, query_seconds=60),
        ClickHouseCertificateBook(books.engine, insert_seconds=60, query_seconds=60),
        FakeClock(MONTH.ends_at),
    )
    asked = Asked("default", Period(MONTH.starts_at, MONTH.ends_at))
    found = []
    for name, ask in {
        STATEMENT: lambda: statements.statement(asked, "project"),
        COMPLIANCE: lambda: statements.compliance(asked, ""),
    }.items():
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            told = await ask()
            times.append(time.perf_counter() - began)
        assert f"{1_000 * MISSING_OF_A_HOST:,}".replace(",", "") in " ".join(told.notes), told.notes
        found.append(Reported(name, len(told.notes), statistics.median(times)))
    return found


async def _asked(books: Books, scale: str) -> list[Reported]:
    using = Using(ClickHouseUsage(books.engine, query_seconds=60))
    questions = {
        "total": UsageQuestion("default", MONTH, Step.TOTAL),
        "by project": UsageQuestion("default", MONTH, Step.TOTAL, ("project",)),
        "by host and share": UsageQuestion("default", MONTH, Step.TOTAL, ("host", "share")),
        "by day and component": UsageQuestion("default", MONTH, Step.DAY, ("component",)),
        "by day and project": UsageQuestion("default", MONTH, Step.DAY, ("project",)),
        "one project by run": UsageQuestion("default", MONTH, Step.TOTAL, ("run",), project="project-3"),
        "by hour": UsageQuestion("default", MONTH, Step.HOUR),
    }
    found = []
    for name, question in questions.items():
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            rows = await using.usage(question)
            times.append(time.perf_counter() - began)
        found.append(Reported(f"{scale}, {name}", len(rows), statistics.median(times)))
    return found
