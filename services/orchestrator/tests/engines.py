"""The orchestrator's process on real engines, which can be killed and started again: for the tests of the whole process."""

import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from stand_in import Scheduler, scheduling
from temporalio.client import Client, WorkflowHandle
from worlds import archive_of, candidate

from ergonaut.ids import new_id
from ergonaut.jobs import Plan, source_digest
from ergonaut.workflows import PROGRESS_QUERY, RUN_JOB, RUNS_TASK_QUEUE, JobProgress, JobStep, RunJobResult
from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.temporal import connect_temporal
from ergonaut_common.testing import ServiceProcess, free_port, key_ring_file, nats_server, temporal_server

TRAIN = b"""
import os, sys, time
from pathlib import Path
from ergonaut.journal import EntryKind, JournalEntry, JournalWriter
from datetime import UTC, datetime
marks = Path(sys.argv[1])
with marks.open("a") as file:
    file.write("begun\\n")
with JournalWriter(Path(os.environ["ERGONAUT_JOURNAL"])) as journal:
    journal.write(JournalEntry(kind=EntryKind.PHASE, at=datetime.now(UTC), phase="train"))
    for step in range(int(float(sys.argv[2]) * 10)):
        time.sleep(0.1)
        journal.write(JournalEntry(kind=EntryKind.METRIC, at=datetime.now(UTC), name="step", value=step))
Path("model.onnx").write_bytes(b"model")
with marks.open("a") as file:
    file.write("ended\\n")
"""
HEARTBEAT_TIMEOUT_SECONDS = 5
"""Each kill of the process is waited out for as long. Two beats fit into it on a machine that runs other tests beside."""

SOURCE = archive_of({"train.py": TRAIN})


class Engine:
    """A server that can be killed and started again where it was."""

    def __init__(self, start: Callable[[], AbstractContextManager[str]]) -> None:
        self._start = start
        self._stack = contextlib.ExitStack()
        self.address = ""
        self.start()

    def start(self) -> None:
        self.address = self._stack.enter_context(self._start())

    def kill(self) -> None:
        self._stack.close()


@dataclass
class Engines:
    """The orchestrator's process and the servers around it."""

    folder: Path
    process: ServiceProcess
    client: Client
    bus: Bus
    nats: Engine
    temporal: Engine

    async def begin(self, seconds: float, **changes: Any) -> WorkflowHandle[Any, RunJobResult]:
        command = ["python", "train.py", str(self.folder / "marks"), str(seconds)]
        job = {"name": "train", "command": command, "source": source_digest(SOURCE), "artifacts": ["*.onnx"]}
        job |= {"duration_seconds_expected": 10} | changes
        workflow_id = f"job/default/{new_id('job')}"
        return await self.client.start_workflow(
            RUN_JOB, {"job": job}, id=workflow_id, task_queue=RUNS_TASK_QUEUE, result_type=RunJobResult
        )

    async def told(self) -> list[dict[str, Any]]:
        """Every event of runs and leases, in the order of their streams, progress left out."""
        told = []
        for stream in ("ERGONAUT_RUNS", "ERGONAUT_LEASES"):
            last = (await self.bus.jetstream.stream_info(stream)).state.last_seq
            for sequence in range(1, last + 1):
                message = await self.bus.jetstream.get_msg(stream, sequence)
                kind = str(message.subject).split(".", 3)[3].rpartition(".")[0]
                told.append({"kind": kind} | json.loads(message.data or b"{}"))
        return told

    async def kinds(self) -> list[str]:
        return [event["kind"] for event in await self.told() if event["kind"] != "runs.run.progressed"]

    async def kinds_of(self, stream: str) -> list[str]:
        """The kinds of all that a stream holds, in its order."""
        last = (await self.bus.jetstream.stream_info(stream)).state.last_seq
        messages = [await self.bus.jetstream.get_msg(stream, sequence) for sequence in range(1, last + 1)]
        return [str(message.subject).split(".", 3)[3].rpartition(".")[0] for message in messages]

    def marks(self) -> list[str]:
        marks = self.folder / "marks"
        return marks.read_text().split() if marks.exists() else []

    def leases(self) -> list[Path]:
        folder = self.folder / "data" / "leases"
        return list(folder.iterdir()) if folder.exists() else []


@asynccontextmanager
async def running_engines(tmp_path: Path) -> AsyncIterator[Engines]:
    """All of them, and the process not yet started."""
    key_ring = key_ring_file(tmp_path)
    async with AsyncExitStack() as stack:
        (tmp_path / "nats").mkdir()
        nats_port, temporal_port = free_port(), free_port()
        nats = Engine(lambda: nats_server(tmp_path / "nats", nats_port))
        stack.callback(nats.kill)
        temporal = Engine(lambda: temporal_server(tmp_path, temporal_port))
        stack.callback(temporal.kill)
        scheduler = Scheduler(lambda: Plan(chosen=candidate(), weighed=1))
        scheduler_address = await stack.enter_async_context(scheduling(scheduler, KeyRing.load(key_ring[0])))
        platform = PlatformSettings(nats_url=nats.address, temporal_address=temporal.address)
        bus = await stack.enter_async_context(open_bus(platform, "test"))
        await bus.ensure_streams("runs", "leases")
        await (await bus.object_store("sources-default")).put(source_digest(SOURCE), SOURCE)
        settings = {
            "ERGONAUT_NATS_URL": nats.address,
            "ERGONAUT_TEMPORAL_ADDRESS": temporal.address,
            "ERGONAUT_SCHEDULER_ADDRESS": scheduler_address,
            "ERGONAUT_ORCHESTRATOR_STOP_GRACE_SECONDS": "1",
            "ERGONAUT_ORCHESTRATOR_HEARTBEAT_TIMEOUT_SECONDS": f"{HEARTBEAT_TIMEOUT_SECONDS}",
        }
        inherited = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        process = ServiceProcess("orchestrator", tmp_path, settings, key_ring=key_ring, inherited=inherited)
        made = Engines(tmp_path, process, await connect_temporal(platform), bus, nats, temporal)
        stack.callback(_kill_all, made)
        yield made


def _kill_all(engines: Engines) -> None:
    engines.process.kill()
    for status in engines.folder.glob("data/leases/*/status.json"):
        with contextlib.suppress(psutil.Error):
            psutil.Process(json.loads(status.read_text())["runner_pid"]).terminate()


def in_step(handle: WorkflowHandle[Any, RunJobResult], step: JobStep) -> Any:
    async def so() -> bool:
        return (await handle.query(PROGRESS_QUERY, result_type=JobProgress)).step is step

    return so


def processes_in(folder: Path) -> list[psutil.Process]:
    """Runners and programs whose leases are below a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd().startswith(str(folder / "data")):
                found.append(process)
    return found
