"""The spool in a SQLite file. Its write-ahead log makes each transaction whole or absent whenever the agent is killed."""

import contextlib
import json
import sqlite3
from collections import deque
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

TOLD_KEPT_MAX = 3
"""Of each zone: pricing tells at each full hour, and the two hours before it may still be asked for."""

PAGES_CHECKPOINTED = 256
"""Pages in the write-ahead log before they are moved to the file: 1 MiB, so that moves are rare and yet short."""

PAGE_BYTES = 4096

DROPPED_FRACTION = 10
"""A full spool drops a tenth of its events at once; one at a time would make every later sample pay for it."""

FRESH_MAX = 100
"""Events that are kept in memory as well as on disk: what is sent within seconds need not be read back."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (only INTEGER PRIMARY KEY CHECK (only = 1), producer TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS boot (only INTEGER PRIMARY KEY CHECK (only = 1), boot_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS state (only INTEGER PRIMARY KEY CHECK (only = 1), numbers TEXT NOT NULL, reading BLOB);
CREATE TABLE IF NOT EXISTS events (position INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    tenant TEXT NOT NULL, run_id TEXT NOT NULL, ended INTEGER NOT NULL, touched REAL NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (tenant, run_id)
);
CREATE TABLE IF NOT EXISTS told (
    zone TEXT NOT NULL, told REAL NOT NULL, body BLOB NOT NULL, PRIMARY KEY (zone, told)
) WITHOUT ROWID;
"""


_READINGS = TypeAdapter(HostReading)
_RUNS = TypeAdapter(RunTotals)


@contextlib.contextmanager
def open_spool(path: Path, *, bytes_max: int, boot_id: str) -> Iterator["SqliteSpool"]:
    """The spool at a path, made when absent. Raises Conflict where another agent has it, Unavailable where the disk says no."""
    spool = SqliteSpool(_connected(path, bytes_max, boot_id))
    try:
        yield spool
    finally:
        spool.close()


def _connected(path: Path, bytes_max: int, boot_id: str) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    except (OSError, sqlite3.OperationalError) as error:
        raise Unavailable(f"the spool {path} cannot be opened: {error}") from error
    try:
        # Exclusive: two agents on one spool would charge every joule twice. The kernel frees the lock of a killed agent.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        # Not synced at each commit: a kill loses nothing then either, and after a loss of power meters and numbers begin anew.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {PAGES_CHECKPOINTED}")
        connection.execute(f"PRAGMA max_page_count = {bytes_max // PAGE_BYTES}")
        connection.executescript(_SCHEMA)
        _take_over(connection)
        connection.execute("INSERT OR IGNORE INTO identity VALUES (1, ?)", (new_id("agent"),))
        _know_boot(connection, boot_id)
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            raise Conflict(f"the spool {path} is in use by another agent; give each its own data_dir") from error
        raise Unavailable(f"the spool {path} cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise Broken(f"the spool {path} is damaged: {error}; move it away and start again") from error
    return connection


def _take_over(connection: sqlite3.Connection) -> None:
    """Carry the numbers over from the form that spools had in version 0.1, so that they go on."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'numbers'").fetchone():
        numbers = dict(connection.execute("SELECT tenant, sequence FROM numbers").fetchall())
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?, NULL)", (json.dumps(numbers),))
        connection.execute("DROP TABLE numbers")
        connection.execute("DROP TABLE IF EXISTS reading")
        connection.execute("COMMIT")
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'intensities'").fetchone():
        # Spools of an earlier form kept only the newest of each zone.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT OR IGNORE INTO told SELECT zone, told, body FROM intensities")
        connection.execute("DROP TABLE intensities")
        connection.execute("COMMIT")


def _know_boot(connection: sqlite3.Connection, boot_id: str) -> None:
    """Begin a new producer after a boot: a loss of power may have taken the last numbers with it, and a number that the bus knows
    for another sample must not be given out again. What still waits goes on under its own producer."""
    known = connection.execute("SELECT boot_id FROM boot").fetchone()
    if known == (boot_id,):
        return
    connection.execute("BEGIN IMMEDIATE")
    if known is not None:
        connection.execute("UPDATE identity SET producer = ?", (new_id("agent"),))
        connection.execute("UPDATE state SET numbers = '{}', reading = NULL")
    connection.execute("INSERT OR REPLACE INTO boot VALUES (1, ?)", (boot_id,))
    connection.execute("COMMIT")


class SqliteSpool:
    """The Spool port over one connection.

    Events stand at positions without a gap: those up to `_gone` were sent or dropped and are deleted by the next write, those up
    to `_last` wait.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._producer = str(connection.execute("SELECT producer FROM identity").fetchone()[0])
        first, last = connection.execute("SELECT min(position), max(position) FROM events").fetchone()
        self._gone, self._last = int(first or 1) - 1, int(last or 0)
        self._dropped = 0
        self._fresh: deque[Spooled] = deque(maxlen=FRESH_MAX)

    def close(self) -> None:
        """Let another agent have the spool."""
        with contextlib.suppress(Unavailable), _written("forgets nothing"), self._transaction() as connection:
            self._forget(connection)
        self._connection.close()

    @property
    def producer(self) -> str:
        return self._producer

    def remembered(self) -> Memory:
        row = self._connection.execute("SELECT numbers, reading FROM state").fetchone()
        runs = self._connection.execute("SELECT body FROM runs WHERE NOT ended").fetchall()
        totals = [_RUNS.validate_json(body) for (body,) in runs]
        return Memory(
            reading=_reading(row[1]) if row and row[1] else None,
            sequences=json.loads(row[0]) if row else {},
            runs={(total.tenant, total.run_id): total for total in totals},
        )

    def record(self, turn: Turn) -> None:
        fresh = [
            Spooled(self._last + number, event, event.model_dump_json(exclude_none=True).encode())
            for number, event in enumerate(turn.events, start=1)
        ]
        with _written("takes no sample"):
            try:
                self._write(turn, fresh)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                self._make_room()
                self._write(turn, fresh)
        self._last += len(fresh)
        self._fresh.extend(fresh)

    def oldest(self, count: int) -> Sequence[Spooled]:
        fresh = [spooled for spooled in self._fresh if spooled.position > self._gone]
        if len(fresh) == self.waiting():
            return fresh[:count]
        rows = self._connection.execute(
            "SELECT position, body FROM events WHERE position > ? ORDER BY position LIMIT ?", (self._gone, count)
        ).fetchall()
        return [Spooled(position, PowerSampled.model_validate_json(body), body) for position, body in rows]

    def sent(self, position: int) -> None:
        # Deleted with the next sample rather than at once: a transaction of its own would double what a second costs.
        self._gone = max(self._gone, min(position, self._last))

    def waiting(self) -> int:
        return self._last - self._gone

    def dropped(self) -> int:
        return self._dropped

    def run(self, tenant: str, run_id: str) -> RunTotals | None:
        row = self._connection.execute(
            "SELECT body FROM runs WHERE tenant = ? AND run_id = ?", (tenant, run_id)
        ).fetchone()
        return _RUNS.validate_json(row[0]) if row else None

    def keep_intensity(self, event: IntensityChanged) -> bool:
        zone, told = event.zone, event.occurred_at.timestamp()
        with _written("takes no intensities"), self._transaction() as connection:
            (newest,) = connection.execute("SELECT max(told) FROM told WHERE zone = ?", (zone,)).fetchone()
            if newest is not None and newest > told:
                return False
            connection.execute(
                "INSERT OR REPLACE INTO told VALUES (?, ?, ?)", (zone, told, event.model_dump_json().encode())
            )
            connection.execute(
                "DELETE FROM told WHERE zone = ? AND told NOT IN "
                "(SELECT told FROM told WHERE zone = ? ORDER BY told DESC LIMIT ?)",
                (zone, zone, TOLD_KEPT_MAX),
            )
            connection.execute(
                "DELETE FROM told WHERE zone IN "
                "(SELECT zone FROM told GROUP BY zone ORDER BY max(told) DESC LIMIT -1 OFFSET ?)",
                (ZONES_KEPT_MAX,),
            )
        return True

    def intensities(self) -> Sequence[IntensityChanged]:
        rows = self._connection.execute("SELECT body FROM told ORDER BY told").fetchall()
        return [IntensityChanged.model_validate_json(body) for (body,) in rows]

    def _write(self, turn: Turn, fresh: Sequence[Spooled]) -> None:
        numbers = json.dumps(dict(turn.memory.sequences))
        reading = None if turn.memory.reading is None else _READINGS.dump_json(turn.memory.reading)
        runs = [
            (run.tenant, run.run_id, run.ended, run.sampled_at.timestamp(), _RUNS.dump_json(run)) for run in turn.runs
        ]
        with self._transaction() as connection:
            self._forget(connection)
            connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (numbers, reading))
            connection.executemany(
                "INSERT INTO events VALUES (?, ?)", [(spooled.position, spooled.body) for spooled in fresh]
            )
            if runs:
                connection.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)", runs)
            if any(run.ended for run in turn.runs):
                connection.execute(
                    "DELETE FROM runs WHERE ended AND (tenant, run_id) NOT IN "
                    "(SELECT tenant, run_id FROM runs ORDER BY touched DESC LIMIT ?)",
                    (RUNS_KEPT_MAX,),
                )

    def _forget(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM events WHERE position <= ?", (self._gone,))

    def _make_room(self) -> None:
        """Drop the oldest tenth, so that newer samples fit; their numbers are missing from then on, which tells of it."""
        count = min(max(1, self.waiting() // DROPPED_FRACTION), self.waiting())
        with self._transaction() as connection:
            connection.execute("DELETE FROM events WHERE position <= ?", (self._gone + count,))
        self._gone += count
        self._dropped += count

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
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
