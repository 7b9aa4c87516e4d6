"""The journal keeps whole lines whatever happens to its writer."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ergonaut.events import PowerSample, PowerSampled
from ergonaut.events.telemetry import Method, Share
from ergonaut.journal import EntryKind, JournalEntry, JournalWriter, all_entries, read_entries

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def metric(name: str, value: float) -> JournalEntry:
    return JournalEntry(kind=EntryKind.METRIC, at=NOW, name=name, value=value)


def sampled(sequence: int) -> JournalEntry:
    sample = PowerSample(
        share=Share.RUN, run_id="run-1", component="gpu", method=Method.NOT_MEASURED, source="no driver",
        started_at=NOW, ended_at=NOW,
    )  # fmt: skip
    event = PowerSampled(
        tenant="default", host="here", producer="run-1", sequence=sequence, intensity_grams_per_kwh=475,
        intensity_kind="world-average", intensity_source="nobody said", samples=(sample,),
    )  # fmt: skip
    return JournalEntry(kind=EntryKind.SAMPLE, at=NOW, sampled=event)


def test_what_was_written_is_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    written = [metric("loss", 0.5), sampled(1), JournalEntry(kind=EntryKind.PHASE, at=NOW, phase="train/epoch", step=3)]
    with JournalWriter(path) as writer:
        for entry in written:
            writer.write(entry)
    assert list(all_entries(path)) == written


def test_a_reader_goes_on_from_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with JournalWriter(path) as writer:
        writer.write(metric("a", 1))
        first, offset = read_entries(path)
        writer.write(metric("b", 2))
        second, end = read_entries(path, offset)
    assert [entry.name for entry in first + second] == ["a", "b"]
    assert read_entries(path, end) == ([], end)


def test_a_last_line_that_is_not_ended_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    line = metric("a", 1).model_dump_json(exclude_defaults=True).encode() + b"\n"
    path.write_bytes(line + line[:20])
    entries, offset = read_entries(path)
    assert (len(entries), offset) == (1, len(line))
    path.write_bytes(line + line)
    assert len(read_entries(path, offset)[0]) == 1


def test_a_torn_line_does_not_harm_what_the_next_writer_appends(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"kind":"metric","at":"2026-01-')
    with JournalWriter(path) as writer:
        writer.write(metric("after", 1))
    assert [entry.name for entry in all_entries(path)] == ["after"]


def test_a_journal_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_entries(tmp_path / "none.jsonl") == ([], 0)


def test_a_metric_that_is_no_number_is_kept_as_unknown(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with JournalWriter(path) as writer:
        writer.write(metric("loss", float("nan")))
    assert [entry.value for entry in all_entries(path)] == [None]


@pytest.mark.chaos
def test_a_killed_writer_loses_no_line_that_it_had_written(tmp_path: Path) -> None:
    path, count = tmp_path / "journal.jsonl", tmp_path / "count"
    program = f"""
from datetime import UTC, datetime
from pathlib import Path
from ergonaut.journal import EntryKind, JournalEntry, JournalWriter
writer = JournalWriter(Path({str(path)!r}))
told = open({str(count)!r}, "w", buffering=1)
for number in range(1_000_000):
    writer.write(JournalEntry(kind=EntryKind.METRIC, at=datetime.now(UTC), name="n", value=number))
    told.write(f"{{number}}\\n")
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (count.exists() and count.stat().st_size > 1000):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    told = int(count.read_text().splitlines()[-1])
    values = [entry.value for entry in all_entries(path)]
    assert values[: told + 1] == [float(number) for number in range(told + 1)]


def test_a_line_that_the_disk_took_in_part_harms_no_later_one(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "journal.jsonl"
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with JournalWriter(path) as writer:
        writer.write(metric("before", 1))
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
            for _ in range(2):
                with pytest.raises(OSError, match=r"."):
                    writer.write(metric("torn", 1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        writer.write(metric("after", 1))
    assert [entry.name for entry in all_entries(path)] == ["before", "after"]
