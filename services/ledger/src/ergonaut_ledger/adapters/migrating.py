"""Brings the books into their newest form: applies the numbered SQL files that have not been applied yet. Called when opening."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
            client.command(statement)
        client.query(
            "INSERT INTO schema_migrations (number, name, checksum) SELECT {number:UInt32}, {name:String}, {sum:String}",
            parameters={"number": migration.number, "name": migration.name, "sum": migration.checksum},
        )
    return [migration.number for migration in waiting]


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
