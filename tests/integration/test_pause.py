"""A job is paused from the command line, leaves nothing running, and counts on from where it stopped; both runs are accounted."""

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nats
import nats.errors
import psutil
from servers import Installation, until, write_job

COUNT = """
import os, signal, sys, time
from pathlib import Path
import ergonaut

kept, marks = Path(os.environ["ERGONAUT_CHECKPOINT_FOLDER"]) / "step", Path(sys.argv[1])
done = int(kept.read_text()) if kept.exists() else 0
# However slow the machine, the first life lasts until somebody pauses it.
steps = done + int(sys.argv[2]) if kept.exists() else sys.maxsize
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
with ergonaut.track() as run:
    while done < steps:
        with run.phase("step", done):
            busy_until = time.process_time() + 0.1
            while time.process_time() < busy_until:
                pass
            with marks.open("a") as file:
                file.write(f"{done}\\n")
            done += 1
        if asked:
            part = kept.with_name("part")
            part.write_text(str(done))
            part.replace(kept)
            sys.exit(75)
"""
STEPS_AFTER_PAUSE = 20
PATIENCE_SECONDS = 120.0


class Counting:
    """A job that counts, and what is to be seen of it."""

    def __init__(self, system: Installation, folder: Path) -> None:
        self.system, self.folder, self.marks = system, folder, folder / "marks"
        command = ["python", "work.py", str(self.marks), str(STEPS_AFTER_PAUSE)]
        job = write_job(folder / "job", COUNT, command=command, duration_seconds_expected=60)
        self.job_id = f"job-{folder.name.replace('_', '-')}"
        system.cli("submit", str(job), "--no-watch", "--job-id", self.job_id)

    def watched(self) -> "subprocess.Popen[str]":
        """Somebody who watches the job on the command line, to its end."""
        command = [sys.executable, "-m", "ergonaut", "watch", self.job_id]
        return subprocess.Popen(command, env=self.system.environment, stdout=subprocess.PIPE, text=True)

    def status(self) -> dict[str, Any]:
        [found] = [job for job in self.system.cli_json("jobs") if job["job_id"] == self.job_id]
        return dict(found)

    def is_in(self, state: str) -> bool:
        return self.status()["state"] == f"JOB_STATE_{state}"

    def steps(self) -> list[int]:
        return [int(mark) for mark in self.marks.read_text().split()] if self.marks.exists() else []

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.marks) in process.cmdline():
                    found.append(process)
        return found

    def leases(self) -> list[Path]:
        return [*(self.system.home.data / "leases").iterdir()]


async def phases_told(system: Installation, *run_ids: str) -> list[dict[str, Any]]:
    """The phases of these runs as the orchestrator told them, each event once however often it was told."""
    password = (system.home.secrets / "nats-services.password").read_text().strip()
    connection = await nats.connect(f"nats://{system.addresses.nats}", user="services", password=password)
    spans: dict[str, list[dict[str, Any]]] = {}
    for run_id in run_ids:
        subject = f"ergonaut.v1.default.runs.phase.finished.{run_id}"
        subscription = await connection.jetstream().subscribe(subject, ordered_consumer=True)
        pending = True
        while pending:
            message = await subscription.next_msg(timeout=30)
            event = json.loads(message.data)
            spans[event["event_id"]] = event["phases"]
            pending = message.metadata.num_pending > 0
    await connection.close()
    return [span for batch in spans.values() for span in batch]


def test_a_paused_job_leaves_nothing_running_and_counts_on_from_where_it_stopped(
    system: Installation, tmp_path: Path
) -> None:
    job = Counting(system, tmp_path)
    until(lambda: len(job.steps()) >= 10, PATIENCE_SECONDS, "the job counts")
    first = job.status()["run_id"]
    watching = job.watched()

    system.cli("pause", job.job_id, "--because", "lunch")
    until(lambda: job.is_in("PAUSED"), PATIENCE_SECONDS, "the job is paused")
    assert "lunch" in job.status()["because"]
    assert "paused" in system.cli("jobs").stdout
    assert (job.processes(), job.leases()) == ([], [])
    counted = len(job.steps())
    system.cli("pause", job.job_id)
    assert job.is_in("PAUSED")

    system.cli("resume", job.job_id)
    seen, _ = watching.communicate(timeout=PATIENCE_SECONDS)
    assert [word for word in ("paused lunch", "succeeded") if word not in seen] == []
    assert job.is_in("SUCCEEDED")
    second = job.status()["run_id"]
    assert second != first
    assert counted >= 10
    assert job.steps() == list(range(counted + STEPS_AFTER_PAUSE))
    assert (job.processes(), job.leases()) == ([], [])

    told = asyncio.run(phases_told(system, first, second))
    assert [span["step"] for span in told if span["phase"] == "step"] == job.steps()
    reports = [system.cli_json("report", run_id) for run_id in (first, second)]
    assert [report["samples_missing"] for report in reports] == [0, 0]
    assert all(report["energy_joules"] > 0 for report in reports)


def test_a_paused_job_can_be_cancelled(system: Installation, tmp_path: Path) -> None:
    job = Counting(system, tmp_path)
    until(lambda: len(job.steps()) >= 3, PATIENCE_SECONDS, "the job counts")
    system.cli("pause", job.job_id)
    until(lambda: job.is_in("PAUSED"), PATIENCE_SECONDS, "the job is paused")
    system.cli("cancel", job.job_id)
    until(lambda: job.is_in("CANCELLED"), PATIENCE_SECONDS, "the job is cancelled")
    system.cli("resume", job.job_id, expect=None)
    assert (job.is_in("CANCELLED"), job.processes()) == (True, [])
