"""The local provider's port: leases below `<data_dir>/leases`, everything slow in threads. Built by `main`."""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ergonaut.errors import Broken, NotFound, Refused
from ergonaut.ids import is_name
from ergonaut.journal import JournalEntry, read_entries
from ergonaut_orchestrator import runner
from ergonaut_orchestrator.adapters.local.folder import (
    JOURNAL_FILE,
    LEASE_FILE,
    LeaseFolder,
    LocalLimits,
    remove_folder,
)
from ergonaut_orchestrator.domain import FoundFiles, Lease, Observation, Program, StopReason
from ergonaut_orchestrator.ports import Happened

SWEEP_AGE_SECONDS = 3600.0
"""No step takes an hour, so nobody works any more on a half-made folder of that age."""


class LocalProvider:
    """Runs programs on the machine that the orchestrator is on."""

    name = "local"
    on_this_machine = True

    def __init__(self, leases_folder: Path, host: str, limits: LocalLimits) -> None:
        self._leases_folder = leases_folder.resolve()
        self._host = host
        self._limits = limits
        self._runners: list[subprocess.Popen[bytes]] = []

    async def provision(self, lease: Lease, source: bytes | None, checkpoint: BinaryIO | None = None) -> Happened:
        at = await asyncio.to_thread(self._folder(lease.lease_id).make, lease, source, checkpoint)
        return Happened(self._host, at)

    async def start(self, lease_id: str, program: Program) -> Happened:
        at = await asyncio.to_thread(self._folder(lease_id).start, program, self._spawn)
        return Happened(self._host, at)

    async def observe(self, lease_id: str) -> Observation:
        self._take_leave()
        return await asyncio.to_thread(self._folder(lease_id).observe)

    async def renew(self, lease_id: str) -> None:
        self._folder(lease_id).renew()

    async def ask_to_stop(self, lease_id: str, reason: StopReason) -> None:
        await asyncio.to_thread(self._folder(lease_id).ask_to_stop, reason)

    async def told(self, lease_id: str, offset: int) -> tuple[Sequence[JournalEntry], int]:
        return await asyncio.to_thread(read_entries, self._folder(lease_id).path / JOURNAL_FILE, offset)

    async def checkpoint(self, lease_id: str) -> BinaryIO | None:
        return await asyncio.to_thread(self._folder(lease_id).checkpoint)

    async def files(self, lease_id: str, patterns: Sequence[str]) -> FoundFiles:
        return await asyncio.to_thread(self._folder(lease_id).files, patterns)

    async def open_file(self, lease_id: str, path: str) -> BinaryIO:
        return self._open(lease_id, f"{runner.JOB_FOLDER}/{path}")

    async def open_log(self, lease_id: str, name: str) -> BinaryIO:
        if name not in {runner.STDOUT_FILE, runner.STDERR_FILE}:
            raise NotFound(f"a run has no log {name!r}")
        return self._open(lease_id, name)

    async def tear_down(self, lease_id: str) -> None:
        await asyncio.to_thread(self._folder(lease_id).tear_down)
        self._take_leave()

    async def held(self) -> Sequence[Lease]:
        return await asyncio.to_thread(self._held)

    def _folder(self, lease_id: str) -> LeaseFolder:
        if not is_name(lease_id):
            raise Refused(f"{lease_id!r} cannot be a lease", field="lease_id")
        return LeaseFolder(self._leases_folder / lease_id, self._limits)

    def _open(self, lease_id: str, path: str) -> BinaryIO:
        try:
            descriptor = os.open(self._folder(lease_id).path / path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            raise NotFound(f"{path} of {lease_id} cannot be read: {error.strerror}") from error
        return os.fdopen(descriptor, "rb")

    def _held(self) -> list[Lease]:
        self._sweep()
        held = []
        for lease_file in sorted(self._leases_folder.glob(f"[!.]*/{LEASE_FILE}")):
            with contextlib.suppress(NotFound, Broken):
                held.append(self._folder(lease_file.parent.name).lease())
        return held

    def _sweep(self) -> None:
        """Remove what a death in the middle of laying out or removing a folder has left."""
        for folder in self._leases_folder.glob(".*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime > SWEEP_AGE_SECONDS:
                    remove_folder(folder)

    def _spawn(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        """Start a runner in a session of its own, so that no signal to this service reaches it."""
        with (folder / "runner.log").open("ab") as log:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        self._runners.append(process)
        return process

    def _take_leave(self) -> None:
        """Reap runners that have ended, so that no dead process is left in the machine's table."""
        self._runners = [process for process in self._runners if process.poll() is None]
