"""The host's load is read once a sample, from files that stay open however a program treats its files."""

import os
import sys
from pathlib import Path

import pytest

from ergonaut.metering import load
from ergonaut.metering.load import SHARED_SECONDS, LoadReader

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the files are Linux's")


class Proc:
    """The two files of /proc, and the clock, as the test sets them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stat = folder / "stat"
        self.meminfo = folder / "meminfo"
        self.seconds = 100.0
        self.set_busy(0)
        self.meminfo.write_text("MemTotal:  8000 kB\nMemFree:  1000 kB\nMemAvailable:  6000 kB\nBuffers: 0 kB\n")
        monkeypatch.setattr(load.time, "monotonic", lambda: self.seconds)
        self.reader = LoadReader(str(self.stat), str(self.meminfo))

    def set_busy(self, ticks: int) -> None:
        self.stat.write_text(f"cpu  {ticks} 0 0 900 0 0 0 0 0 0\ncpu0 {ticks} 0 0 900 0 0 0 0 0 0\n")


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proc:
    return Proc(tmp_path, monkeypatch)


def test_the_load_tells_work_and_memory(proc: Proc) -> None:
    proc.set_busy(5 * os.sysconf("SC_CLK_TCK"))
    told = proc.reader.read()
    assert (told.at_seconds, told.busy_cpu_seconds) == (100.0, 5.0)
    assert (told.memory_bytes, told.memory_used_bytes) == (8000 * 1024, 2000 * 1024)


def test_whoever_asks_within_one_sample_is_told_the_same(proc: Proc) -> None:
    first = proc.reader.read()
    proc.set_busy(1000)
    proc.seconds += SHARED_SECONDS / 2
    assert proc.reader.read() is first
    proc.seconds += SHARED_SECONDS
    assert proc.reader.read().busy_cpu_seconds > first.busy_cpu_seconds


def test_a_program_that_closes_all_its_files_is_metered_on(proc: Proc, tmp_path: Path) -> None:
    proc.reader.read()
    opened = proc.reader._stat._descriptor  # the file that a daemon would close
    os.close(opened)
    proc.seconds += 1
    proc.set_busy(700)
    assert proc.reader.read().busy_cpu_seconds == 700 / os.sysconf("SC_CLK_TCK")


def test_a_file_of_the_programs_own_under_the_same_number_is_neither_believed_nor_closed(
    proc: Proc, tmp_path: Path
) -> None:
    proc.reader.read()
    own = os.open(tmp_path / "own", os.O_RDWR | os.O_CREAT)
    os.write(own, b"not the kernel's")
    os.dup2(own, proc.reader._stat._descriptor)
    number = proc.reader._stat._descriptor
    proc.seconds += 1
    proc.set_busy(300)
    assert proc.reader.read().busy_cpu_seconds == 300 / os.sysconf("SC_CLK_TCK")
    assert os.pread(number, 100, 0) == b"not the kernel's"
    os.close(own)
    os.close(number)


def test_a_kernel_that_tells_no_available_memory_is_not_misread(proc: Proc) -> None:
    proc.meminfo.write_text("MemTotal:  8000 kB\nMemFree:  1000 kB\nBuffers:  10 kB\nCached: 0 kB\n")
    with pytest.raises(ValueError, match="MemAvailable"):
        proc.reader.read()
