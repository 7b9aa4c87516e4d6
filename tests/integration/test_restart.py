"""`ergonaut down` in the middle of a job: nothing keeps running, and after `ergonaut up` the job is brought to its end."""

import os
from pathlib import Path

import psutil
import pytest
from servers import Installation, until, write_job

WORK = """
import os, sys, time
attempts = sys.argv[1]
with open(attempts, "a") as file:
    file.write(f"{os.getpid()}\\n")
if open(attempts).read().count("\\n") == 1:
    time.sleep(600)
"""


@pytest.mark.chaos
def test_a_stop_in_the_middle_of_a_job_loses_nothing(fragile: Installation, tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"
    folder = write_job(tmp_path / "job", WORK, command=["python", "work.py", str(attempts)])
    fragile.cli("submit", str(folder), "--job-id", "patient", "--no-watch")
    until(lambda: attempts.exists() and attempts.read_text().strip(), 30, "the program runs")
    processes = _processes_of(fragile, attempts)
    assert len(processes) > 9
    fragile.cli("down")
    assert not [process for process in processes if _runs(process)]
    fragile.cli("up")
    status = fragile.cli_json("watch", "patient")
    assert status["state"] == "JOB_STATE_SUCCEEDED"
    assert len(attempts.read_text().split()) == 2


def _processes_of(system: Installation, attempts: Path) -> list[psutil.Process]:
    """The supervisor, every part, and the job's own processes."""
    ours = []
    for process in psutil.process_iter():
        try:
            mentioned = " ".join(process.cmdline()) + process.environ().get("ERGONAUT_HOME", "")
        except psutil.Error:
            continue
        home = str(system.home.path)
        if process.pid != os.getpid() and (home in mentioned or str(attempts) in mentioned):
            ours.append(process)
    return ours


def _runs(process: psutil.Process) -> bool:
    """Whether it still does anything; one that waits for the machine's first process to take note of its end does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
