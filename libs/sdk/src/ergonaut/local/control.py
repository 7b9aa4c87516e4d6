"""What a person asks of the system on this machine: up, down, status. Used by the CLI."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ergonaut.errors import Unavailable
from ergonaut.local.home import Home
from ergonaut.local.parts import Part, ensure_addresses, ensure_plain, parts
from ergonaut.local.probes import health_of, is_on_offer
from ergonaut.local.secrets import ensure_secrets
from ergonaut.local.state import read_state, stop_leftovers

HEALTHY_TIMEOUT_SECONDS = 90.0
"""How long `up` waits: a cold start compiles and unpacks for the first time on a slow disk."""

STOP_TIMEOUT_SECONDS = 40.0
"""How long `down` waits: services have 12 s, then the engines have."""

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class PartStatus:
    """How one part is."""

    name: str
    address: str
    health: str
    """`healthy`, or what is wrong."""
    pid: int | None
    restarts: int
    log: str

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def up(home: Home, told: Callable[[list[PartStatus]], None], timeout_seconds: float = HEALTHY_TIMEOUT_SECONDS) -> None:
    """Start the system where it does not run, and wait until all of it is healthy.

    Raises Unavailable naming what is not healthy, Refused where the home cannot be written or a setting is not for here.
    """
    try:
        supervisor = _started(home)
    except OSError as error:
        raise home.refused(error) from error
    _wait_healthy(home, told, timeout_seconds, supervisor)


def down(home: Home) -> bool:
    """Stop the system; returns whether it ran. Raises Unavailable where it does not stop, Refused where the home is none."""
    pid = supervisor_pid(home)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        give_up_at = time.monotonic() + STOP_TIMEOUT_SECONDS
        while is_running(home):
            if time.monotonic() > give_up_at:
                raise Unavailable(f"the supervisor {pid} does not stop; see {home.log_of('supervisor')}")
            time.sleep(POLL_SECONDS)
    # One that was killed, now or before, has left its parts behind.
    stop_leftovers(home)
    try:
        home.state_file.unlink(missing_ok=True)
    except OSError as error:
        raise home.refused(error) from error
    return pid is not None


def status(home: Home) -> list[PartStatus]:
    """How every part is now."""
    state = read_state(home).get("parts", {})
    return [_status_of(part, state.get(part.name, {}), home) for part in parts(home, home.addresses())]


def is_running(home: Home) -> bool:
    """Whether a supervisor holds the installation's lock; the lock is gone with its process, however that ended."""
    if not home.supervisor_lock.exists():
        return False
    with home.supervisor_lock.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def supervisor_pid(home: Home) -> int | None:
    """The supervisor's process, while it runs."""
    if not is_running(home):
        return None
    written = home.supervisor_lock.read_text()
    return int(written) if written.isdecimal() else None


def _started(home: Home) -> "subprocess.Popen[bytes] | None":
    """The supervisor that was started; None where one runs."""
    home.path.mkdir(parents=True, exist_ok=True)
    ensure_secrets(home)
    if is_running(home):
        return None
    ensure_plain()
    # What a killed supervisor left holds the ports that this start wants back.
    stop_leftovers(home)
    ensure_addresses(home)
    parts(home, home.addresses())  # tells now, to the person, what is not installed
    return _start_supervisor(home)


def _start_supervisor(home: Home) -> "subprocess.Popen[bytes]":
    home.logs.mkdir(parents=True, exist_ok=True)
    home.state_file.touch()
    with home.log_of("supervisor").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ergonaut.local.supervisor", str(home.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_healthy(
    home: Home,
    told: Callable[[list[PartStatus]], None],
    timeout_seconds: float,
    supervisor: "subprocess.Popen[bytes] | None",
) -> None:
    give_up_at = time.monotonic() + timeout_seconds
    while True:
        now = status(home)
        told(now)
        ailing = [part for part in now if part.health != "healthy"]
        if not ailing and is_on_offer(home):
            return
        if supervisor is not None and supervisor.poll() is not None and not is_running(home):
            raise Unavailable(f"the supervisor ended with {supervisor.returncode}; see {home.log_of('supervisor')}")
        if time.monotonic() > give_up_at or any("bad settings" in part.health for part in ailing):
            reasons = "; ".join(f"{part.name} is {part.health}, its log is {part.log}" for part in ailing)
            raise Unavailable(
                f"not healthy: {reasons or 'pricing does not offer this machine; see its log and telemetry'}"
            )
        time.sleep(POLL_SECONDS)


def _status_of(part: Part, told: dict[str, Any], home: Home) -> PartStatus:
    kept = str(told.get("state", "not started"))
    health = health_of(part) if kept == "running" else kept
    restarts = int(told.get("restarts", 0))
    return PartStatus(part.name, part.address, health, told.get("pid"), restarts, str(home.log_of(part.name)))
