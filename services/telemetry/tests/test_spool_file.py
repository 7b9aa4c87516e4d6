"""What only the spool on disk must survive: being killed, being opened twice, and a disk that is full or damaged."""

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ergonaut.errors import Broken, Conflict, Unavailable
from ergonaut.events import IntensityChanged
from ergonaut_telemetry.adapters.sqlite_spool import open_spool
from ergonaut_telemetry.domain import Memory, Terms, account
from ergonaut_telemetry.fakes import FakeMeters

BYTES_MAX = 64 * 1024 * 1024
BOOT_ID = "boot-1"

WRITER = """
import sys
from pathlib import Path
from ergonaut_telemetry.adapters.sqlite_spool import open_spool
from ergonaut_telemetry.domain import Memory, Terms, account
from ergonaut_telemetry.fakes import FakeMeters

meters = FakeMeters()
with open_spool(Path(sys.argv[1]), bytes_max=64 * 1024 * 1024, boot_id="boot-1") as spool:
    memory = spool.remembered()
    while True:
        meters.pass_time(1.0, others=0.5)
        turn = account(memory, meters.read(), Terms(host="host-1", producer=spool.producer), {})
        spool.record(turn)
        memory = turn.memory
        if turn.events:
            print(turn.events[-1].sequence, flush=True)
"""


def killed_mid_write(path: Path, *, after: int) -> int:
    """Run a writer without pause until it has told this many numbers, kill it, and return the last that it told."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(after):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        rest = [line for line in writer.stdout if line.endswith("\n")]
        writer.wait()
    return int(rest[-1]) if rest else after


@pytest.mark.parametrize("after", [1, 57, 400])
def test_a_writer_that_is_killed_leaves_every_recorded_event_and_the_state_that_belongs_to_it(
    tmp_path: Path, after: int
) -> None:
    told = killed_mid_write(tmp_path / "spool.db", after=after)

    with open_spool(tmp_path / "spool.db", bytes_max=BYTES_MAX, boot_id=BOOT_ID) as spool:
        memory, events = spool.remembered(), [spooled.event for spooled in spool.oldest(100_000)]

    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    # The writer may have been killed after a commit and before it could say so, never the other way round.
    assert len(events) in (told, told + 1)
    assert memory.sequences == {"default": len(events)}
    assert memory.reading is not None
    assert memory.reading.at == events[-1].samples[0].ended_at


def test_a_spool_that_another_agent_has_is_refused_and_free_again_when_that_is_gone(tmp_path: Path) -> None:
    with (
        open_spool(tmp_path / "spool.db", bytes_max=BYTES_MAX, boot_id=BOOT_ID),
        pytest.raises(Conflict, match="in use by another agent"),
        open_spool(tmp_path / "spool.db", bytes_max=BYTES_MAX, boot_id=BOOT_ID),
    ):
        pass
    with open_spool(tmp_path / "spool.db", bytes_max=BYTES_MAX, boot_id=BOOT_ID) as spool:
        assert spool.waiting() == 0


def test_after_a_boot_no_number_is_given_out_again_that_a_loss_of_power_may_have_taken(
    tmp_path: Path, meters: FakeMeters, terms: Terms
) -> None:
    path = tmp_path / "spool.db"
    with open_spool(path, bytes_max=BYTES_MAX, boot_id=BOOT_ID) as spool:
        producer, memory = spool.producer, spool.remembered()
        for _ in range(2):
            meters.pass_time(1.0)
            turn = account(memory, meters.read(), terms, {})
            spool.record(turn)
            memory = turn.memory

    with open_spool(path, bytes_max=BYTES_MAX, boot_id="boot-2") as spool:
        assert spool.producer != producer
        assert (spool.remembered().sequences, spool.remembered().reading) == ({}, None)
        assert [spooled.event for spooled in spool.oldest(10)] == [*turn.events], "what waits goes on as it was"
        again = spool.producer
    with open_spool(path, bytes_max=BYTES_MAX, boot_id="boot-2") as spool:
        assert spool.producer == again


def test_a_damaged_spool_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"not a database, and long enough to be taken for none" * 100)

    with (
        pytest.raises(Broken, match=r"spool\.db is damaged"),
        open_spool(tmp_path / "spool.db", bytes_max=BYTES_MAX, boot_id=BOOT_ID),
    ):
        pass


def test_a_disk_that_takes_nothing_leaves_the_state_as_it_was(tmp_path: Path, meters: FakeMeters, terms: Terms) -> None:
    meters.pass_time(1.0)
    with open_spool(tmp_path / "spool.db", bytes_max=1024 * 1024, boot_id=BOOT_ID) as spool:
        before = account(spool.remembered(), meters.read(), terms, {})
        spool.record(before)
        meters.pass_time(1.0)
        turn = account(before.memory, meters.read(), terms, {})
        huge = turn.events[0].model_copy(update={"intensity_source": "x" * 2 * 1024 * 1024})

        with pytest.raises(Unavailable, match="takes no sample"):
            spool.record(type(turn)(turn.memory, turn.host, (huge,), turn.runs))

        assert spool.remembered() == before.memory
        spool.record(turn)
        assert spool.remembered() == turn.memory


def test_the_spool_stays_within_its_bytes(tmp_path: Path, meters: FakeMeters, terms: Terms) -> None:
    path = tmp_path / "spool.db"
    with open_spool(path, bytes_max=1024 * 1024, boot_id=BOOT_ID) as spool:
        memory = spool.remembered()
        for _ in range(3_000):
            meters.pass_time(1.0)
            turn = account(memory, meters.read(), terms, {})
            spool.record(turn)
            memory = turn.memory
        assert spool.dropped() > 0
    assert path.stat().st_size <= 1024 * 1024


@contextmanager
def disk_taking_nothing() -> Iterator[None]:
    """No file of this process can be written to while the block runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_every_write_to_a_disk_that_takes_nothing_says_so_and_changes_nothing(
    tmp_path: Path, meters: FakeMeters, terms: Terms, make_intensity: Callable[..., IntensityChanged]
) -> None:
    with open_spool(tmp_path / "spool.db", bytes_max=BYTES_MAX, boot_id=BOOT_ID) as spool:
        memory = spool.remembered()
        for _ in range(2):
            meters.pass_time(1.0)
            turn = account(memory, meters.read(), terms, {})
            spool.record(turn)
            memory = turn.memory
        waiting = spool.oldest(10)

        with disk_taking_nothing():
            with pytest.raises(Unavailable, match="takes no sample"):
                spool.record(turn)
            with pytest.raises(Unavailable, match="takes no intensities"):
                spool.keep_intensity(make_intensity())

        assert (spool.oldest(10), spool.intensities(), spool.waiting()) == (waiting, [], 1)
        spool.sent(waiting[-1].position)
        assert spool.waiting() == 0


def test_what_was_sent_and_not_yet_forgotten_on_disk_is_sent_again_by_the_next_life(
    tmp_path: Path, meters: FakeMeters, terms: Terms
) -> None:
    folder, copy = tmp_path / "spool", tmp_path / "as-killed"
    with open_spool(folder / "spool.db", bytes_max=BYTES_MAX, boot_id=BOOT_ID) as spool:
        memory = spool.remembered()
        for _ in range(4):
            meters.pass_time(1.0)
            turn = account(memory, meters.read(), terms, {})
            spool.record(turn)
            memory = turn.memory
        spool.sent(spool.oldest(2)[-1].position)
        shutil.copytree(folder, copy)
        meters.pass_time(1.0)
        spool.record(account(memory, meters.read(), terms, {}))
        waiting = [spooled.event.sequence for spooled in spool.oldest(10)]
    with open_spool(copy / "spool.db", bytes_max=BYTES_MAX, boot_id=BOOT_ID) as spool:
        again = [spooled.event.sequence for spooled in spool.oldest(10)]

    assert waiting == [3, 4]
    assert again == [1, 2, 3]


def test_a_spool_of_the_version_before_goes_on_with_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(
            "CREATE TABLE identity (only INTEGER PRIMARY KEY CHECK (only = 1), producer TEXT NOT NULL);"
            "CREATE TABLE reading (only INTEGER PRIMARY KEY CHECK (only = 1), body BLOB NOT NULL);"
            "CREATE TABLE numbers (tenant TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;"
            "INSERT INTO identity VALUES (1, 'agent-old'); INSERT INTO numbers VALUES ('default', 41), ('acme', 7);"
        )
    for _ in range(2):
        with open_spool(path, bytes_max=BYTES_MAX, boot_id=BOOT_ID) as spool:
            assert spool.producer == "agent-old"
            assert spool.remembered() == Memory(sequences={"default": 41, "acme": 7})


def test_a_place_that_can_hold_no_spool_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    (tmp_path / "folder").mkdir()

    for path in (tmp_path / "file" / "spool.db", tmp_path / "folder"):
        with (
            pytest.raises(Unavailable, match=f"{path} cannot be opened"),
            open_spool(path, bytes_max=BYTES_MAX, boot_id=BOOT_ID),
        ):
            pass


def test_what_a_spool_of_an_earlier_form_was_told_is_still_known(
    tmp_path: Path, make_intensity: Callable[..., IntensityChanged]
) -> None:
    told = make_intensity()
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.db")) as old:
        old.execute("CREATE TABLE intensities (zone TEXT PRIMARY KEY, told REAL NOT NULL, body BLOB NOT NULL)")
        values = (told.zone, told.occurred_at.timestamp(), told.model_dump_json().encode())
        old.execute("INSERT INTO intensities VALUES (?, ?, ?)", values)
        old.commit()

    for _ in range(2):
        with open_spool(tmp_path / "spool.db", bytes_max=BYTES_MAX, boot_id=BOOT_ID) as spool:
            assert spool.intensities() == [told]
