"""The spool in a SQLite file. Its write-ahead log makes each transaction whole or absent whenever the agent is killed."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ergonaut.errors import Broken, Conflict, Unavailable
from ergonaut.events import IntensityChanged, PowerSampled
from ergonaut.ids import new_id
from ergonaut_telemetry.domain import HostReading, Memory, RunTotals, Spooled, Turn

RUNS_KEPT_MAX = 1_000
"""Runs whose totals can still be asked for; the ledger has all, so only recent ones matter here."""

ZONES_KEPT_MAX = 256
"""More zones than any price table has; the bound keeps a faulty sender from filling the spool."""

PAGES_CHECKPOINTED = 256
"""Pages in the write-ahead log before they are moved to the file: 1 MiB, so that moves are rare and yet short."""

PAGE_BYTES = 4096

DROPPED_FRACTION = 10
"""A full spool drops a tenth of its events at once; one at a time would make every later sample pay for it."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (only INTEGER PRIMARY KEY CHECK (only = 1), producer TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS reading (only INTEGER PRIMARY KEY CHECK (only = 1), body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS numbers (tenant TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (position INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    tenant TEXT NOT NULL, run_id TEXT NOT NULL, ended INTEGER NOT NULL, touched REAL NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, run_id)
);
CREATE TABLE IF NOT EXISTS intensities (zone TEXT PRIMARY KEY, told REAL NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
"""

_READINGS = TypeAdapter(HostReading)
_RUNS = TypeAdapter(RunTotals)


@contextlib.contextmanager
def open_spool(path: Path, *, bytes_max: int) -> Iterator["SqliteSpool"]:
    """The spool at a path, made when absent. Raises Conflict where another agent has it, Unavailable where the disk says no."""
    spool = SqliteSpool(_connected(path, bytes_max))
    try:
        yield spool
    finally:
        spool.close()


def _connected(path: Path, bytes_max: int) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
    except (OSError, sqlite3.OperationalError) as error:
        raise Unavailable(f"the spool {path} cannot be opened: {error}") from error
    try:
        # Exclusive: two agents on one spool would charge every joule twice. The kernel frees the lock of a killed agent.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        # Not synced at each commit: a kill loses nothing then either, and after a loss of power the meters begin anew anyway.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {PAGES_CHECKPOINTED}")
        connection.execute(f"PRAGMA max_page_count = {bytes_max // PAGE_BYTES}")
        connection.executescript(_SCHEMA)
        connection.execute("INSERT OR IGNORE INTO identity VALUES (1, ?)", (new_id("agent"),))
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            raise Conflict(f"the spool {path} is in use by another agent; give each its own data_dir") from error
        raise Unavailable(f"the spool {path} cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise Broken(f"the spool {path} is damaged: {error}; move it away and start again") from error
    return connection


class SqliteSpool:
    """The Spool port over one connection, which the sampling thread and the sender share in turn."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()
        self._producer = str(connection.execute("SELECT producer FROM identity").fetchone()[0])
        self._dropped = 0
        self._waiting = int(connection.execute("SELECT count(*) FROM events").fetchone()[0])

    def close(self) -> None:
        """Let another agent have the spool; waits for a sample that is being written."""
        with self._turn:
            self._connection.close()

    @property
    def producer(self) -> str:
        return self._producer

    def remembered(self) -> Memory:
        with self._turn:
            reading = self._connection.execute("SELECT body FROM reading").fetchone()
            numbers = self._connection.execute("SELECT tenant, sequence FROM numbers").fetchall()
            runs = self._connection.execute("SELECT body FROM runs WHERE NOT ended").fetchall()
        totals = [_RUNS.validate_json(body) for (body,) in runs]
        return Memory(
            reading=_reading(reading[0]) if reading else None,
            sequences=dict(numbers),
            runs={(total.tenant, total.run_id): total for total in totals},
        )

    def record(self, turn: Turn) -> None:
        bodies = [(event.model_dump_json(exclude_none=True).encode(),) for event in turn.events]
        with _written("takes no sample"):
            try:
                self._write(turn, bodies)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                self._make_room()
                self._write(turn, bodies)

    def oldest(self, count: int) -> Sequence[Spooled]:
        with self._turn:
            rows = self._connection.execute(
                "SELECT position, body FROM events ORDER BY position LIMIT ?", (count,)
            ).fetchall()
        return [Spooled(position, PowerSampled.model_validate_json(body)) for position, body in rows]

    def sent(self, position: int) -> None:
        with _written("cannot forget what was sent"), self._transaction() as connection:
            gone = connection.execute("DELETE FROM events WHERE position <= ?", (position,)).rowcount
        self._waiting -= gone

    def waiting(self) -> int:
        return self._waiting

    def dropped(self) -> int:
        return self._dropped

    def run(self, tenant: str, run_id: str) -> RunTotals | None:
        with self._turn:
            row = self._connection.execute(
                "SELECT body FROM runs WHERE tenant = ? AND run_id = ?", (tenant, run_id)
            ).fetchone()
        return _RUNS.validate_json(row[0]) if row else None

    def keep_intensity(self, event: IntensityChanged) -> bool:
        values = (event.zone, event.occurred_at.timestamp(), event.model_dump_json().encode())
        with _written("takes no intensities"), self._transaction() as connection:
            kept = connection.execute(
                "INSERT INTO intensities VALUES (?, ?, ?) ON CONFLICT (zone) DO UPDATE "
                "SET told = excluded.told, body = excluded.body WHERE excluded.told >= intensities.told",
                values,
            ).rowcount
            connection.execute(
                "DELETE FROM intensities WHERE zone IN (SELECT zone FROM intensities ORDER BY told DESC LIMIT -1 OFFSET ?)",
                (ZONES_KEPT_MAX,),
            )
        return kept > 0

    def intensities(self) -> Sequence[IntensityChanged]:
        with self._turn:
            rows = self._connection.execute("SELECT body FROM intensities").fetchall()
        return [IntensityChanged.model_validate_json(body) for (body,) in rows]

    def _write(self, turn: Turn, bodies: Sequence[tuple[bytes]]) -> None:
        reading = turn.memory.reading
        runs = [
            (run.tenant, run.run_id, run.ended, run.sampled_at.timestamp(), _RUNS.dump_json(run)) for run in turn.runs
        ]
        with self._transaction() as connection:
            if reading is not None:
                connection.execute("INSERT OR REPLACE INTO reading VALUES (1, ?)", (_READINGS.dump_json(reading),))
            connection.executemany("INSERT OR REPLACE INTO numbers VALUES (?, ?)", turn.memory.sequences.items())
            connection.executemany("INSERT INTO events (body) VALUES (?)", bodies)
            connection.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)", runs)
            if any(run.ended for run in turn.runs):
                connection.execute(
                    "DELETE FROM runs WHERE ended AND (tenant, run_id) NOT IN "
                    "(SELECT tenant, run_id FROM runs ORDER BY touched DESC LIMIT ?)",
                    (RUNS_KEPT_MAX,),
                )
        self._waiting += len(bodies)

    def _make_room(self) -> None:
        """Drop the oldest tenth, so that newer samples fit; their numbers are missing from then on, which tells of it."""
        with self._transaction() as connection:
            dropped = connection.execute(
                "DELETE FROM events WHERE position IN (SELECT position FROM events ORDER BY position LIMIT ?)",
                (max(1, self._waiting // DROPPED_FRACTION),),
            ).rowcount
        self._waiting -= dropped
        self._dropped += dropped

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._turn:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled back already; a second time is an error then.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


@contextlib.contextmanager
def _written(otherwise: str) -> Iterator[None]:
    """Around a write: a disk that takes nothing makes the spool unavailable, for nobody knows how long."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Unavailable(f"the spool {otherwise}: {error}; make room on its disk") from error


def _reading(body: bytes) -> HostReading | None:
    """The last reading, or None where it was written by a version that knew other fields: then the meters begin anew."""
    try:
        return _READINGS.validate_json(body)
    except ValidationError:
        return None
