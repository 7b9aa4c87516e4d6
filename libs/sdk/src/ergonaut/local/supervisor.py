"""The process that keeps the others running: starts them, restarts what dies, stops all in order. Started by `ergonaut up`.

python -m ergonaut.local.supervisor HOME
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO

import psutil

from ergonaut.local.home import Home, write_json
from ergonaut.local.parts import Part, parts

FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 5.0
"""Pauses between restarts of a part that dies at once, growing; a part that lived long starts over at the first."""

LIVED_LONG_SECONDS = 10.0
STOP_PATIENCE_SECONDS = 12.0
"""Longer than any service's own grace; what has not ended then is killed."""

LOG_BYTES_MAX = 16 * 1024 * 1024
"""A log that has grown beyond this when its part starts is moved aside, replacing the one moved before."""

EXIT_BAD_SETTINGS = 78
"""A part that ends so is not started again: a person must look first."""


class Keeper:
    """Keeps one part running."""

    def __init__(self, part: Part, home: Home) -> None:
        self.part = part
        self.restarts = 0
        self.state = "starting"
        self._home = home
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    def told(self) -> dict[str, object]:
        """What the state file says of the part; the start time tells a later process of the same pid apart."""
        pid = self._process.pid if self._process and self._process.returncode is None else None
        return {"pid": pid, "started_at": _started_at(pid), "restarts": self.restarts, "state": self.state}

    async def keep(self, changed: asyncio.Event) -> None:
        """Run the part for as long as nobody asks to stop."""
        pause_seconds = FIRST_PAUSE_SECONDS
        while not self._stopping:
            born = time.monotonic()
            code = await self._live(changed)
            if self._stopping or code == EXIT_BAD_SETTINGS:
                break
            if time.monotonic() - born > LIVED_LONG_SECONDS:
                pause_seconds = FIRST_PAUSE_SECONDS
            self.restarts += 1
            self.state = f"restarting after exit {code}"
            changed.set()
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, LAST_PAUSE_SECONDS)
        self.state = "stopped" if self._stopping else "failed: bad settings"
        changed.set()

    async def stop(self) -> None:
        """Ask the part to end, and make it."""
        self._stopping = True
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_PATIENCE_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _live(self, changed: asyncio.Event) -> int:
        with _open_log(self._home.log_of(self.part.name)) as log:
            # A session of its own: a Ctrl-C in the terminal must not reach the parts behind the supervisor's back.
            self._process = await asyncio.create_subprocess_exec(
                *self.part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | dict(self.part.environment),
                start_new_session=True,
            )
        self.state = "running"
        changed.set()
        return await self._process.wait()


async def supervise(home: Home) -> None:
    """Keep every part running until SIGTERM or SIGINT, then stop services first and engines last."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keepers = [Keeper(part, home) for part in parts(home, home.addresses())]
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(_tell(home, keepers, changed))
        for keeper in keepers:
            group.create_task(keeper.keep(changed))
        await stop.wait()
        for last in (False, True):
            await asyncio.gather(*(keeper.stop() for keeper in keepers if keeper.part.stops_last is last))
        telling.cancel()
    home.state_file.unlink(missing_ok=True)


async def _tell(home: Home, keepers: list[Keeper], changed: asyncio.Event) -> None:
    """Write down how the parts are whenever that changes, so that anybody can see, and a later start can clean up."""
    while True:
        state = {keeper.part.name: keeper.told() for keeper in keepers}
        write_json(home.state_file, {"supervisor": os.getpid(), "parts": state})
        await changed.wait()
        changed.clear()


def stop_leftovers(home: Home) -> None:
    """End what a supervisor that was killed has left running."""
    from ergonaut.local.control import read_state

    leftovers = []
    for told in read_state(home).get("parts", {}).values():
        with contextlib.suppress(psutil.Error, TypeError):
            process = psutil.Process(told["pid"])
            if abs(process.create_time() - told["started_at"]) < 1:
                process.terminate()
                leftovers.append(process)
    _, stubborn = psutil.wait_procs(leftovers, timeout=STOP_PATIENCE_SECONDS)
    for process in stubborn:
        process.kill()


def _started_at(pid: int | None) -> float | None:
    try:
        return float(psutil.Process(pid).create_time()) if pid else None
    except psutil.Error:
        return None


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def main() -> None:
    """Be the supervisor of the installation named on the command line; a second one leaves at once."""
    home = Home(Path(sys.argv[1]))
    lock = os.open(home.supervisor_lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"a supervisor runs already in {home.path}")
    # Children must not hold the lock when the supervisor is killed.
    os.set_inheritable(lock, False)  # noqa: FBT003
    stop_leftovers(home)
    asyncio.run(supervise(home))


if __name__ == "__main__":
    main()
