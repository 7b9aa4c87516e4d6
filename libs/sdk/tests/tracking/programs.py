"""What the tests of tracking share: a home of their own, and small programs that run in a process of their own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ergonaut.journal import JournalEntry, all_entries

# On every machine the same model meters, so that figures can be computed by hand: 2.76 J a CPU-second.
PREAMBLE = """
import os, signal, subprocess, sys, time
from pathlib import Path
import ergonaut
import ergonaut.tracking.meterthread as meterthread
from ergonaut.metering.cpu_model import CpuModel
meterthread.discover = lambda: [CpuModel()]
if hasattr(signal, "SIGHUP"):
    # Whoever runs the tests may have them ignore it, as nohup does, and what is ignored stays so in a child.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

def burn(cpu_seconds):
    until = time.process_time() + cpu_seconds
    while time.process_time() < until:
        pass

def nap():
    # A minute in naps: Python looks at a signal that comes just before it sleeps only when it has slept.
    until = time.monotonic() + 60
    while time.monotonic() < until:
        time.sleep(0.01)
"""
JOULES_PER_CPU_SECOND = 3.5 - 0.74


def environment_of(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ERGONAUT_", "SLURM_"))}
    return {**kept, "ERGONAUT_HOME": str(home), "ERGONAUT_TRACK_INTERVAL_SECONDS": "0.2", **more}


def start(program: str, home: Path, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-u", "-c", PREAMBLE + program],
        env=environment_of(home, **(environment or {})),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(program: str, home: Path, environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    with start(program, home, environment) as process:
        output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def journals(home: Path) -> list[Path]:
    return sorted(home.glob("runs/*/journal.jsonl"))


def only_journal(home: Path) -> list[JournalEntry]:
    (journal,) = journals(home)
    return list(all_entries(journal))
