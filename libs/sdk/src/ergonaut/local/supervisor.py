"""The process that keeps the others running: starts them, restarts what dies, stops all in order. Started by `ergonaut up`.

python -m ergonaut.local.supervisor HOME
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import IO

import psutil

from ergonaut.local.home import Home, write_json
from ergonaut.local.parts import Part, parts
from ergonaut.local.secrets import write_nats_config
from ergonaut.local.state import STOP_PATIENCE_SECONDS, stop_leftovers

FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 5.0
"""Pauses between restarts of a part that dies at once, growing; a part that lived long starts over at the first."""

LIVED_LONG_SECONDS = 10.0
LOG_BYTES_MAX = 16 * 1024 * 1024
"""A log that has grown beyond this is moved aside, replacing the one moved before."""

LOG_CHECK_SECONDS = 60.0
LOCK_PATIENCE_SECONDS = 2.0
"""Whoever asks whether a supervisor runs touches the lock for a moment; that must not turn a new one away."""

HOME_LOOK_SECONDS = 5.0
"""How often the supervisor looks whether its installation is still there."""

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
            self.state = f"restarting after {code}" if isinstance(code, OSError) else f"restarting after exit {code}"
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

    async def _live(self, changed: asyncio.Event) -> int | OSError:
        """Start the part and wait for its end; gives its exit code, or why it could not be started."""
        try:
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
        except OSError as error:
            return error
        if self._stopping:
            # The stop came while the program was being started and so did not meet it.
            await self.stop()
        self.state = "running"
        changed.set()
        return await self._process.wait()


async def supervise(home: Home) -> None:
    """Keep every part running until SIGTERM or SIGINT, then stop services first and engines last."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    addresses = home.addresses()
    write_nats_config(home, addresses.nats)
    (home.data / "temporal").mkdir(parents=True, exist_ok=True)
    keepers = [Keeper(part, home) for part in parts(home, addresses)]
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        beside = [
            group.create_task(_tell(home, keepers, changed)),
            group.create_task(_keep_logs_small([home.log_of(keeper.part.name) for keeper in keepers])),
            group.create_task(_stop_without_home(home, stop)),
        ]
        for keeper in keepers:
            group.create_task(keeper.keep(changed))
        await stop.wait()
        for last in (False, True):
            await asyncio.gather(*(keeper.stop() for keeper in keepers if keeper.part.stops_last is last))
        for task in beside:
            task.cancel()
    home.state_file.unlink(missing_ok=True)


async def _stop_without_home(home: Home, stop: asyncio.Event) -> None:
    """Ask to stop when the installation's folder was removed: nobody could stop these processes any more."""
    while home.supervisor_lock.exists():  # noqa: ASYNC110 - no event tells of the end of a folder
        await asyncio.sleep(HOME_LOOK_SECONDS)
    stop.set()


async def _tell(home: Home, keepers: list[Keeper], changed: asyncio.Event) -> None:
    """Write down how the parts are whenever that changes, so that anybody can see, and a later start can clean up."""
    while True:
        state = {keeper.part.name: keeper.told() for keeper in keepers}
        try:
            write_json(home.state_file, {"supervisor": os.getpid(), "parts": state})
        except OSError as error:
            # A full disk must not end the supervisor, and with it everything.
            print(f"the state cannot be written: {error}", file=sys.stderr, flush=True)  # noqa: T201 - this is its log
        await changed.wait()
        changed.clear()


async def _keep_logs_small(logs: list[Path]) -> None:
    while True:
        await asyncio.sleep(LOG_CHECK_SECONDS)
        for log in logs:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(move_aside, log)


def move_aside(log: Path) -> None:
    """Copy a log that has grown too large, then empty it; its writer appends, so it goes on at the new end."""
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def _started_at(pid: int | None) -> float | None:
    try:
        return float(psutil.Process(pid).create_time()) if pid else None
    except psutil.Error:
        return None


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    move_aside(path)
    return path.open("ab")


def main() -> None:
    """Be the supervisor of the installation named on the command line; a second one leaves at once."""
    home = Home(Path(sys.argv[1]))
    # Not inherited by children, which must not hold the lock when the supervisor is killed.
    lock = os.open(home.supervisor_lock, os.O_RDWR | os.O_CREAT, 0o600)
    if not locked(lock, LOCK_PATIENCE_SECONDS):
        sys.exit(f"a supervisor runs already in {home.path}")
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    stop_leftovers(home)
    asyncio.run(supervise(home))


def locked(lock: int, patience_seconds: float) -> bool:
    """Take the lock, and say whether that succeeded in time."""
    give_up_at = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                return False
            time.sleep(0.02)
        else:
            return True


if __name__ == "__main__":
    main()
