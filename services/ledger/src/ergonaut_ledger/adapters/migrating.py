"""Brings the books into their newest form: applies the numbered SQL files that have not been applied yet. Called when opening."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib import resources

from clickhouse_connect.driver.client import Client

from ergonaut.errors import Broken

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    number UInt32,
    name String,
    checksum String,
    applied_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree ORDER BY number
"""

CREATE_DAYS_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration_days (number UInt32, day Date) ENGINE = ReplacingMergeTree ORDER BY (number, day)
"""

EACH_DAY = "{day:Date}"
"""A statement with this in it is carried out for each day of the months of which events are kept, and each day is remembered:
so it is bounded in memory, and one that was cut off goes on where it was. A file has one such statement at most."""

_MONTHS = """
SELECT DISTINCT partition_id FROM system.parts
WHERE database = currentDatabase() AND table = 'events' AND active
ORDER BY partition_id
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the books' form."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Tells whether the file is the one that was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """The file's statements; each ends with a semicolon at the end of a line."""
        return [part.strip() for part in re.split(r";\s*(?:\n|$)", self.sql) if part.strip()]


def packaged_migrations() -> list[Migration]:
    """The migrations of this package, in order."""
    files = resources.files("ergonaut_ledger.migrations").iterdir()
    found = [(match, file) for file in files if (match := _FILE.fullmatch(file.name))]
    return sorted(
        (Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")) for match, file in found),
        key=lambda migration: migration.number,
    )


def migrate(client: Client, migrations: Sequence[Migration]) -> list[int]:
    """Apply what is missing; gives the numbers applied. A crash in the middle is repaired by the next call: every statement
    may be run again. Raises Broken where the books were made by other files than these."""
    client.command(CREATE_TABLE)
    rows = client.query("SELECT number, any(checksum) FROM schema_migrations GROUP BY number").result_rows
    waiting = _waiting(migrations, {int(number): str(checksum) for number, checksum in rows})
    for migration in waiting:
        for statement in migration.statements:
            if EACH_DAY in statement:
                _each_day(client, migration.number, statement)
            else:
                client.command(statement)
        client.query(
            "INSERT INTO schema_migrations (number, name, checksum) SELECT {number:UInt32}, {name:String}, {sum:String}",
            parameters={"number": migration.number, "name": migration.name, "sum": migration.checksum},
        )
    return [migration.number for migration in waiting]


def _each_day(client: Client, number: int, statement: str) -> None:
    client.command(CREATE_DAYS_TABLE)
    asked = {"number": number}
    done = "SELECT DISTINCT day FROM schema_migration_days WHERE number = {number:UInt32}"
    days_done = {row[0] for row in client.query(done, parameters=asked).result_rows}
    for day in _days_of_events(client):
        if day not in days_done:
            client.query(statement, parameters={"day": day})
            client.query(
                "INSERT INTO schema_migration_days (number, day) SELECT {number:UInt32}, {day:Date}",
                parameters=asked | {"day": day},
            )


def _days_of_events(client: Client) -> Iterator[date]:
    for (month,) in client.query(_MONTHS).result_rows:
        first = datetime.strptime(month, "%Y%m").replace(tzinfo=UTC).date()
        for day in (first + timedelta(days=offset) for offset in range(31)):
            if day.month == first.month:
                yield day


def _waiting(migrations: Sequence[Migration], applied: Mapping[int, str]) -> list[Migration]:
    known = {migration.number: migration for migration in migrations}
    for number, checksum in sorted(applied.items()):
        if number not in known:
            raise Broken(
                f"the ledger was written by a newer version (migration {number}); use that version or a newer one"
            )
        if known[number].checksum != checksum:
            raise Broken(
                f"migration {number} is not the one that was applied to this ledger; never change an applied file"
            )
    return [migration for migration in migrations if migration.number not in applied]
